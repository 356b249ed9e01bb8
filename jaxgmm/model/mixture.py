"""The mixture: log-weights over components of any family."""

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Family
from jaxgmm.families.support import check_support
from jaxgmm.ground import bounds, checks, frames, known, shares
from jaxgmm.ground.bounds import log_simplex
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model import extents, geometry, passes
from jaxgmm.model.free import Free, named

T = TypeVar("T")


@record
class Mixture:
    """A finite mixture p(x) = sum_k w_k p_k(x), blind to the family of its components.

    A pytree whose leaves are parameters: pass it through `jit`, `vmap` and `grad`. Made by `init`,
    `from_parameters` or `from_responsibilities`; stacked mixtures (a leading axis on every leaf) come out of `vmap`.

    Fields: `log_weights` (k,), natural logarithms of weights that sum to one, -inf for an absent component;
    `components`, k components of one family.
    """

    log_weights: Leaf = log_simplex()
    components: Family

    @property
    def n_components(self) -> int:
        """Number of components, k."""
        return self.log_weights.shape[-1]

    @property
    def n_clusters(self) -> int:
        """Number of components but for one of noise."""
        return self.n_components - self.components.n_background

    @property
    def noise_component(self) -> int | None:
        """Index of the component for rows that belong to nothing, the last one; None if there is none."""
        return self.n_clusters if self.components.n_background else None

    @property
    def n_columns(self) -> int:
        """Number of columns of the data, d."""
        return self.components.n_columns

    @property
    def weights(self) -> Float[Array, "*batch k"]:
        """Mixing proportions (k,), summing to one."""
        return jnp.exp(self.log_weights)

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Expectation of each component (k, d), in the units of the data."""
        return self.components.means

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data."""
        return self.components.covariances

    @property
    def n_parameters(self) -> int | Int[Array, "*batch"] | Float[Array, "*batch"]:
        """Number of free parameters: those of the k components that are present, and k - 1 weights.

        A noise component counts two, its weight and its volume, also where it has lost its weight.

        An int of Python, and so exact. Under `jit` or `vmap`, and of a stack, an array of integers, or of floats where
        there may be more than integers of 32 bits can hold.
        """
        behind = self.components.n_background
        log_weights = self.log_weights[..., : self.n_clusters] if behind else self.log_weights
        if self.log_weights.ndim == 1 and not isinstance(self.log_weights, jax.core.Tracer):
            known = int(np.count_nonzero(np.asarray(log_weights) != -np.inf))
            return _n_parameters(self.components, known + behind)
        counts = [_n_parameters(self.components, count + behind) for count in range(log_weights.shape[-1] + 1)]
        present = jnp.sum(shares.present(log_weights), axis=-1)
        integers = max(counts) <= jnp.iinfo(jnp.int32).max
        return jnp.asarray(counts, jnp.int32 if integers else self.log_weights.dtype)[present]

    def take(self, places: Any) -> "Mixture":
        """The components at these `places` (j,), integers, in this order, their weights scaled to sum to one.

        A noise component stays the last: places end with it, or are without it, which makes a mixture of clusters.

        Raises:
            TypeError, ValueError: places that are not integers in a sequence, none, or, outside `jit`, that are not
                there or name absent components only.
        """
        mixture = check_mixture(self)
        places = checks.places("places", places, mixture.n_components, "component")
        log_weights = mixture.log_weights[places]
        if not checks.holds(lambda taken: np.any(taken > -np.inf), log_weights):
            raise ValueError(f"places is {np.asarray(places).tolist()}, where all components are absent; expected one.")
        return type(self)(jax.nn.log_softmax(log_weights), mixture.components.take(places))

    def sorted(self, by: str | int = "weight") -> "Mixture":
        """The same mixture with its components in order, so that the numbers of components mean something.

        Args:
            by: "weight", the heaviest first, or a column, a whole number from 0, or from -1 backwards, the least mean
                first. Equal ones keep their order, absent components come last, and a noise component after them.
                Static.

        Raises:
            TypeError, ValueError: neither "weight" nor the number of a column that is there.

        >>> import jaxgmm
        >>> mixture = jaxgmm.from_parameters([0.3, 0.7], [[1.0, 9.0], [2.0, 8.0]], [1.0, 1.0], "spherical")
        >>> mixture.sorted().means[:, 1].tolist(), mixture.sorted(by=0).means[:, 1].tolist()
        ([8.0, 9.0], [9.0, 8.0])
        """
        order = order_of(self, by)
        return type(self)(self.log_weights[order], self.components.take(order))

    @property
    def mean(self) -> Float[Array, "*batch d"]:
        """Expectation of the mixture as a whole (d,), in the units of the data."""
        return geometry.mean(self)

    @property
    def covariance(self) -> Float[Array, "*batch d d"]:
        """Covariance of the mixture as a whole (d, d): within components and between their means."""
        return geometry.covariance(self)

    def marginal(self, columns: Sequence[int]) -> "Mixture":
        """The mixture of these `columns` alone, in this order.

        Its structure is the same, but where covariances share volume, shape or axes: these become "full" or "diag".

        Args:
            columns: whole numbers from 0, or from -1 backwards, each column at most once. Static.

        Raises:
            TypeError, ValueError: columns that are traced, not whole numbers, none, not there, or named twice.
            NotImplementedError: a family of components without marginals.

        >>> import jaxgmm
        >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 1.0], [2.0, 3.0]], [[1.0, 4.0], [1.0, 9.0]], "diag")
        >>> mixture.marginal([-1]).means.tolist()
        [[1.0], [3.0]]
        """
        mixture = check_mixture(self)
        return geometry.marginal(mixture, checks.columns("columns", columns, mixture.n_columns))

    def condition(self, columns: Sequence[int], values: Any) -> "Mixture":
        """The mixture of the other columns, in their order, where `columns` are known to take `values`.

        With x = (u, v) and v known, each component's conditional gets the weight `w_k p_k(v) / p(v)`. Where p(v)
        underflows, the prior weights answer. Gaussians keep their structure, as in `marginal`; those of low rank become
        "full". For one distribution per row, use `vmap`; with `mean` and `covariance` this is Gaussian mixture
        regression, as below.

        Args:
            columns: as for `marginal`; not all of them. Static.
            values: (len(columns),), in the units of the data.

        Raises:
            TypeError, ValueError: as `marginal`, no column left, or values that do not fit or are not finite.
            NotImplementedError: a family of components without conditionals.

        Source: Ghahramani & Jordan (1994), NIPS 6.

        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> rising = [[1.0, 0.9], [0.9, 1.0]]
        >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [9.0, 3.0]], rising, "tied")
        >>> def regression(value):
        ...     given = mixture.condition([0], [value])
        ...     return given.mean[0], given.covariance[0, 0]
        >>> mean, variance = jax.vmap(regression)(jnp.array([1.0, 2.0, 9.0]))
        >>> [f"{value:.2f}" for value in mean], [f"{value:.2f}" for value in variance]
        (['0.90', '1.80', '3.00'], ['0.19', '0.19', '0.19'])
        """
        mixture = check_mixture(self)
        chosen = checks.columns("columns", columns, mixture.n_columns)
        if len(chosen) == mixture.n_columns:
            raise ValueError(
                f"columns names all {mixture.n_columns} columns, so none is left to have a distribution. Use log_prob "
                "for the density of a whole row."
            )
        known = checks.vector("values", values, len(chosen), f"of the columns {list(chosen)}")
        alone = Evidence(known[None], jnp.ones((1,), known.dtype))
        check_support(mixture.components.marginal(np.array(chosen)), alone, "values")
        checks.keep_digits("values", values, lambda rough: extents.of_whole(geometry.marginal(mixture, chosen), rough))
        return geometry.condition(*checks.common_dtype(mixture, known), chosen)

    def affine(self, matrix: Any, offset: Any = None) -> "Mixture":
        """The mixture of y = A x + b: projections, rotations, changes of units.

        Components of a Gaussian mixture have mean A m + b and covariance A S A^T. "full" and "tied" stay what they are,
        "tied-diag" and "tied-spherical" become "tied", and all others "full".

        Args:
            matrix: A, (m, d) with m <= d and independent rows.
            offset: b, (m,), in the units of y. Default zeros.

        Raises:
            TypeError, ValueError: shapes that do not fit, numbers that are not finite, or, outside `jit`, rows that
                depend on each other, or an offset that leaves too few digits to tell the components apart.
            NotImplementedError: a family of components that maps to none of its own.

        >>> import jaxgmm
        >>> mixture = jaxgmm.from_parameters([1.0], [[1.0, 2.0]], [[3.0, 4.0]], "diag")
        >>> total = mixture.affine([[1.0, 1.0]])
        >>> f"{total.means[0, 0]:.2f} {total.covariances[0, 0, 0]:.2f}"
        '3.00 7.00'
        """
        mixture = check_mixture(self)
        spread = jnp.sqrt(geometry.variances(mixture))
        matrix = checks.full_row_rank("matrix", matrix, spread)
        given = np.zeros(matrix.shape[0], matrix.dtype) if offset is None else offset
        offset = checks.vector("offset", given, matrix.shape[0], "row of matrix")
        image = geometry.affine(*checks.common_dtype(mixture, matrix, offset))
        if not any(isinstance(array, jax.core.Tracer) for array in jax.tree.leaves((given, image))):
            extents.check_shift("offset", mixture, matrix, given, image)
        return image

    def log_prob(self, x: Any) -> Float[Array, " n"]:
        """Log-density of each row of `x` (n, d): natural logarithm, per unit volume in the units of the data.

        Exactly -inf where the density underflows even its logarithm (beyond about 1e16 standard deviations in float32).
        Raises `ValueError` if `x` is not (n, d) with this mixture's d, or holds NaN or inf outside `jit`.

        >>> import jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], form="spherical")
        >>> [f"{value:.3f}" for value in mixture.log_prob(jnp.array([[0.0], [2.0]]))]
        ['-0.919', '-2.919']
        """
        return passes.log_prob_of(*check_rows(self, x, weighted=False))

    def responsibilities(self, x: Any) -> Float[Array, "n k"]:
        """Posterior probability of each component for each row of `x` (n, d); rows sum to one.

        r_ik = w_k p_k(x_i) / p(x_i). Where p(x_i) underflows for every component, the prior weights answer.
        Raises as `log_prob` does.
        """
        return passes.responsibilities_of(*check_rows(self, x, weighted=False))

    def predict(self, x: Any) -> Int[Array, " n"]:
        """Most probable component of each row of `x` (n, d), as an index into the components. Raises as `log_prob`."""
        return passes.predict_of(*check_rows(self, x, weighted=False))

    def entropy(self, x: Any) -> Float[Array, " n"]:
        """Doubt about the component of each row of `x` (n, d): entropy of its responsibilities, natural logarithm.

        -sum_k r_ik log r_ik, from 0 where one component is certain to log(k) where all k are equally probable. Its
        gradient is finite there too, far from all components, and where components are absent. Raises as `log_prob`.

        >>> import jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[-2.0], [2.0]], [1.0, 1.0], form="spherical")
        >>> [f"{value:.3f}" for value in mixture.entropy(jnp.array([[0.0], [2.0]]))]
        ['0.693', '0.003']
        """
        return passes.entropy_of(*check_rows(self, x, weighted=False))

    def sample(self, key: jax.Array, n: int) -> Float[Array, "n d"]:
        """`n` independent rows drawn with `key`; `n` is static. Raises `ValueError` or `TypeError` if n is not >= 1."""
        return self.sample_with_labels(key, n)[0]

    def sample_with_labels(self, key: jax.Array, n: int) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
        """The rows that `sample` draws with this key, and the component that each of them comes from."""
        return passes.sample_of(check_mixture(self), checks.key(key), checks.count("n", n))

    def unconstrain(self) -> Free:
        """The mixture in free coordinates, where an optimiser may move anywhere; their `constrain` leads back."""
        return Free(named(bounds.unconstrain(self)), jax.tree.structure(self))


