"""scikit-learn's `GaussianMixture`, computed by jaxgmm."""

import dataclasses
import warnings
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.mixture
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from jaxgmm.covariance.table import known_as, structure_of
from jaxgmm.fitting.online import online, online_step
from jaxgmm.fitting.result import Status
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.init import NOISE
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.scale import scale_from
from jaxgmm.sklearn.base import CompiledMixture
from jaxgmm.sklearn.checks import checked_counts, checked_start
from jaxgmm.sklearn.evidence import labels_of, padded_rows
from jaxgmm.sklearn.forms import FORMS, CovarianceTypes, kept_as
from jaxgmm.sklearn.objectives import Ridge
from jaxgmm.sklearn.programs import Parameters, least_variance
from jaxgmm.sklearn.scored import Likely, if_given
from jaxgmm.sklearn.seeding import INIT_PARAMS


class GaussianMixture(Likely, CompiledMixture, sklearn.mixture.GaussianMixture):
    """`sklearn.mixture.GaussianMixture`, computed by jaxgmm, with what it lacks.

    Parameters, attributes and methods have scikit-learn's names, defaults and meanings, and from the same start it
    takes the same steps. A `random_state` draws the same start, in which every row already belongs to some component.
    Rows are filled up to a few lengths by rows of weight 0, so data of any length compile few programs. float64 data
    are computed in float64, whatever JAX's own setting, and float32 data in float32; results are numpy arrays.

    Beside scikit-learn's, rows may have `sample_weight`, gaps, `noise` of their own, and for some of them a label.

    Args:
        covariance_type: one of scikit-learn's four, or another structure: "tied-diag", "tied-spherical", or mclust's
            letters for volume, shape and orientation, equal (E), varying (V) or none (I), such as "VVE". What
            scikit-learn has no name for has attributes in the shapes of "full". `reg_covar` is then added to what the
            rows of each component say, and the structure is fitted to these sums.
        missing: "error", or "em" for NaN in X that stands for an entry that is missing: the likelihood is that of the
            entries that are there, in fits by exact EM, and in scores and predictions. A row without any has density 1.
        noise_component: True for one more component, of the same density everywhere, for rows that belong to nothing,
            or its volume in the units of X; by default as `jaxgmm.with_noise` finds it. Its label is -1. In
            `predict_proba` and `weights_` it has the last column and number; `means_` and `covariances_` are of the
            others.

    All others are scikit-learn's. Where rows have gaps, noise or labels, `init_params` names the library's own
    seedings, as `jaxgmm.init` has them: on standardised columns, by the entries that are there, from labels if there
    are some. Other names than scikit-learn's, such as "hierarchical", always do.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import GaussianMixture
    >>> x = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> estimator = GaussianMixture(n_components=2, random_state=0).fit(x, sample_weight=[1, 1, 1, 2, 2, 2])
    >>> sorted(estimator.weights_.round(3).tolist())
    [0.333, 0.667]
    >>> gaps = np.array([[1, 2], [1, 4], [np.nan, 0], [10, 2], [10, 4], [10, np.nan]])
    >>> estimator = GaussianMixture(n_components=2, missing="em", random_state=0).fit(gaps, [0, -1, -1, 1, -1, -1])
    >>> estimator.predict([[1, np.nan], [10, np.nan]]).tolist()
    [0, 1]
    >>> estimator = GaussianMixture(n_components=2, covariance_type="tied-diag", random_state=0).fit(x)
    >>> estimator.covariances_.shape, estimator._n_parameters()
    ((2, 2, 2), 7)
    """

    _theirs = sklearn.mixture.GaussianMixture
    _climbed = "mean log-likelihood"
    _parameter_constraints = {  # noqa: RUF012
        **sklearn.mixture.GaussianMixture._parameter_constraints,
        "covariance_type": [CovarianceTypes()],
        "init_params": [StrOptions(set(INIT_PARAMS))],
        "missing": [StrOptions({"error", "em"})],
        "noise_component": ["boolean", Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components: Any = 1,
        *,
        covariance_type: Any = "full",
        tol: Any = 1e-3,
        reg_covar: Any = 1e-6,
        max_iter: Any = 100,
        n_init: Any = 1,
        init_params: Any = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = 0,
        verbose_interval: Any = 10,
        missing: Any = "error",
        noise_component: Any = False,
    ) -> None:
        super().__init__(
            n_components,
            covariance_type=covariance_type,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            weights_init=weights_init,
            means_init=means_init,
            precisions_init=precisions_init,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            verbose_interval=verbose_interval,
        )
        self.missing = missing
        self.noise_component = noise_component

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Rows drawn from the mixture (n, d), those of one component after those of another, and their labels (n,).

        Those of a noise component are drawn from a box of its volume.
        """
        check_is_fitted(self)
        if self._box is None and self.covariance_type in FORMS:
            drawn: tuple[np.ndarray, np.ndarray] = sklearn.mixture.GaussianMixture.sample(self, n_samples)
            return drawn
        return super().sample(n_samples)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        noise: Any = None,
        *,
        decay: float = 0.6,
        memory: float | None = None,
    ) -> Any:
        """A step of online EM: from a fit that there is already, or else from one to these rows.

        All rows so far count, and earlier ones less. Take some hundreds of rows at a time, in no particular order;
        `lower_bound_` is then an average of the mean log-likelihood of each batch before it was taken, `n_iter_` the
        number of batches, and `converged_` False. `fit` starts anew.

        Args:
            X, y, sample_weight, noise: as for `fit`; a batch may be a single row, but for the first.
            decay: from 0.5, where earlier rows count least, to 1, where all count alike.
            memory: weight of the rows after which earlier ones count 1 / e of what they did, for data that drift.
                Default without end.

        Returns:
            The estimator itself.

        Raises:
            ValueError: as for `fit`, or a batch whose likelihood is not finite, of which nothing is kept.

        Source: Cappé & Moulines (2009), On-line expectation-maximization algorithm for latent data models, JRSS B 71.

        >>> import numpy as np
        >>> from jaxgmm.sklearn import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> estimator = GaussianMixture(n_components=2, random_state=0)
        >>> for _ in range(20):
        ...     x = rng.normal(size=(500, 2)) + 5 * rng.integers(2, size=(500, 1))
        ...     estimator = estimator.partial_fit(x)
        >>> sorted(estimator.means_[:, 0].round().tolist())
        [0.0, 5.0]
        """
        if not hasattr(self, "means_"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.fit(X, y, sample_weight, **if_given(noise))
        self._validate_params()  # which scikit-learn leaves out where there is a fit
        X = self._checked(X, reset=False)
        if self._online is not None:
            # What there is by now has this type, and keeps its digits.
            X = X.astype(self._online.weight.dtype, copy=False)
        k, kind = self.means_.shape[0], self._kind or self.covariance_type
        self._check_noise("partial_fit")
        if (k, known_as(kind)) != (self.n_components, known_as(self.covariance_type)):
            raise ValueError(
                f"partial_fit goes on from {k} components of covariance_type {kind!r}, and the parameters now say "
                f"{self.n_components} of {self.covariance_type!r}. Set them back, or call fit."
            )
        weights = checked_counts(sample_weight, X, 1)
        labels = labels_of(y, X, self.n_components)
        with jax.enable_x64(X.dtype == np.float64):
            rows = padded_rows(X, weights, labels=labels, noise=noise)
            before, bounds = jax.tree.map(jnp.asarray, self._online), getattr(self, "lower_bounds_", [])
            if before is None:
                before, bounds = online(self._mixture(X.dtype, self.covariance_type), scale_from(rows)), []
            state = online_step(
                before,
                rows,
                decay=decay,
                memory=np.inf if memory is None else memory,
                regularization=least_variance(X.dtype),
                objective=Ridge(X.dtype.type(self.reg_covar)),
            )
            found = Parameters.of(state.mixture)
        state, found = jax.tree.map(np.asarray, (state, found))
        if state.status == Status.NON_FINITE:
            raise ValueError("The likelihood of these rows is not finite, and they were left out: are there extremes?")
        self._online, self._is_weighted = state, sample_weight is not None
        self._set(found, state.scale.dtype, {})
        self.converged_ = False
        self.lower_bound_ = float(state.statistics.log_likelihood)
        self.lower_bounds_ = [*bounds, self.lower_bound_]
        self.n_iter_ = len(self.lower_bounds_)
        return self

    @property
    def _volume(self) -> float | None:  # type: ignore[override]
        if isinstance(self.noise_component, (bool, np.bool_)):
            return 0.0 if self.noise_component else None
        return float(self.noise_component)

    def _n_parameters(self) -> int:
        k, d = self.n_components, np.shape(self.means_)[1]
        blank = jax.eval_shape(lambda: structure_of(self.covariance_type).uncorrelated(jnp.ones(d), k))
        # The weight and the volume of noise.
        return k - 1 + k * d + blank.n_parameters(k) + (0 if self._box is None else 2)

    def _mixture(self, dtype: Any, covariance_type: str | None = None) -> Mixture:
        """Of the matrices, or as another `covariance_type` has it."""
        kind = kept_as(self.covariance_type) if covariance_type is None else covariance_type
        return jax.tree.map(jnp.asarray, self._parameters(dtype)).mixture(kind)

    def _start(self, X: np.ndarray) -> Parameters:
        start = checked_start(self, X)
        if self._volume is None or start.weights is None:
            return start
        return dataclasses.replace(start, weights=np.append((1 - NOISE) * start.weights, NOISE).astype(X.dtype))

    def _check_previous(self, X: np.ndarray) -> None:
        super()._check_previous(X)
        self._check_noise("warm_start")

    def _check_noise(self, what: str) -> None:
        """Refuse to go on with noise that there was none of, or without."""
        if (self._volume is None) != (self._box is None):
            there = "no noise component" if self._box is None else "a noise component"
            raise ValueError(
                f"{what} goes on from a fit with {there}, and noise_component is {self.noise_component!r} now. Set it "
                "back, or start anew."
            )

    def _objective(self, rows: Evidence, unit: float, prior: dict[str, Any]) -> Ridge:
        return Ridge(rows.x.dtype.type(self.reg_covar))
