"""What every mixture estimator says of rows, by scikit-learn's names, and what all of them take."""

import math
from typing import Any

import jax
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.schema import Schema
from jaxgmm.model.mixture import Mixture
from jaxgmm.sklearn.checks import checked_weights, row_counts, said
from jaxgmm.sklearn.evidence import labels_of, padded_rows


class Scored:
    """Methods of a mixture estimator that come before those of a class of scikit-learn's.

    Beside scikit-learn's, rows may have `sample_weight`, gaps, `noise` of their own, and for some of them a label.
    """

    # What a derived class says of itself: the types that it computes in.
    _dtypes: tuple[type, ...] = (np.float64, np.float32)

    # What the class that is derived has.
    n_components: Any
    random_state: Any
    missing: Any

    # Whether the latest fit had weights; attributes that a user sets are of no fit.
    _is_weighted = False

    @property
    def _dtype(self) -> Any:
        """Of what was fitted."""
        raise NotImplementedError

    @property
    def _noise_component(self) -> int | None:
        """The place of a noise component; None if there is none."""
        raise NotImplementedError

    def _log_prob(self, rows: Evidence, dtype: Any) -> Any:
        """Log-density of each row in this type, under JAX's setting for it."""
        raise NotImplementedError

    def _responsibilities(self, rows: Evidence, dtype: Any) -> Any:
        """Posterior probability of each component, likewise."""
        raise NotImplementedError

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None, noise: Any = None) -> np.ndarray:
        """`fit`, then `predict` of the same rows; that of a row with a label is its label."""
        itself: Any = self
        itself.fit(X, y, sample_weight=sample_weight, **if_given(noise))
        found = self.predict(X, **if_given(noise))
        labels = labels_of(y, found, self.n_components)
        return found if labels is None else np.where(labels < 0, found, labels)

    def score_samples(self, X: Any, noise: Any = None) -> np.ndarray:
        """Log-density of each row (n,), natural logarithm; of what is measured, if rows have `noise` as in `fit`."""
        return self._evaluate(self._log_prob, X, noise)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, noise: Any = None) -> float:
        """Mean over rows of their log-density, with `sample_weight` their weighted mean; `noise` as in `fit`."""
        values = self.score_samples(X, **if_given(noise))
        if sample_weight is None:
            return float(np.mean(values))
        weights = checked_weights(sample_weight, values)
        present = weights > 0
        return float(np.average(values[present], weights=weights[present]))

    def predict(self, X: Any, noise: Any = None) -> np.ndarray:
        """Most probable component of each row (n,), -1 for that of noise; `noise` as in `fit`."""
        return self._named(np.argmax(self.predict_proba(X, **if_given(noise)), axis=1))

    def predict_proba(self, X: Any, noise: Any = None) -> np.ndarray:
        """Posterior probability of each component for each row (n, k); rows sum to one. `noise` as in `fit`.

        That of a noise component is the last of k + 1 columns.
        """
        return self._evaluate(self._responsibilities, X, noise)

    @property
    def schema_(self) -> Schema | None:
        """Names of the columns it was fitted to, as `jaxgmm.Schema`; None if they had none."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else Schema(names)

    def _named(self, places: np.ndarray) -> np.ndarray:
        """Labels of the components at these places."""
        return places if self._noise_component is None else np.where(places == self._noise_component, -1, places)

    def _evaluate(self, program: Any, X: Any, noise: Any) -> np.ndarray:
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        dtype = np.result_type(X.dtype, self._dtype)
        rows = self._known(X.astype(dtype, copy=False), noise=noise)
        with jax.enable_x64(dtype == np.float64):
            values = program(rows, dtype)
        return np.array(values)[: len(X)]

    def _checked(self, X: Any, **options: Any) -> np.ndarray:
        """Rows as floating point numbers, with NaN only where entries may be missing."""
        finite = "allow-nan" if self.missing == "em" else True
        return validate_data(self, said(X), dtype=list(self._dtypes), ensure_all_finite=finite, **options)

    def _known(
        self, X: np.ndarray, weights: np.ndarray | None = None, *, labels: Any = None, noise: Any = None
    ) -> Evidence:
        """All that is known of rows; of those with weights there are as many as components, with an entry each."""
        with jax.enable_x64(X.dtype == np.float64):
            rows = padded_rows(X, weights, labels=labels, noise=noise)
        if rows.seen is not None and weights is not None:
            # An error of infinite variance is a gap as well.
            checked_weights(weights, np.where(np.asarray(rows.seen)[: len(X)], X, np.nan), self.n_components)
        return rows

    def __sklearn_tags__(self) -> Any:
        theirs: Any = super()
        tags = theirs.__sklearn_tags__()
        tags.array_api_support = False
        tags.input_tags.allow_nan = self.missing == "em"
        return tags


class Likely(Scored):
    """Those whose score is the likelihood of one mixture: criteria count its parameters, and rows are drawn from it."""

    def _mixture(self, dtype: Any) -> Mixture:
        """The mixture as JAX holds it, under JAX's setting for this dtype."""
        raise NotImplementedError

    def _n_parameters(self) -> int:
        """How many numbers were free."""
        raise NotImplementedError

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Rows drawn from the mixture (n, d), those of one component after those of another, and their labels (n,).

        Those of a noise component are drawn from a box of its volume.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample.")
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        with jax.enable_x64(self._dtype == np.float64):
            mixture = self._mixture(self._dtype)
            rows, labels = jax.device_get(mixture.sample_with_labels(jax.random.key(seed), n_samples))
        order = np.argsort(labels, kind="stable")
        return rows[order], self._named(labels)[order]

    def bic(self, X: Any, sample_weight: Any = None, noise: Any = None) -> float:
        """Bayesian information criterion, lower is better; rows count `sample_weight` times each, `noise` as in `fit`.

        Rows without any entry do not count.

        Raises:
            ValueError: without `sample_weight`, after a fit that had it.
        """
        total, n = self._total(X, sample_weight, noise)
        return -2 * total + self._n_parameters() * math.log(n)

    def aic(self, X: Any, sample_weight: Any = None, noise: Any = None) -> float:
        """Akaike information criterion, lower is better; rows, noise and errors as for `bic`."""
        return -2 * self._total(X, sample_weight, noise)[0] + 2 * self._n_parameters()

    def _total(self, X: Any, sample_weight: Any, noise: Any) -> tuple[float, float]:
        """Log-likelihood of the rows, and how many they are."""
        values = self.score_samples(X, **if_given(noise))
        counts = row_counts(self, sample_weight, len(values))
        if self.missing == "em" or noise is not None:
            X = self._checked(X, reset=False)
            with jax.enable_x64(X.dtype == np.float64):
                told = padded_rows(X, np.ones(len(X), X.dtype), noise=noise).counted[: len(X)] > 0
            counts = np.where(told, counts, 0)
        return float(np.sum(counts * np.where(counts > 0, values, 0), dtype=np.float64)), float(counts.sum())


def if_given(noise: Any) -> dict[str, Any]:
    """As a keyword, only if it is given: methods that a subclass has of its own need not know it."""
    return {} if noise is None else {"noise": noise}