def places_of(mixture: Mixture, n_clusters: int) -> np.ndarray:
    """Places of so many clusters, the first ones, and of what is behind them; of one mixture or a stack."""
    return np.concatenate([np.arange(n_clusters), np.arange(mixture.n_clusters, mixture.n_components)])


def order_of(mixture: Mixture, by: str | int) -> Int[Array, " k"]:
    """Places of the components in the order that `Mixture.sorted` gives them."""
    mixture = check_mixture(mixture)
    if isinstance(by, str) and by == "weight":
        return _ordered(mixture, -mixture.log_weights)
    if not hasattr(by, "__index__"):
        raise TypeError(f"by is {by!r}; expected 'weight' or a column, a whole number from 0.")
    (column,) = checks.columns("by", [by], mixture.n_columns)
    centers = mixture.components.centers[:, column]
    return _ordered(mixture, jnp.where(shares.present(mixture.log_weights), centers, jnp.inf))


def _ordered(mixture: Mixture, keys: Float[Array, " k"]) -> Int[Array, " k"]:
    """Places of the clusters by their keys, the least first, and of what is behind them."""
    if mixture.noise_component is None:
        return jnp.argsort(keys)
    return jnp.concatenate([jnp.argsort(keys[: mixture.n_clusters]), jnp.arange(mixture.n_clusters, keys.size)])


