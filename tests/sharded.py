"""A process with several devices, in which rows lie sharded: what test_sharding.py runs, one check after the other.

Each is made with both kinds of mesh, one after the other, so that what it is compared with, the same on one device, is
compiled once.
"""

import dataclasses
import functools
import re
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxgmm
from jaxgmm.model.init import standard
from jaxgmm.model.seeding import SEEDINGS

from cases import CASES
from cases import KINDS as OF_KINDS
from compilations import counted
from tolerance import assert_close


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of mesh: rows over one axis, or over one or both of two."""

    type: AxisType

    @property
    def explicit(self):
        return self.type == AxisType.Explicit

    @property
    def mesh(self):
        return jax.make_mesh((4,), ("rows",), axis_types=(self.type,))

    @property
    def grid(self):
        return jax.make_mesh((2, 2), ("outer", "inner"), axis_types=(self.type, self.type))

    def sharded(self, array, spec=("rows",), mesh=None):
        return jax.device_put(array, NamedSharding(mesh or self.mesh, PartitionSpec(*spec)))

    def holds_its_rows(self, array):
        """Whether they lie as they were laid."""
        laid = NamedSharding(self.mesh, PartitionSpec("rows"))
        assert array.sharding.is_equivalent_to(laid, array.ndim), array.sharding


KINDS = [Kind(AxisType.Auto), Kind(AxisType.Explicit)]
# More than one block on each device, and the last of them not full.
N = 4 * 4500
NAMED = {case.name: case for case in CASES}
# The largest programs here: each of both cases and each of both kinds of mesh is in one of them.
AT_REST = {("poisson", False), ("tied-spherical", True)}
COLLECTIVES = "all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter|collective-broadcast"


def verbs(mixture, rows):
    return {
        "log_prob": mixture.log_prob(rows),
        "responsibilities": mixture.responsibilities(rows),
        "predict": mixture.predict(rows),
        "entropy": mixture.entropy(rows),
        "e_step": jaxgmm.e_step(mixture, rows),
        "log_likelihood": jaxgmm.log_likelihood(mixture, rows),
        "icl": jaxgmm.icl(mixture, rows),
        "fit": dataclasses.replace(jaxgmm.fit(mixture, rows, tol=1e-3), history=0.0, remaining=0.0, n_iter=0),
    }


at_once = jax.jit(verbs)


def collectives(compiled):
    """What devices exchange in a program: pairs of the operation and the sizes of all axes of what it moves."""
    found = re.findall(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", compiled.as_text())
    return [
        (name, [int(size) for shape in re.findall(r"\[([\d,]*)\]", kind) for size in shape.split(",") if size])
        for kind, name in found
    ]


def only_sums(compiled, most=N // 4):
    """Nothing is exchanged but sums, and none of them over as many numbers as a device has rows."""
    found = collectives(compiled)
    assert {name for name, _ in found} == {"all-reduce"}, found
    assert all(size < most for _, sizes in found for size in sizes), found
    return len(found)


def same(actual, expected, tolerance="close", scale=N):
    """Sums over rows are compared with what a row adds to them."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(np.asarray(a), np.asarray(b), tolerance, scale)


