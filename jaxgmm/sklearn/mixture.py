"""Mixtures of any form as a scikit-learn density estimator."""

import warnings
from numbers import Integral, Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

import jaxgmm.model.mixture as core
from jaxgmm.families.family import Form
from jaxgmm.families.support import RULES
from jaxgmm.families.table import form_of
from jaxgmm.fitting.em import fit
from jaxgmm.fitting.result import FitError, FitResult, Status
from jaxgmm.ground.rows import Evidence
from jaxgmm.model import passes
from jaxgmm.selection.restarts import fit_restarts
from jaxgmm.sklearn.checks import checked_weights
from jaxgmm.sklearn.evidence import labels_of
from jaxgmm.sklearn.joint import held_here
from jaxgmm.sklearn.scored import Likely
from jaxgmm.sklearn.seeding import INIT_PARAMS
from jaxgmm.sklearn.verbose import tell_starts

_ADVICE = (
    "Give that column another family, that row a sample_weight of 0, or NaN for an entry that is not known, with "
    "missing='em'."
)


class Mixture(Likely, DensityMixin, BaseEstimator):
    """A mixture of components of any form: answers, counts, angles, mixed tables, heavy tails.

    `GaussianMixture` has the attributes and takes the steps of scikit-learn's; this one is `jaxgmm.fit_restarts` with
    scikit-learn's methods, and what is fitted is `mixture_`. So forms and numbers of components are searched by
    `GridSearchCV`, and mixtures are steps of pipelines. Rows of any length share a few compiled programs for each form
    and number of components. float64 data are computed in float64, whatever JAX's own setting, and float32 data in
    float32; results are numpy arrays.

    Args:
        n_components: number of components, without one for noise.
        form: what components are, as `form` of `jaxgmm.init`: the name of a covariance structure of Gaussians, what a
            family's `form` gives, such as `jaxgmm.Poisson.form()`, or `jaxgmm.with_noise` of these. Columns of a
            `jaxgmm.Product.form` are numbers, in the order of X.
        tol: log-likelihood that a fit may leave to be gained, per row, as in `jaxgmm.fit`.
        max_iter: largest number of steps of each fit.
        n_init: number of starts, where there are several components. The likeliest fit without spurious components is
            kept.
        init_params: name of a seeding, as `method` of `jaxgmm.init`; None for several kinds by turns, as
            `jaxgmm.fit_restarts` takes them.
        regularization: floor under variances, rates and probabilities, relative to the scale of each column where it
            has one, as in `jaxgmm.fit`.
        random_state: of the starts, and of what is drawn.
        warm_start: go on from the latest fit, in the place of new starts.
        verbose: 1 to print how each start ended.
        missing: "error", or "em" for NaN in X that stands for an entry that is missing: the likelihood is that of the
            entries that are there, in fits, scores and predictions. A row without any has density 1.

    Attributes:
        mixture_: the `jaxgmm.Mixture`, of the type that JAX's setting allows, float32 by default.
        weights_: share of each component (k,), and the last one of noise if there is any.
        converged_: whether the fit converged on a mixture without degenerate components.
        n_iter_: how many steps it took.
        lower_bound_: mean log-likelihood of the rows at its end.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Sources: McLachlan & Peel (2000), Finite Mixture Models; of answers, Goodman (1974), Biometrika 61.

    >>> import numpy as np, jaxgmm
    >>> from jaxgmm.sklearn import Mixture
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(np.repeat([[2.0, 9.0], [12.0, 9.0]], 100, axis=0))
    >>> estimator = Mixture(2, form=jaxgmm.Poisson.form(), random_state=0).fit(counts)
    >>> sorted(estimator.mixture_.means[:, 0].round().tolist())
    [2.0, 12.0]
    >>> estimator.predict([[1, 9], [2, 8], [14, 10]]).tolist() in ([0, 0, 1], [1, 1, 0])
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "form": "no_validation",
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(INIT_PARAMS)), None],
        "regularization": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "missing": [StrOptions({"error", "em"})],
    }

    def __init__(
        self,
        n_components: Any = 1,
        form: Any = "full",
        *,
        tol: Any = 1e-6,
        max_iter: Any = 1000,
        n_init: Any = 8,
        init_params: Any = None,
        regularization: Any = 1e-6,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = 0,
        missing: Any = "error",
    ) -> None:
        self.n_components = n_components
        self.form = form
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.regularization = regularization
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.missing = missing

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, noise: Any = None) -> "Mixture":
        """The best of `n_init` fits.

        Args:
            X: rows (n, d), n >= 2, of numbers that the form can hold.
            y, sample_weight, noise: labels if it holds -1, weights, and errors of measurement, which Gaussian
                components alone have, as for `GaussianMixture`.

        Returns:
            The estimator itself, fitted.

        Raises:
            ValueError: parameters or data that are not as they must be, such as a row that the form cannot hold, which
                is named by row and column; or no fit has ended with numbers that are finite.
            NotImplementedError: gaps or noise that these components have no densities of.

        Warns:
            ConvergenceWarning: the fit has not converged, or a component is held by the floor.
        """
        X = self._checked(X, ensure_min_samples=2)
        weights = checked_weights(sample_weight, X, self.n_components)
        form = form_of(self.form)
        asked = _Asked(form, self.n_components, X.shape[1])
        before = self.warm_start and hasattr(self, "_kept")
        if before and asked != self._asked:
            raise ValueError(
                f"warm_start continues a fit of {self._asked}; n_components, form and X now make it {asked}. Set "
                "warm_start=False to start anew."
            )
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        labels = labels_of(y, X, self.n_components)
        rows = self._known(X, weights, form=form, labels=labels, noise=noise)
        several = self.n_components + form.n_background > 1
        options = {name: getattr(self, name) for name in ("tol", "max_iter", "regularization")} | {"history_size": 1}
        with jax.enable_x64(X.dtype == np.float64):
            if before:
                best = fit(self._mixture(X.dtype), rows, **options)
            else:
                found = fit_restarts(
                    jax.random.key(seed),
                    rows,
                    self.n_components,
                    form,
                    n_restarts=int(self.n_init) if several else 1,
                    methods=None if self.init_params is None else (self.init_params,),
                    **options,
                )
                best = found.best
                if self.verbose:
                    tell_starts(found, float(weights.sum()))
            if self.max_iter > 0:
                _tell(best)
        best = jax.tree.map(np.asarray, best)
        self._kept, self._asked = best.mixture, asked
        self.converged_ = bool(best.status == Status.CONVERGED)
        self.n_iter_ = int(best.n_iter)
        self.lower_bound_ = float(best.log_likelihood) / float(weights.sum(dtype=np.float64))
        self._is_weighted = sample_weight is not None
        return self

    @property
    def mixture_(self) -> core.Mixture:
        """The mixture that was fitted."""
        check_is_fitted(self)
        return held_here("mixture_", self._kept)

    @property
    def weights_(self) -> np.ndarray:
        """Share of each component (k,), the last one of noise if there is any."""
        check_is_fitted(self)
        return np.exp(self._kept.log_weights)

    # What was fitted, in numpy and as exact as the rows; and as what.
    _kept: Any
    _asked: "_Asked"

    @property
    def _dtype(self) -> Any:
        return self._kept.log_weights.dtype

    @property
    def _noise_component(self) -> int | None:
        place: int | None = self._kept.noise_component
        return place

    def _mixture(self, dtype: Any) -> core.Mixture:
        mixture: core.Mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self._kept)
        return mixture

    def _n_parameters(self) -> int:
        with jax.enable_x64(self._dtype == np.float64):
            return int(self._mixture(self._dtype).n_parameters)

    def _log_prob(self, rows: Evidence, dtype: Any) -> Any:
        return passes.log_prob_of(self._mixture(dtype), rows)

    def _responsibilities(self, rows: Evidence, dtype: Any) -> Any:
        return passes.responsibilities_of(self._mixture(dtype), rows)

    def _known(
        self, X: np.ndarray, weights: np.ndarray | None = None, *, form: Form | None = None, **beside: Any
    ) -> Evidence:
        # Before they are filled up: zeros are none of the rows that some families have.
        form = self._asked.form if form is None else form
        whole: Any = (X, weights)
        # scikit-learn's words for what its tag says of forms of no negative numbers.
        negative = "Negative values in data have density 0. " if _is_positive(form) and np.any(X < 0) else ""
        names = getattr(self, "feature_names_in_", None)
        form.check(Evidence(*whole), "X", columns=names, advice=negative + _ADVICE)
        return super()._known(X, weights, **beside)

    def __sklearn_is_fitted__(self) -> bool:
        # Not by the number of columns, which a fit that fails has seen.
        return hasattr(self, "_kept")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = isinstance(self.form, Form) and _is_positive(self.form)
        return tags


class _Asked(NamedTuple):
    """What a fit is of, in so many columns."""

    form: Form
    n_components: int
    n_columns: int

    def __str__(self) -> str:
        return f"{self.n_components} components {self.form} of {self.n_columns} columns"


def _is_positive(form: Form) -> bool:
    """Whether none of its columns may hold a negative number."""
    return form.family.support in RULES


def _tell(best: FitResult) -> None:
    """What there is to tell of how the fit ended, if it did not converge."""
    try:
        best.raise_if_failed()
    except FitError as error:
        if best.status == Status.NON_FINITE:
            raise ValueError(str(error)) from None
        warnings.warn(str(error), ConvergenceWarning, stacklevel=4)
