"""What works with what, found by trying it: every verb with every form, kind of rows and way to run it."""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxgmm

from cases import CASES, KINDS, STUDENTS, WITH_NOISE, Case

KEY = jax.random.key(0)
N = 40


def _product() -> jaxgmm.Mixture:
    gaussian = jaxgmm.Gaussian(jnp.array([[0.0], [4.0], [-4.0]]), jaxgmm.Each(jaxgmm.Tril(jnp.ones((3, 1, 1)))))
    names = jaxgmm.Categorical(jnp.log(jnp.array([[[0.7, 0.2, 0.1]], [[0.1, 0.8, 0.1]], [[0.2, 0.1, 0.7]]])))
    return jaxgmm.Mixture(jnp.log(jnp.array([0.3, 0.3, 0.4])), jaxgmm.Product((gaussian, names), ((0,), (1,))))


# Of what a table may hold, a number and a name.
PRODUCT = Case("product", _product, {"form": jaxgmm.Product.form({0: "full", 1: jaxgmm.Categorical.form(3)})})
OF_EACH_FAMILY = [CASES[0], STUDENTS[0], WITH_NOISE, CASES[-1], PRODUCT]
# Those that are left out are made of the same parts.
_LEFT_OUT = ("tied-diag", "tied-spherical", "EVV", "VEV")
_OF_KINDS = ("poisson", "categorical", "multinomial", "von mises")
FORMS = [
    *(case for case in CASES[:-1] if case.name not in _LEFT_OUT),
    WITH_NOISE,
    *(case for case in KINDS if case.name in _OF_KINDS),
    PRODUCT,
]
SHORT: dict[str, Any] = {"n_restarts": 1, "max_iter": 2}
BRIEF: dict[str, Any] = {**SHORT, "n_finalists": 1, "history_size": 4}


def plain(x: Any) -> Any:
    return x


def weighted(x: Any) -> Any:
    return jaxgmm.rows(x, jnp.linspace(0, 2, N))


def labelled(x: Any) -> Any:
    return jaxgmm.rows(x, labels=jnp.where(jnp.arange(N) < 6, jnp.arange(N) % 3, -1))


def with_gaps(x: Any) -> Any:
    return jaxgmm.rows(x, missing=(jnp.arange(2 * N) % 7 == 0).reshape(N, 2))


def noisy(x: Any) -> Any:
    return jaxgmm.rows(x, noise=jnp.linspace(0, 2, 2 * N).reshape(N, 2))


def with_evidence(x: Any) -> Any:
    return jaxgmm.rows(x, log_evidence=-jnp.linspace(0, 2, 3 * N).reshape(N, 3))


def all_of_it(x: Any) -> Any:
    return jaxgmm.rows(
        x,
        jnp.linspace(0, 2, N),
        missing=(jnp.arange(2 * N) % 7 == 0).reshape(N, 2),
        noise=jnp.linspace(0, 2, N)[:, None, None] * jnp.array([[1.0, 0.5], [0.5, 1.0]]),
        labels=jnp.where(jnp.arange(N) < 6, jnp.arange(N) % 3, -1),
        log_evidence=-jnp.linspace(0, 2, 3 * N).reshape(N, 3),
    )


ROWS: dict[str, Callable[[Any], Any]] = {
    "plain": plain,
    "weights": weighted,
    "labels": labelled,
    "gaps": with_gaps,
    "noise": noisy,
    "log_evidence": with_evidence,
    "all of it": all_of_it,
}


def traced(verb: Callable[..., Any]) -> Callable[[Case, Any], Any]:
    """A verb of a mixture and rows, traced and not run: what its values are is for the laws."""
    return lambda case, rows: jax.eval_shape(verb, case.mixture(), rows(jnp.asarray(case.data(N))))


def hosted(verb: Callable[..., Any]) -> Callable[[Case, Any], Any]:
    """A verb that drives programs from Python, which is run."""
    return lambda case, rows: verb(case, rows(jnp.asarray(case.data(N))))


