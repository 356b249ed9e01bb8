"""What the mixture estimators share: scikit-learn's classes with their fits and scores compiled by jaxgmm."""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from jaxgmm.covariance.table import known_as
from jaxgmm.fitting.online import Online
from jaxgmm.ground.padding import padded
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.threads import side_by_side
from jaxgmm.sklearn.checks import (
    HOOKS,
    check_nothing_overridden,
    check_previous_fit,
    checked_counts,
    checked_weights,
)
from jaxgmm.sklearn.evidence import labels_of
from jaxgmm.sklearn.forms import covariance_attributes, factor_of, kept_as
from jaxgmm.sklearn.objectives import Ridge
from jaxgmm.sklearn.programs import Parameters, Run, log_prob, responsibilities, run_em, seeds_of
from jaxgmm.sklearn.scored import Scored
from jaxgmm.sklearn.seeding import SEEDINGS, Seeding
from jaxgmm.sklearn.verbose import Runner, told

# The bounds of so many steps are kept, so that few values of `max_iter` differ in shape; no more than the second.
_SHORTEST, _LONGEST = 128, 2**20


class CompiledMixture(Scored):
    """A mixture estimator that takes the steps of a class of scikit-learn's, and comes before that class."""

    # What a derived class says of itself: the class it stands for, the methods of it that are never called, where rows
    # may start, and the name of what is climbed.
    _theirs: type
    _hooks: tuple[str, ...] = HOOKS
    _seedings: Mapping[str, Seeding] = SEEDINGS
    _climbed: str

    # What scikit-learn's class has.
    covariance_type: Any
    tol: Any
    max_iter: Any
    n_init: Any
    init_params: Any
    warm_start: Any
    verbose: Any

    def _start(self, X: np.ndarray) -> Parameters:
        """What the user has said about the start, checked; None where nothing."""
        raise NotImplementedError

    def _check_previous(self, X: np.ndarray) -> None:
        """Refuse to go on from a fit of another kind of mixture than the estimator describes now."""
        check_previous_fit(self, X)

    def _evidence(self, rows: Evidence) -> Evidence:
        """What of the rows a fit looks at."""
        return rows

    def _prior(self, X: np.ndarray, rows: Evidence, unit: float) -> dict[str, Any]:
        """Attributes that tell what is known beforehand; weights of the rows are in this unit."""
        return {}

    def _objective(self, rows: Evidence, unit: float, prior: dict[str, Any]) -> Ridge:
        """What is climbed."""
        raise NotImplementedError

    def _fitted(self, parameters: Parameters) -> dict[str, Any]:
        """Attributes of these parameters beside those that all mixtures have."""
        return {}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, noise: Any = None) -> Any:
        """The best of `n_init` fits.

        Args:
            X: rows (n, d), n >= 2.
            y: labels (n,), if it holds -1, which marks rows without one, and else whole numbers from 0 on: the
                component that a row is known to be of, as in `sklearn.semi_supervised`. A labelled row counts
                log w_y + log p_y(x) in the likelihood. Any other y is not used, as in scikit-learn: not one without
                -1, nor one of fractions, NaN or names. Scores never use it.
            sample_weight: weight of each row (n,), not negative; a row of weight 2 counts as two, one of weight 0 is
                absent. Default ones.
            noise: variance of the error of each entry (n, d), or its covariance in each row (n, d, d), in squared units
                of X: the components are those of the values without their errors. An infinite variance is a gap. In a
                pipeline it is passed by metadata routing, after `set_fit_request(noise=True)`. Default none.

        Returns:
            The estimator itself, fitted.

        Raises:
            ValueError: parameters or data that are not as scikit-learn takes them, noise that is negative or of another
                shape, or a label that is no component; or no fit has ended with covariances above rounding.
            TypeError: a subclass overrides a step of the fit.

        Warns:
            ConvergenceWarning: the best fit did not converge within `max_iter` steps. Where every fit met rows
                of likelihood 0, `lower_bound_` is -inf and the parameters are those before.

        Sources: Ghahramani & Jordan (1994), NIPS 6, for gaps; Bovy, Hogg & Roweis (2011), Ann. Appl. Stat. 5, for
        noise; McLachlan & Peel (2000), Finite Mixture Models, section 2.19, for labels.
        """
        check_nothing_overridden(self)
        X = self._checked(X, ensure_min_samples=2)
        weights = checked_weights(sample_weight, X, self.n_components)
        given = self._start(X)
        before = self.warm_start and hasattr(self, "converged_")
        if before:
            self._check_previous(X)
        random = check_random_state(self.random_state)
        labels = labels_of(y, X, self.n_components)
        with jax.enable_x64(X.dtype == np.float64):
            rows = self._evidence(self._known(X, weights, labels=labels, noise=noise))
        in_part, real = rows.partial or labels is not None, X.dtype.type
        unit = float(checked_counts(sample_weight, X, self.n_components).max())
        prior = self._prior(X, rows, unit)
        objective = self._objective(rows, unit, prior)

        def start() -> np.ndarray:
            # What scikit-learn has no seeding for, or none by that name, is left to the library's own.
            before_noise = self._volume is not None
            if in_part or before_noise or self.init_params not in self._seedings:
                with jax.enable_x64(X.dtype == np.float64):
                    key = jax.random.key(random.randint(np.iinfo(np.int32).max))
                    seeds = seeds_of(
                        key,
                        rows,
                        n_components=self.n_components,
                        method=self.init_params,
                        before_noise=before_noise,
                    )
                    return np.asarray(seeds, np.int32)
            # An absent row would still decide on what scale scikit-learn's k-means is done.
            there = weights > 0
            shares = None if sample_weight is None else weights[there]
            drawn = self._seedings[self.init_params](random, X[there], shares, self.n_components)
            whole = np.zeros((len(X), *drawn.shape[1:]), np.int32 if drawn.ndim == 1 else X.dtype)
            whole[there] = drawn
            return padded(whole)

        def run(start: np.ndarray | None, parameters: Parameters, bound: Any, steps: int) -> Run:
            with jax.enable_x64(X.dtype == np.float64):
                end = run_em(
                    rows,
                    start,
                    parameters,
                    real(bound),
                    real(self.tol),
                    objective,
                    np.int32(min(steps, 2**31 - 1)),
                    None if self._volume is None else real(self._volume),
                    n_components=self.n_components,
                    covariance_type=known_as(self.covariance_type),
                    history_size=min(max(_SHORTEST, 1 << int(self.max_iter).bit_length()), _LONGEST),
                )
                return jax.tree.map(np.asarray, end)

        known = before or given.complete
        starts = [None if known else start() for _ in range(1 if before else self.n_init)]
        first = (self._parameters(X.dtype), self.lower_bound_) if before else (given, -np.inf)
        if self.verbose:
            runs = [told(run, self, number, start, *first) for number, start in enumerate(starts)]
        else:
            # The first alone, so that the others find it compiled.
            quiet = functools.partial(_quiet, run, first, self.max_iter)
            runs = [quiet(starts[0]), *side_by_side(quiet, starts[1:])]
        self._keep(_best(runs), X.dtype, prior)
        self._is_weighted = sample_weight is not None
        return self

    # Where online EM stands, if the latest rows were taken by it.
    _online: Online | None = None
    # The covariance_type of the latest fit.
    _kind: Any = None
    # The volume of a noise component that is asked for, 0 for the usual one, None without one; and its box in the fit.
    _volume: float | None = None
    _box: np.ndarray | None = None

    @property
    def _dtype(self) -> Any:
        return np.asarray(self.means_).dtype

    @property
    def _noise_component(self) -> int | None:
        return None if self._box is None else len(self.means_)

    def _log_prob(self, rows: Evidence, dtype: Any) -> Any:
        # Densities are those of the matrices, whatever they have in common.
        return log_prob(self._parameters(dtype), rows, covariance_type=kept_as(self.covariance_type))

    def _responsibilities(self, rows: Evidence, dtype: Any) -> Any:
        return responsibilities(self._parameters(dtype), rows, covariance_type=kept_as(self.covariance_type))

    def _evaluate(self, program: Any, X: Any, noise: Any) -> np.ndarray:
        check_nothing_overridden(self)
        return super()._evaluate(program, X, noise)

    def _parameters(self, dtype: Any) -> Parameters:
        # From the attributes that scikit-learn's own methods read, which users may set.
        return Parameters(
            weights=np.asarray(self.weights_, dtype),
            means=np.asarray(self.means_, dtype),
            factor=factor_of(self, dtype),
            box=None if self._box is None else np.asarray(self._box, dtype),
        )

    def _keep(self, run: Run, dtype: Any, prior: dict[str, Any]) -> None:
        n_iter = int(run.n_iter)
        converged = bool(np.abs(run.change) < self.tol)
        if not run.bound < np.inf or run.degenerate.any():
            raise ValueError(_failure(run, dtype))
        if not converged and self.max_iter > 0:
            last = f"the last one changed the {self._climbed} by {float(run.change):.3g}, and tol is {self.tol:g}"
            if run.bound == -np.inf:
                last = "some rows were so far from all components that their likelihood is 0"
            warnings.warn(
                f"Best performing initialization did not converge: after {n_iter} steps, {last}. Try different init "
                "parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._set(run.parameters, dtype, prior)
        self._online = None
        self.converged_ = converged
        self.n_iter_ = n_iter
        self.lower_bound_ = float(run.bound)
        self.lower_bounds_ = run.bounds[:n_iter].tolist()

    def _set(self, parameters: Parameters, dtype: Any, prior: dict[str, Any]) -> None:
        """Attributes that tell these parameters."""
        self._kind = self.covariance_type
        self.weights_, self.means_, self._box = parameters.weights, parameters.means, parameters.box
        covariances = covariance_attributes(self.covariance_type, parameters.factor, dtype)
        for name, value in (covariances | prior | self._fitted(parameters)).items():
            setattr(self, name, value)


def _quiet(run: Runner, first: tuple[Parameters, Any], steps: int, start: np.ndarray | None) -> Run:
    return run(start, *first, steps)


def _best(runs: list[Run]) -> Run:
    """The likeliest that has not failed; the first if all have."""

    def height(run: Run) -> tuple[bool, float]:
        failed = bool(run.degenerate.any() or np.isnan(run.bound))
        return not failed, -np.inf if failed else float(run.bound)

    return max(runs, key=height)


def _failure(run: Run, dtype: Any) -> str:
    if not run.degenerate.any():
        return "Fitting the mixture model failed: the likelihood is not finite. Look for extreme values in X."
    message = (
        "Fitting the mixture model failed because some components have ill-defined empirical covariance: "
        f"{np.flatnonzero(run.degenerate).tolist()} of {run.degenerate.size}, in the best of all starts. They hold too "
        "few or equal rows, or columns depend on each other. Try to decrease the number of components, increase "
        "reg_covar, or scale the input data."
    )
    return message + (" float64 data instead of float32 may help too." if dtype == np.float32 else "")