def present_clusters(mixture: Mixture) -> Bool[Array, " _"]:
    """Which of the components that are clusters have weight."""
    return of_clusters(mixture, mixture.log_weights > -jnp.inf)


def of_clusters(mixture: Mixture, values: Array) -> Array:
    """Of values of all components (k, ...) those of the clusters."""
    return values if mixture.noise_component is None else values[: mixture.n_clusters]


def check_stack(mixture: Any, name: str = "mixture") -> tuple[int, ...]:
    """The leading axes that all leaves of `mixture` share: () if it is one mixture, else those of a stack."""
    if not isinstance(mixture, Mixture):
        raise TypeError(no_mixture(name, mixture))
    shape = mixture.log_weights.shape[:-1]
    for path, leaf in jax.tree.leaves_with_path(mixture):
        if leaf.shape[: len(shape)] != shape:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has shape {leaf.shape}, and log_weights is a stack of shape "
                f"{shape}; expected every leaf to have the same leading axes, as jax.vmap gives."
            )
    return shape


def no_mixture(name: str, given: Any) -> str:
    """What to say of something else, free coordinates and results of fits among it."""
    within = next((part for part in ("constrain()", "mixture") if hasattr(given, part.rstrip("()"))), None)
    advice = f" Write {name}.{within} in its place." if within else ""
    return f"{name} is of type {type(given).__name__}; expected a jaxgmm.Mixture.{advice}"