def file(mixture: Any, rows: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        jaxgmm.save(os.path.join(folder, "mixture.npz"), mixture)


def sklearn(mixture: Any, rows: Any) -> None:
    from jaxgmm.sklearn import to_sklearn

    to_sklearn(mixture)


OF_ROWS: dict[str, Callable[[Case, Any], Any]] = {
    "log_prob": traced(lambda mixture, rows: mixture.log_prob(rows)),
    "responsibilities": traced(lambda mixture, rows: mixture.responsibilities(rows)),
    "predict": traced(lambda mixture, rows: mixture.predict(rows)),
    "entropy": traced(lambda mixture, rows: mixture.entropy(rows)),
    "impute": traced(jaxgmm.impute),
    "denoise": traced(jaxgmm.denoise),
    "shrunk": traced(jaxgmm.shrunk),
    "sample_missing": traced(lambda mixture, rows: jaxgmm.sample_missing(KEY, mixture, rows)),
    "log_likelihood": traced(jaxgmm.log_likelihood),
    "its derivative": traced(jax.grad(jaxgmm.log_likelihood)),
    "e_step": traced(jaxgmm.e_step),
    "init": lambda case, rows: jax.eval_shape(lambda x: case.init(KEY, rows(x)), jnp.asarray(case.data(N))),
    "fit": traced(jaxgmm.fit),
    "fit_batches": hosted(lambda case, rows: jaxgmm.fit_batches(case.mixture(), rows, max_iter=2)),
    "fit_online": hosted(lambda case, rows: jaxgmm.fit_online(case.mixture(), rows)),
    "derivative of a fit": traced(
        lambda mixture, rows: jax.grad(lambda x: jaxgmm.fit(mixture, rows_of(x, rows)).log_likelihood)(values_of(rows))
    ),
    "fit_gradient": traced(lambda mixture, rows: jaxgmm.fit_gradient(mixture, rows, adam(), n_steps=2)),
    "fit_restarts": lambda case, rows: jax.eval_shape(
        lambda x: jaxgmm.fit_restarts(KEY, rows(x), 3, **case.options, **BRIEF), jnp.asarray(case.data(N))
    ),
    "fit_many": hosted(lambda case, rows: jaxgmm.fit_many(KEY, together(rows), 3, **case.options, **BRIEF)),
    "select_components": lambda case, rows: jax.eval_shape(
        lambda x: jaxgmm.select_components(KEY, rows(x), [2, 3], **case.options, **SHORT), jnp.asarray(case.data(N))
    ),
    "select_many": hosted(
        lambda case, rows: jaxgmm.select_many(KEY, together(rows), [3], case.options["form"], outliers="keep", **SHORT)
    ),
    "select": hosted(lambda case, rows: chosen(jaxgmm.select(KEY, rows, [3], [case.options["form"]], **BRIEF))),
    "select by cross-validation": hosted(
        lambda case, rows: chosen(
            jaxgmm.select(KEY, rows, [3], [case.options["form"]], criterion="cv", n_folds=2, **BRIEF)
        )
    ),
    "aic, bic, icl": traced(lambda mixture, rows: (jaxgmm.bic(mixture, rows), jaxgmm.icl(mixture, rows))),
    "stability": hosted(lambda case, rows: jaxgmm.stability(KEY, rows, 3, **case.options, n_repeats=2, **BRIEF)),
    "bootstrap": hosted(
        lambda case, rows: jaxgmm.bootstrap(KEY, rows, case.mixture(), n_bootstrap=2, max_iter=2, method="weighted")
    ),
    "likelihood_ratio_test": hosted(
        lambda case, rows: jaxgmm.likelihood_ratio_test(KEY, rows, 2, **case.options, n_bootstrap=2, **BRIEF)
    ),
}
"""Verbs that take rows."""

OF_MIXTURES: dict[str, Callable[[Case, Any], Any]] = {
    "sample": traced(lambda mixture, rows: mixture.sample(KEY, 5)),
    "unconstrain": traced(lambda mixture, rows: mixture.unconstrain().constrain()),
    "marginal": traced(lambda mixture, rows: mixture.marginal([1])),
    "condition": traced(lambda mixture, rows: mixture.condition([0], jnp.ones(1))),
    "affine": traced(lambda mixture, rows: mixture.affine(jnp.ones((1, mixture.n_columns)))),
    "projection": traced(lambda mixture, rows: jaxgmm.projection(mixture, 1)),
    "product": traced(lambda mixture, rows: jaxgmm.product(mixture, mixture)),
    "kl_divergence": traced(lambda mixture, rows: jaxgmm.kl_divergence(KEY, mixture, mixture, 10)),
    "kl_bounds": traced(lambda mixture, rows: jaxgmm.kl_bounds(mixture, mixture)),
    "entropy_bounds": traced(lambda mixture, rows: jaxgmm.entropy_bounds(mixture)),
    "l2_distance": traced(lambda mixture, rows: jaxgmm.l2_distance(mixture, mixture)),
    "bures_distance": traced(lambda mixture, rows: jaxgmm.bures_distance(mixture, mixture)),
    "mixture_wasserstein": hosted(lambda case, rows: jaxgmm.mixture_wasserstein(case.mixture(), case.mixture())),
    "align": hosted(lambda case, rows: jaxgmm.align(case.mixture(), case.mixture())),
    "save": hosted(lambda case, rows: file(case.mixture(), rows)),
    "to_numpyro": hosted(lambda case, rows: jaxgmm.to_numpyro(case.mixture())),
    "to_scipy": hosted(lambda case, rows: jaxgmm.to_scipy(case.mixture())),
    "to_sklearn": hosted(lambda case, rows: sklearn(case.mixture(), rows)),
}
"""Verbs that take mixtures alone."""


@functools.cache
def adam() -> Any:
    import optax

    return optax.adam(0.01)


def values_of(rows: Any) -> Any:
    return getattr(rows, "x", rows)


def rows_of(x: Any, like: Any) -> Any:
    """The same with other numbers."""
    return x if like is values_of(like) else dataclasses.replace(like, x=x)


def together(rows: Any) -> Any:
    """A stack of one data set."""
    return rows[None] if rows is values_of(rows) else [rows]


def chosen(selection: jaxgmm.Selection) -> Any:
    """What a candidate that failed says, as it would say it alone."""
    if selection.candidates[0].error:
        raise RuntimeError(selection.candidates[0].error)
    return selection


def tried(verb: Callable[[Case, Any], Any], case: Case, rows: Callable[[Any], Any]) -> str:
    """ "" where it works, else what `NotImplementedError` says. Any other error is a fault, and not caught."""
    try:
        verb(case, rows)
    except NotImplementedError as error:
        return str(error)
    return ""


def by_form() -> dict[str, dict[str, str]]:
    """Every verb with every form."""
    return {
        name: {case.name: tried(verb, case, plain) for case in FORMS} for name, verb in (OF_ROWS | OF_MIXTURES).items()
    }


def by_rows() -> dict[str, dict[str, str]]:
    """Every verb of rows with every kind of them."""
    return {name: {kind: tried(verb, CASES[0], rows) for kind, rows in ROWS.items()} for name, verb in OF_ROWS.items()}


OBJECTIVES: dict[str, Any] = {
    "Posterior": jaxgmm.Posterior(),
    "Variational": jaxgmm.Variational(),
    "Frozen": jaxgmm.Frozen(weights="equal"),
}
"""What may be climbed beside the likelihood, which the other tables are of."""
CLIMBING: dict[str, Callable[[Case, Any], Any]] = {
    "fit": lambda case, objective: jax.eval_shape(
        lambda mixture, x: jaxgmm.fit(mixture, x, objective=objective), case.mixture(), jnp.asarray(case.data(N))
    ),
    "fit_batches": lambda case, objective: jaxgmm.fit_batches(
        case.mixture(), case.data(N), objective=objective, max_iter=2
    ),
    "fit_online": lambda case, objective: jaxgmm.fit_online(case.mixture(), case.data(N), objective=objective),
    "derivative of a fit": lambda case, objective: jax.eval_shape(
        jax.grad(lambda x: jaxgmm.fit(case.mixture(), x, objective=objective).objective), jnp.asarray(case.data(N))
    ),
    "fit_restarts": lambda case, objective: jax.eval_shape(
        lambda x: jaxgmm.fit_restarts(KEY, x, 3, **case.options, **BRIEF, objective=objective),
        jnp.asarray(case.data(N)),
    ),
    "fit_many": lambda case, objective: jaxgmm.fit_many(
        KEY, case.data(N)[None], 3, **case.options, **BRIEF, objective=objective
    ),
    "select_components": lambda case, objective: jax.eval_shape(
        lambda x: jaxgmm.select_components(KEY, x, [2, 3], **case.options, **SHORT, objective=objective),
        jnp.asarray(case.data(N)),
    ),
    "select_many": lambda case, objective: jaxgmm.select_many(
        KEY, case.data(N)[None], [3], case.options["form"], outliers="keep", **SHORT, objective=objective
    ),
    "select": lambda case, objective: chosen(
        jaxgmm.select(KEY, case.data(N), [3], [case.options["form"]], **BRIEF, objective=objective)
    ),
    "stability": lambda case, objective: jaxgmm.stability(
        KEY, case.data(N), 3, **case.options, n_repeats=2, **BRIEF, objective=objective
    ),
    "bootstrap": lambda case, objective: jaxgmm.bootstrap(
        KEY, case.data(N), case.mixture(), n_bootstrap=2, max_iter=2, objective=objective
    ),
}
"""Verbs that climb."""


def by_objective() -> dict[str, dict[str, str]]:
    """Every verb that climbs with everything it may climb, and with kinds of components."""

    def outcome(verb: Callable[[Case, Any], Any], case: Case, objective: Any) -> str:
        try:
            verb(case, objective)
        except NotImplementedError as error:
            return str(error)
        return ""

    return {
        name: {
            f"{case.name}, {what}": outcome(verb, case, objective)
            for case in OF_EACH_FAMILY
            for what, objective in OBJECTIVES.items()
        }
        for name, verb in CLIMBING.items()
    }


def ways() -> dict[str, dict[str, str]]:
    """Whether verbs of rows may stand under transformations of JAX."""
    case = CASES[0]
    mixture, x = case.mixture(), jnp.asarray(case.data(N))
    of = {
        "log_prob": lambda mixture, x: mixture.log_prob(x),
        "log_likelihood": jaxgmm.log_likelihood,
        "init": lambda mixture, x: case.init(KEY, x).means,
        "fit": lambda mixture, x: jaxgmm.fit(mixture, x).mixture.means,
        "fit_restarts": lambda mixture, x: jaxgmm.fit_restarts(KEY, x, 3, **BRIEF).best.mixture.means,
        "select_components": lambda mixture, x: jaxgmm.select_components(KEY, x, [2, 3], **SHORT).best.mixture.means,
    }
    under = {
        "jit": lambda verb: jax.jit(verb),
        "vmap": lambda verb: lambda mixture, x: jax.vmap(lambda x: verb(mixture, x))(jnp.stack([x, x])),
        "grad": lambda verb: jax.grad(lambda mixture, x: jnp.sum(verb(mixture, x)), argnums=1),
        "jvp": lambda verb: lambda mixture, x: jax.jvp(lambda x: verb(mixture, x), (x,), (x,)),
    }

    def outcome(verb: Any, way: Any) -> str:
        try:
            jax.eval_shape(way(verb), mixture, x)
        except NotImplementedError as error:
            return str(error)
        return ""

    return {name: {way: outcome(verb, how) for way, how in under.items()} for name, verb in of.items()}
