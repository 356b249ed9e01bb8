"""Parts of a mixture that a fit leaves as they are known to be."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.table import name_of
from jaxgmm.families.family import Family
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import record, static
from jaxgmm.model.mixture import Mixture, check_mixture
from jaxgmm.model.restricted import Restricted

EQUAL = "equal"


@record
class Frozen(Restricted):
    """An `objective`, climbed while parts of the mixture stay as they are in `values`; the others are estimated.

    Every step is the best one, or where means of single columns are held a better one, with what is held in its place,
    so that what is climbed never falls. What is held is an input: the fit has a derivative in it. Where a step has no
    such form, as for parameters in an order or full covariances of equal volume, write the mixture as a function of
    free parameters and fit these by optax, with `log_likelihood` as the loss.

    Fields:
        values: the mixture to which it is held, of as many components as are fitted or fewer, the first ones; such as
            the start of the fit. Where covariances are held, of the form that is fitted; means may be held in any
            with means and covariances, and weights in all. None if nothing is held but equal weights.
        weights: which weights are held: (k,), one truth for all, or "equal" for weights that are the same. The others
            share what is left.
        means: which means: (k,), (k, d) for single columns, or one truth for all.
        covariances: which covariances, or dispersions: (k,), (k, d) for single variances of "diag", or one truth for
            all, as there is of those that components share; of "tied-diag" also (d,).
        components: which components are held as a whole but for their weights: (k,), or one truth for all.
        objective: what is climbed; None for the likelihood.

    Masks are traced, so that other ones compile nothing. `objective.n_parameters(mixture)` is the number of free
    parameters, which `select` counts; `bic` and others, which know the mixture alone, count all.

    Sources: Meng & Rubin (1993), Biometrika 80, for means of single columns.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 1)).at[:100].add(4.0)
    >>> start = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [3.0]], [1.0, 1.0], "spherical")
    >>> held = jaxgmm.Frozen(start, means=[True, False])
    >>> fitted = jaxgmm.fit(start, x, objective=held).mixture
    >>> float(fitted.means[0, 0]), f"{fitted.means[1, 0]:.1f}", held.n_parameters(fitted)
    (0.0, '4.2', 4)
    """

    values: Any = None
    weights: Any = None
    means: Any = None
    covariances: Any = None
    components: Any = None
    objective: Any = None
    equal: bool = static(default=False, shown=False)

    @property
    def all_free(self) -> bool:
        return False

    @property
    def given(self) -> Bool[Array, " k"] | None:
        if self.values is None:
            return super().given
        if self.covariances is None or self.means is None:
            return self.components
        if _batched(self.values.components):
            covariances = jnp.all(self.covariances.reshape(self.means.shape[0], -1), axis=1)
        else:
            covariances = jnp.all(self.covariances)
        return jnp.all(self.means, axis=1) & covariances

    def checked(self, n_components: int, n_columns: int, dtype: Any) -> "Frozen":
        objective = self._climbed(n_components, n_columns, dtype)
        if isinstance(self.weights, str) and self.weights != EQUAL:
            raise ValueError(f"weights is {self.weights!r}; expected 'equal', or which of them are held.")
        equal = self.equal or isinstance(self.weights, str)
        if self.values is None and equal and self.means is self.covariances is self.components is None:
            return Frozen(objective=objective, equal=True)
        values = check_mixture(self.values, "values")
        _without_noise(values)
        k = values.n_components
        if k > n_components or values.n_columns != n_columns:
            raise ValueError(
                f"values has {k} components in {values.n_columns} columns; expected the {n_components} that are "
                f"fitted, or the first of them, in {n_columns} columns."
            )
        weights = _mask("weights", None if equal else self.weights, (k,), ((k,),))
        free = jnp.any(~weights) | (n_components > k)
        rest = 1 - jnp.sum(jnp.where(weights, jnp.exp(values.log_weights), 0))
        if not checks.holds(lambda free, rest: rest > 0 or not free, free, rest):
            raise ValueError(
                f"weights that are held sum to {1 - float(rest):g}, so nothing is left for the others; expected less "
                "than 1, or all of them held."
            )
        whole = _mask("components", self.components, (k,), ((k,),))
        means: Any = _mask("means", self.means, (k, n_columns), ((k,), (k, n_columns)))
        root, located = _root(values.components), _located(values.components)
        kind = _kind(values.components) if located else type(values.components).__name__
        if root is None and (self.covariances is not None or (located and self.components is not None)):
            raise NotImplementedError(
                f"{kind} components have no covariances that could be held apart from each other. "
                + ("Means and weights can." if located else "Frozen(values, components=...) holds whole ones.")
            )
        if not located:
            if self.means is not None:
                raise NotImplementedError(
                    f"{kind} components have no means that could be held apart from what they "
                    "are. Frozen(values, components=...) holds whole ones."
                )
            means = covariances = None
        elif root is None or self.covariances is self.components is None:
            covariances = None
            means = None if self.means is None else means
        else:
            covariances = _covariance_mask(self.covariances, root, _batched(values.components))
            means = means | whole[:, None]
            if _batched(values.components):
                covariances = covariances | whole.reshape((k,) + (1,) * (root.ndim - 1))
            elif self.components is not None and not checks.holds(lambda whole: ~np.any(whole), whole):
                raise ValueError(
                    "components share their covariance, so one of them cannot be held as a whole. Give means, and "
                    "covariances=True for the one covariance."
                )
        alike = located and any(leaf.ndim == 0 for leaf in jax.tree.leaves(values.components))
        if alike and not checks.holds(lambda whole: ~np.any(whole), whole):
            raise ValueError(
                f"{kind} components share a number that is estimated, so one of them cannot be held as a whole. Give "
                "means and covariances; StudentT.form(..., nu='each') has degrees of freedom of each."
            )
        places = np.minimum(np.arange(n_components), k - 1)
        more = n_components - k
        padded = Mixture(jnp.pad(values.log_weights, (0, more)), values.components.take(places))
        if covariances is not None and _batched(values.components):
            covariances = _padded(covariances, more)
        return Frozen(
            values=jax.tree.map(lambda leaf: leaf.astype(dtype), padded),
            weights=_padded(weights, more),
            means=None if means is None else _padded(means, more),
            covariances=covariances,
            components=None if self.components is None else _padded(whole, more),
            objective=objective,
            equal=equal,
        )

    def log_weights(self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]) -> Float[Array, " k"]:
        estimated = super().log_weights(mixture, counts, alive)
        if estimated is None:
            some = jnp.where(alive, counts, 1)
            estimated = jnp.where(alive, jnp.log(some), -jnp.inf)
        return self._with_held(estimated, mixture.log_weights > -jnp.inf)

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        sums = super().sums(mixture, counts, sums)
        if self.covariances is not None:
            sums = sums.by_number(counts)
        if self.values is None or self.means is None:
            return sums
        components: Any = mixture.components
        structure, moments = components.structure, sums
        mass = counts if moments.mass is None else moments.mass
        rows = jnp.where(mass > 0, mass, 1)[:, None]
        best = moments.first / rows
        short = jnp.where(self.means, best - (self.values.means - mixture.means), 0)
        short = short + _made_up(structure, short, self.means)
        move = best - short

        def scatter(differences: Float[Array, "k d"]) -> Float[Array, "..."]:
            scattered: Float[Array, "..."] = structure.scatter(differences[:, None, :], mass[None, :])
            return scattered

        # As moments whose own mean is where the components move: about it rows scatter by what it is short of theirs.
        second = moments.second - scatter(best) + scatter(short) + scatter(move)
        return dataclasses.replace(moments, first=rows * move, second=second)

    def placed(self, mixture: Mixture) -> Mixture:
        _without_noise(mixture)
        mixture = super().placed(mixture)
        components: Any = mixture.components
        present = mixture.log_weights > -jnp.inf
        log_weights = self._with_held(mixture.log_weights, present)
        if self.values is None:
            return Mixture(log_weights, components)
        held: Any = self.values.components
        if self.components is not None or self.covariances is not None:
            kinds: list[Any] = [jax.tree.structure(one) for one in (held, components)]
            same = kinds[0] == kinds[1]
        else:
            same = self.means is None or _located(components)
        if not same:
            raise TypeError(
                f"values is made of {_kind(held)} components, and {_kind(components)} ones are fitted; expected the "
                "same, as more than weights is held. Means alone may be those of any components with covariances."
            )
        if self.covariances is not None:
            covariance = jax.tree.map(
                lambda leaf, own: jnp.where(self.covariances, own, leaf), components.structure, held.structure
            )
            components = components.moved(components.means, covariance)
        elif self.components is not None:
            components = jax.tree.map(lambda leaf, own: _where(self.components, own, leaf), components, held)
        if self.means is not None:
            means = jnp.where(self.means, held.means, components.means)
            components = components.moved(means, components.structure)
            if self.components is not None:
                # What they have beside these.
                whole = held.moved(means, components.structure)
                components = jax.tree.map(
                    lambda leaf, own: leaf if leaf is own else _where(self.components, own, leaf), components, whole
                )
        return Mixture(log_weights, components)

    def n_parameters(self, mixture: Mixture) -> Any:
        held = self.checked(mixture.n_components, mixture.n_columns, mixture.log_weights.dtype)
        present = mixture.log_weights > -jnp.inf
        number = jnp.sum(present)
        weights = number - 1 if held.equal else jnp.minimum(jnp.sum(held.weights & present), number - 1)
        others: Any = 0
        components: Any = mixture.components
        if held.means is not None:
            others = jnp.sum(held.means & present[:, None])
        elif held.components is not None:
            of_one = components.n_parameters(2) - components.n_parameters(1)
            others = of_one * jnp.sum(held.components & present)
        if held.means is not None and held.components is not None:
            beside = components.n_parameters(2) - components.n_parameters(1) - components.means.shape[1]
            beside = max(0, beside - components.structure.factor.n_parameters)
            others = others + beside * jnp.sum(held.components & present)
        if held.covariances is not None:
            batched = _batched(components)
            shares = jnp.mean(held.covariances.reshape((present.size if batched else 1, -1)), axis=1)
            of_all = jnp.sum(jnp.where(present, shares, 0)) if batched else shares[0]
            others = others + components.structure.factor.n_parameters * of_all
        total = super(Frozen, held).n_parameters(mixture) - (weights + others)
        return total if isinstance(total, jax.core.Tracer) else round(float(total))

    def _with_held(self, log_weights: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """Weights, given up to a factor, that share what those that are held leave."""
        if self.equal:
            return jnp.where(present, -jnp.log(jnp.sum(present).astype(log_weights.dtype)), -jnp.inf)
        held = self.weights & present
        known = jnp.where(held, self.values.log_weights, -jnp.inf)
        # Where all are held, a rest of 0 has no part.
        rest = jnp.log1p(-jnp.sum(jnp.where(jnp.any(present & ~held), jnp.exp(known), 0)))
        # What is nowhere has a derivative all the same.
        free = present & ~held & (log_weights > -jnp.inf)
        finite = jnp.where(free, log_weights, 0)
        total = jax.scipy.special.logsumexp(finite, where=free)
        total = jnp.where(jnp.any(free), total, 0)
        return jnp.where(free, finite - total + rest, known)


def _made_up(structure: Any, short: Float[Array, "k d"], held: Bool[Array, "k d"]) -> Float[Array, "k d"]:
    """What the free columns of means are short of those of rows, given what the held ones are, where it is best."""
    k, d = short.shape
    columns = jnp.broadcast_to(jnp.eye(d, dtype=short.dtype), (k, d, d))
    white = structure.factor.inverse().times(columns)
    precision = linalg.einsum("kid,kjd->kij", white, white)
    unit = 1 / jnp.sqrt(jnp.diagonal(precision, axis1=1, axis2=2))
    relative = precision * unit[:, :, None] * unit[:, None, :]
    both = ~held[:, :, None] & ~held[:, None, :]
    factor = linalg.cholesky(jnp.where(both | jnp.eye(d, dtype=bool), relative, 0))
    inverse = linalg.tril_inverse(factor)
    slope = jnp.where(held, 0, linalg.einsum("kij,kj->ki", relative, short / unit))
    return -unit * jnp.where(held, 0, linalg.einsum("kji,kjl,kl->ki", inverse, inverse, slope))


def _kind(components: Family) -> str:
    """What components are, as users ask for them."""
    structure = name_of(getattr(components, "structure", None))
    options = [] if structure is None else [structure]
    fixed = [field.name for field in dataclasses.fields(components) if field.metadata.get("static")]  # type: ignore[arg-type]
    options += [f"{name}={getattr(components, name)}" for name in fixed]
    return f"{type(components).__name__}({', '.join(options)})"


def _located(components: Family) -> bool:
    """Whether components have means and covariances."""
    return getattr(components, "structure", None) is not None


def _without_noise(mixture: Mixture) -> None:
    if mixture.components.n_background:
        raise NotImplementedError(
            f"Frozen holds weights, means and covariances of clusters, and {type(mixture.components).__name__} "
            "components have a noise component beside them. Bounded and Posterior take them."
        )


def _root(components: Family) -> Array | None:
    """The array that holds the covariances of components; None where none does alone."""
    structure = getattr(components, "structure", None)
    if structure is None:
        return None
    root, *others = jax.tree.leaves(structure)
    return None if others else jnp.asarray(root)


def _batched(components: Family) -> bool:
    """Whether each component has a covariance of its own."""
    structure: Any = components
    return bool(structure.structure.factor.batch)


def _mask(name: str, value: Any, shape: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]) -> Bool[Array, "..."]:
    """Truths of one of these shapes, or a single one, in the `shape` of what they are about."""
    given = jnp.asarray(False if value is None else value)
    if given.dtype != bool:
        raise TypeError(f"{name} has dtype {given.dtype}; expected truths: True where it is held.")
    if given.shape not in ((), *shapes):
        expected = " or ".join(str(one) for one in shapes)
        raise ValueError(f"{name} has shape {given.shape}; expected {expected}, or one truth for all.")
    if given.ndim:
        given = given.reshape(given.shape + (1,) * (len(shape) - given.ndim))
    return jnp.broadcast_to(given, shape)


def _covariance_mask(value: Any, root: Array, batched: bool) -> Bool[Array, "..."]:
    """In a shape that goes with the array that holds the covariances."""
    if batched:
        shape = (root.shape[0], *(root.shape[1:] if root.ndim == 2 else (1,) * (root.ndim - 1)))
        return _mask("covariances", value, shape, (shape[:1], shape))
    shape = root.shape if root.ndim == 1 else (1,) * root.ndim
    return _mask("covariances", value, shape, (shape,))


def _padded(mask: Bool[Array, "k ..."], more: int) -> Bool[Array, "..."]:
    """With nothing held of so many components more."""
    return jnp.pad(mask, [(0, more)] + [(0, 0)] * (mask.ndim - 1))


def _where(mask: Bool[Array, " k"], a: Array, b: Array) -> Array:
    """Component by component."""
    return jnp.where(mask.reshape((-1,) + (1,) * (b.ndim - 1)), a, b)