def partly_known(case):
    """Rows with weights and labels; one device has nothing but absent rows, which hold NaN."""
    x, labels = np.array(case.data(N)), np.asarray(case.mixture().predict(case.data(N)))
    weights = np.random.default_rng(0).uniform(0.5, 1.5, N) * (np.arange(N) % 7 > 0)
    weights[: N // 4] = 0
    x[: N // 4] = np.nan
    return x, weights.astype(x.dtype), np.where(np.arange(N) % 5 == 0, labels, -1)


def check_the_verbs(name, kind):
    case = NAMED[name]
    x, mixture = case.data(N), case.mixture()
    rows = kind.sharded(x) if kind.explicit else jaxgmm.rows(kind.sharded(x))
    compiled = at_once.lower(mixture, rows).compile()
    only_sums(compiled)
    found, expected = compiled(mixture, rows), at_once(mixture, x)
    same(found, expected)
    for verb in ("log_prob", "responsibilities", "predict", "entropy"):
        kind.holds_its_rows(found[verb])
        same(found[verb], expected[verb], scale=1)
    same(found["fit"].mixture, expected["fit"].mixture, "converged", scale=1)


def check_at_top_level(kind):
    case = NAMED["full"]
    x, mixture = case.data(N), case.mixture()
    for given, expected in (
        (kind.sharded(x), verbs(mixture, x)),
        (jaxgmm.rows(*map(kind.sharded, partly_known(case)[:2])), verbs(mixture, jaxgmm.rows(*partly_known(case)[:2]))),
    ):
        found = verbs(mixture, given)
        seen = np.isfinite(np.asarray(expected["log_prob"]))
        for verb in ("log_prob", "responsibilities", "predict", "entropy"):
            kind.holds_its_rows(found[verb])
            same(np.asarray(found.pop(verb))[seen], np.asarray(expected.pop(verb))[seen], scale=1)
        same(found, expected)


def check_what_is_known_of_rows_lies_as_they_do(kind):
    x, weights, labels = partly_known(NAMED["full"])
    for rows in (
        jaxgmm.rows(kind.sharded(x), weights, labels=labels),
        jaxgmm.rows(*map(kind.sharded, (x, weights)), labels=labels),
    ):
        for leaf in jax.tree.leaves(rows):
            kind.holds_its_rows(leaf)
    kind.holds_its_rows(jaxgmm.rows(kind.sharded(np.nan_to_num(x))).weights)
    # The record speaks of where its rows are now.
    assert jaxgmm.rows(jax.device_get(rows)).shards is None


@jax.jit
def sums(mixture, rows):
    found = jaxgmm.fit(mixture, rows, tol=1e-3)
    return jaxgmm.e_step(mixture, rows), jaxgmm.log_likelihood(mixture, rows), found.mixture, found.status


def check_weights_and_labels(kind):
    for name in ("full", "poisson"):
        case = NAMED[name]
        x, weights, labels = partly_known(case)
        plain, rows = jaxgmm.rows(x, weights, labels=labels), jaxgmm.rows(kind.sharded(x), weights, labels=labels)
        compiled = sums.lower(case.mixture(), rows).compile()
        only_sums(compiled)
        same(compiled(case.mixture(), rows), sums(case.mixture(), plain))


def check_gaps_and_noise(kind):
    case = NAMED["full"]
    x, rng = np.array(case.data(N)), np.random.default_rng(1)
    x[rng.random(x.shape) < 0.2] = np.nan
    noise = rng.uniform(0, 1, x.shape).astype(x.dtype)
    evidence = rng.uniform(-1, 0, (N, 3)).astype(x.dtype)
    known = {"missing": "nan", "noise": noise, "log_evidence": evidence}
    plain, rows = jaxgmm.rows(x, **known), jaxgmm.rows(kind.sharded(x), **known)
    for leaf in jax.tree.leaves(rows):
        kind.holds_its_rows(leaf)
    compiled = sums.lower(case.mixture(), rows).compile()
    only_sums(compiled)
    same(compiled(case.mixture(), rows), sums(case.mixture(), plain))
    found = jaxgmm.denoise(case.mixture(), rows).means
    kind.holds_its_rows(found)
    same(found, jaxgmm.denoise(case.mixture(), plain).means, scale=1)


def check_shrunk_covariances(kind):
    case = NAMED["diag"]
    x, mixture, scale = case.data(N), case.mixture(), np.ones(2)
    rows = jaxgmm.rows(kind.sharded(x))
    shrunk = jax.jit(lambda mixture, rows: jaxgmm.shrunk(mixture, rows, method="ledoit-wolf", scale=scale))
    compiled = shrunk.lower(mixture, rows).compile()
    only_sums(compiled)
    same(compiled(mixture, rows), shrunk(mixture, x), scale=1)


def check_one_exchange_for_each_pass(kind):
    case = NAMED["poisson"]
    rows = jaxgmm.rows(kind.sharded(case.data(N)))
    compiled = jax.jit(jaxgmm.e_step).lower(case.mixture(), rows).compile()
    # Two find the row that stands in for absent ones.
    assert only_sums(compiled) == 3


@jax.jit
def slopes_of_the_likelihood(mixture, rows):
    return jax.value_and_grad(jaxgmm.log_likelihood, (0, 1))(mixture, rows)


@jax.jit
def slopes_of_statistics(mixture, rows):
    def of(mixture, rows):
        seen = jaxgmm.e_step(mixture, rows)
        return sum(jnp.sum(jnp.sin(leaf / N)) for leaf in jax.tree.leaves(seen))

    return jax.grad(of, (0, 1))(mixture, rows)


@jax.jit
def slopes_at_rest(mixture, rows):
    """Backward and forward, of one fit."""

    def of(rows, regularization):
        found = jaxgmm.fit(mixture, rows, tol=1e-8, regularization=regularization)
        return jnp.sum(jnp.sin(found.mixture.means)) + found.log_likelihood / N

    given = rows, jnp.asarray(1e-3, rows.x.dtype)
    value, forward = jax.linearize(of, *given)
    backward = jax.linear_transpose(forward, *given)
    return value, backward(jnp.ones_like(value)), forward(jax.tree.map(jnp.ones_like, rows), given[1])


def check_derivatives(name, kind):
    case = NAMED[name]
    mixture = case.mixture()
    x, weights, _ = partly_known(case)
    x = np.nan_to_num(x)
    plain, rows = jaxgmm.rows(x, weights), jaxgmm.rows(kind.sharded(x), weights)
    slopes = [(slopes_of_the_likelihood, "close", N), (slopes_of_statistics, "close", 1)]
    if (name, kind.explicit) in AT_REST:
        slopes.append((slopes_at_rest, "converged", 1))
    for of, tolerance, scale in slopes:
        expected = of(mixture, plain)
        with jax.set_mesh(kind.mesh):
            compiled = of.lower(mixture, rows).compile()
            moved = [(name, sizes) for name, sizes in collectives(compiled) if max(sizes, default=0) >= N // 4]
            assert not moved, (of.__name__, moved)
            found = compiled(mixture, rows)
        same(jax.tree.leaves(found), jax.tree.leaves(expected), tolerance, scale)
        # Derivatives in rows are small where those in a mixture are large.
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            if a.shape[:1] == (N,):
                kind.holds_its_rows(a)
                assert_close(a, b, tolerance, np.max(np.abs(b)))


def check_second_derivatives_and_lanes(kind):
    case = NAMED["poisson"]
    mixture, x = case.mixture(), case.data(N)
    rows = jaxgmm.rows(kind.sharded(x))

    def of(log_weights, rows):
        return jaxgmm.log_likelihood(dataclasses.replace(mixture, log_weights=log_weights), rows)

    with jax.set_mesh(kind.mesh):
        curvature = jax.jit(jax.hessian(of))
        same(curvature(mixture.log_weights, rows), curvature(mixture.log_weights, x))
        stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), mixture)
        lanes = jax.jit(jax.vmap(jaxgmm.log_likelihood, (0, None)))
        same(lanes(stack, rows), lanes(stack, x))


def check_a_second_call_compiles_nothing(kind):
    case = NAMED["full"]
    x, mixture = case.data(N), case.mixture()
    verbs(mixture, kind.sharded(x))
    again, other = kind.sharded(x + 1), dataclasses.replace(mixture, log_weights=mixture.log_weights[::-1])
    with counted() as compilations:
        verbs(other, again)
    assert not compilations


def check_batches(kind):
    """Spread over the devices, however many rows there are; a sample is for one device."""
    case = NAMED["full"]
    x = np.asarray(case.data(1001))
    lie = NamedSharding(kind.mesh, PartitionSpec("rows"))
    alone = jaxgmm.fit_batches(case.start(), jaxgmm.batches(x, batch_size=256))
    for options in ({}, {"batch_size": 255}):
        source = jaxgmm.batches(x, sharding=lie, **options)
        assert {len(rows.x.sharding.device_set) for rows in source} == {kind.mesh.size}
        assert source.totals().n == 1001
        assert len(source.sample(jax.random.key(0), 101).x.devices()) == 1
        found = jaxgmm.fit_batches(case.start(), source)
        same(found.mixture, alone.mixture, "converged")
        same(found.log_likelihood, alone.log_likelihood, "close", 1001)


def check_several_axes_for_the_rows(kind):
    case = NAMED["diag"]
    x, mixture = case.data(N), case.mixture()
    expected = mixture.log_prob(x), jaxgmm.e_step(mixture, x)
    for spec in ((("outer", "inner"),), ("outer",), ("inner",), ("outer", "inner"), ()):
        placed = kind.sharded(x, spec, kind.grid)
        found = mixture.log_prob(placed), jaxgmm.e_step(mixture, placed)
        same(found[0], expected[0], scale=1)
        same(found, expected)
        over = spec[:1] if spec and isinstance(spec[0], str) else spec[0] if spec else ()
        kept = found[0].sharding.spec
        assert (kept[0] if kept else None) in ((over[0], over) if len(over) == 1 else (over or None,)), (spec, kept)


def check_rows_are_gathered_where_nothing_is_known_of_them(kind):
    """The control: what the other checks look for is found."""
    case = NAMED["full"]
    compiled = jax.jit(jaxgmm.e_step).lower(case.mixture(), kind.sharded(case.data(N))).compile()
    moved = [name for name, sizes in collectives(compiled) if max(sizes, default=0) >= N // 4]
    assert bool(moved) != kind.explicit, moved


def known_rows(kind, mesh=None):
    """Pairs of rows that lie sharded and of the same on one device: all that may be known of them."""
    case = NAMED["full"]
    x, weights, labels = partly_known(case)
    gaps = np.where(np.random.default_rng(1).random(x.shape) < 0.2, np.nan, np.nan_to_num(x))
    classes = {"labels": np.minimum(labels, 1), "label_of_component": (0, 1, 1)}
    for given, known in (
        (np.array(case.data(N)), {}),
        (x, {"weights": weights, "labels": labels}),
        (gaps, {"weights": weights, "missing": "nan"} | classes),
    ):
        yield jaxgmm.rows(kind.sharded(given, mesh=mesh), **known), jaxgmm.rows(given, **known)


@jax.jit
def starts(rows):
    key, present = jax.random.key(1), jnp.ones(3, bool)
    columns = standard(rows)[1]
    labels = {method: seeding(key, columns, present) for method, seeding in SEEDINGS.items()}
    return labels, jaxgmm.init(key, rows, 3, method="kmeans_whitened"), columns.scale


def starts_where_rows_are(kind):
    """The rows that are drawn are those drawn on one device, of 2, 4 and 8 alike, and none but these is moved.

    Each number of devices with other rows, and with others again on the other kind of mesh.
    """
    for turn, size in enumerate((2, 4, 8), start=kind.explicit):
        mesh = jax.make_mesh((size,), ("rows",), axis_types=(kind.type,), devices=jax.devices()[:size])
        rows, plain = list(known_rows(kind, mesh))[turn % 3]
        compiled = starts.lower(rows).compile()
        only_sums(compiled, N // size)
        found, expected = compiled(rows), starts(plain)
        seen = np.asarray(plain.weights) > 0
        for method, labels in found[0].items():
            assert np.array_equal(np.asarray(labels)[seen], np.asarray(expected[0][method])[seen]), (size, method)
        same(found[1:], expected[1:], scale=1)


def check_draws_of_what_is_not_seen(kind):
    for case in (NAMED["student_t full"], OF_KINDS[-1]):
        x = np.array(case.data(400))
        x[np.arange(x.size).reshape(x.shape) % 7 == 0] = np.nan
        rows, plain = (jaxgmm.rows(given, missing="nan") for given in (kind.sharded(jnp.asarray(x)), x))
        found, expected = (jaxgmm.sample_missing(jax.random.key(1), case.mixture(), given) for given in (rows, plain))
        kind.holds_its_rows(found)
        same(found, expected, scale=1)


def check_a_start_of_shares(kind):
    for rows, plain in list(known_rows(kind))[::2]:
        shares = np.random.default_rng(2).dirichlet(np.ones(3), N)
        rows, plain = (dataclasses.replace(one, labels=None, classes=None) for one in (rows, plain))
        same(jaxgmm.from_responsibilities(rows, shares), jaxgmm.from_responsibilities(plain, shares), scale=1)


def restarts_and_selection(kind):
    """Compared with one device, with nothing compiled again; what is in programs moves no rows, which is looked at for
    restarts and for gradients on either kind of mesh.
    """
    key, n = jax.random.key(0), 1600
    x = np.concatenate([np.array(NAMED["full"].data(n)), np.ones((n, 1))], axis=1)
    x[7] = 1e4  # alone, and the last column is constant
    varied = x[:, :-1]
    start = jaxgmm.init(key, varied[8:], 2, "diag")
    few = {"n_restarts": 4, "n_finalists": 2}
    programs = {
        # Of two starts that lead to one end, rounding says which is the winner, and so the order of its components.
        "fit_restarts": lambda x: jaxgmm.fit_restarts(key, x, 2, "diag", **few).log_likelihood / n,
        "select_components": lambda x: jaxgmm.select_components(key, x, [1, 2], "diag", n_restarts=2).criterion / n,
        "fit_gradient": lambda x: jaxgmm.fit_gradient(start, x, optax.sgd(0.01), n_steps=2).mixture,
        "batches": lambda x: jaxgmm.fit_gradient(start, x, optax.sgd(0.01), n_steps=2, batch_size=50, key=key).mixture,
    }
    for name, call in programs.items():
        rows = jaxgmm.rows(kind.sharded(varied))
        same(call(rows), call(varied), "converged", scale=1)
        if name != "fit_restarts":
            with counted() as compilations:
                call(jaxgmm.rows(kind.sharded(varied + 1e-3)))
            assert not compilations, name
        if (name in ("fit_restarts", "batches")) == kind.explicit:
            only_sums(jax.jit(call).lower(rows).compile(), n // 4)

    def selected(x):
        return jaxgmm.select(key, x, [1, 2], ["diag"], criterion="cv", n_folds=2, n_restarts=4)

    found, expected = selected(kind.sharded(x)), selected(x)
    assert found.outliers == expected.outliers == (7,)
    assert found.constants == expected.constants == {x.shape[1] - 1: 1.0}
    for one, other in zip(found.candidates, expected.candidates, strict=True):
        same((one.bic, one.icl, one.cv), (other.bic, other.icl, other.cv), "exact", scale=n)
    with counted() as compilations:
        selected(kind.sharded(x))
    assert not compilations


def check_uneven_rows(kind):
    """Filled up with rows of weight 0, which may hold anything."""
    x = np.array(NAMED["full"].data(N))[:-3]
    filled = np.concatenate([x, np.full((3, x.shape[1]), np.nan)])
    rows = jaxgmm.rows(kind.sharded(filled), weights=np.arange(N) < N - 3)
    start = jaxgmm.init(jax.random.key(0), x, 3)
    same(jaxgmm.init(jax.random.key(0), rows, 3), start, scale=1)
    same(jaxgmm.fit(start, rows).mixture, jaxgmm.fit(start, x).mixture, "converged", scale=1)


def check_verbs_that_know_no_shards(kind):
    key, x = jax.random.key(0), NAMED["full"].data(400)
    calls = {
        "stability": lambda x: jaxgmm.stability(key, x, 1, n_repeats=1, n_restarts=1).reference.mixture,
        "bootstrap": lambda x: jaxgmm.bootstrap(key, x, NAMED["full"].mixture(), n_bootstrap=2).reference.mixture,
        "likelihood_ratio_test": lambda x: jaxgmm.likelihood_ratio_test(key, x, 1, n_bootstrap=1).null.mixture,
    }
    for name, call in calls.items():
        if kind.explicit:
            with pytest.raises(NotImplementedError, match=f"jaxgmm.{name} takes rows of one device"):
                call(kind.sharded(x))
            if name != "likelihood_ratio_test":
                with pytest.raises(NotImplementedError, match=f"jaxgmm.{name} takes rows of one device"):
                    call(jaxgmm.rows(kind.sharded(x)))
    # What the message says.
    call = calls["stability"]
    same(call(np.asarray(kind.sharded(x))[:100]), call(x[:100]), "exact")


def check_rows_in_pieces(kind):
    """No device has whole rows: on an automatic mesh that is the compiler's matter."""
    x = np.concatenate([NAMED["full"].data(40)] * 2, axis=1)
    pieces = kind.sharded(x, spec=(None, "rows"))
    if kind.explicit:
        with pytest.raises(NotImplementedError, match="sharded along its columns"):
            jaxgmm.scale_of(pieces)
        with pytest.raises(NotImplementedError, match="sharded along its columns"):
            jax.jit(jaxgmm.scale_of)(pieces)
        pieces = jax.sharding.reshard(pieces, NamedSharding(kind.mesh, PartitionSpec("rows")))  # what the message says
    same(jaxgmm.scale_of(pieces), jaxgmm.scale_of(x), "exact", scale=10)


def check_rows_taken_from_a_record(kind):
    """Another number of rows than the record was made with, which devices may be unable to share out evenly."""
    mixture, x = NAMED["diag"].mixture(), NAMED["diag"].data(400)
    rows = jaxgmm.rows(kind.sharded(x))

    @functools.partial(jax.jit, static_argnums=1)
    def of_some(rows, n):
        places = jnp.arange(n)
        some = dataclasses.replace(rows, x=rows.x.at[places].get(out_sharding=out), weights=jnp.ones(n, x.dtype))
        return jaxgmm.log_likelihood(mixture, some)

    out = PartitionSpec()
    with jax.set_mesh(kind.mesh):
        for n in (93, 100):
            same(of_some(rows, n), jaxgmm.log_likelihood(mixture, x[:n]), "exact", scale=100)


CHECKS = {
    **{f"verbs of {name}": functools.partial(check_the_verbs, name) for name in ("full", "tied-spherical", "poisson")},
    **{f"derivatives of {name}": functools.partial(check_derivatives, name) for name in ("tied-spherical", "poisson")},
    "starts": starts_where_rows_are,
    "restarts": restarts_and_selection,
    **{
        name: check
        for name, check in globals().items()
        if name.startswith("check_") and name not in ("check_the_verbs", "check_derivatives")
    },
}

if __name__ == "__main__":
    chosen = [name for name in CHECKS if any(name.startswith(part) for part in sys.argv[1:] or [""])]
    failed = not chosen
    for name in chosen:
        for kind in KINDS:
            try:
                CHECKS[name](kind)
            except Exception:
                failed = True
                print(f"--- {name}, {kind.type}\n{traceback.format_exc()}")
    sys.exit(failed)