def check_mixture(mixture: Any, name: str = "mixture") -> Mixture:
    """`mixture` if it is one mixture, finite where that can be seen."""
    if shape := check_stack(mixture, name):
        raise ValueError(
            f"{name} holds a stack of mixtures of shape {shape}; this takes a single one. Use jax.vmap over the stack."
        )
    extents.check_digits(name, mixture)
    if not checks.holds(lambda *leaves: all(np.all(leaf < np.inf) for leaf in leaves), *jax.tree.leaves(mixture)):
        raise ValueError(
            f"{name} holds NaN or infinite parameters, as a covariance that is not positive definite gives. "
            "Make it with from_parameters outside jit, which says which one."
        )
    return mixture


def check_pair(p: Any, q: Any) -> tuple[Mixture, Mixture]:
    """Two mixtures of the same columns and family, and of one floating point type."""
    p, q = check_mixture(p, "p"), check_mixture(q, "q")
    if p.n_columns != q.n_columns:
        raise ValueError(f"p has {p.n_columns} columns and q has {q.n_columns}; expected mixtures of the same columns.")
    if type(p.components) is not type(q.components):
        kinds = type(p.components).__name__, type(q.components).__name__
        raise TypeError(f"p has {kinds[0]} components and q has {kinds[1]}; expected mixtures of the same family.")
    if p.components.n_background:
        raise NotImplementedError(
            "p and q have a noise component, whose density is the same everywhere and has no finite integral: there is "
            "no distance of such mixtures, and no product. Write p.take(range(p.noise_component)) for the clusters "
            "alone."
        )
    return checks.common_dtype(p, q)


def check_rows(
    mixture: Any, x: Any, weights: Any = None, *, scored: bool = True, weighted: bool = True
) -> tuple[Mixture, Evidence]:
    """Mixture and rows, checked against each other and of one floating point type.

    Rows that are `scored`, and not fitted to, need the digits that this mixture can tell apart, whatever they are. They
    have weights if they are to be `weighted`.
    """
    mixture = check_mixture(mixture)
    check_unnamed(x)
    extent = functools.partial(extents.of_whole, mixture) if scored else None
    rows = known.evidence(x, weights, n_columns=mixture.n_columns, extent=extent, weighted=weighted)
    check_support(mixture.components, rows)
    return checks.common_dtype(mixture, known.of_components(rows, shares.present(mixture.log_weights)))


def check_unnamed(x: Any, name: str = "x") -> None:
    """Refuse names of columns: a pytree can hold none to compare them with, and their order may be another one."""
    names = frames.names_of(x)
    if len(names) > 1:
        shown = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
        instead = "schema.rows(x) in the place of x" if name == "x" else f"schema.rows(frame, {name}={name})"
        raise TypeError(
            f"{name} has columns with names, {shown}, and a mixture knows none, so that their order cannot be checked. "
            f"Write {instead}, with schema = jaxgmm.Schema.of(frame) of the frame that the mixture was made from. A "
            "Selection has it as its schema, and jaxgmm.load_schema reads it from a file."
        )


def _n_parameters(components: Family, n_components: int) -> int:
    return n_components - 1 + components.n_parameters(n_components)
