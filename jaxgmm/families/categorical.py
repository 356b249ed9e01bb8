"""Categorical components: names, as whole numbers that stand for them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.bernoulli import BLUR, least_share, shares_above
from jaxgmm.families.columnwise import Columnwise, Entries, EntrySums
from jaxgmm.families.family import Form, Views
from jaxgmm.families.support import Axis, Support
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.bounds import log_simplex
from jaxgmm.ground.pytree import Leaf, record

_NO_MOMENTS = (
    "Categorical components have no means and no covariances, as their codes stand for names; expected "
    "mixture.components.probabilities, (k, d, levels)."
)


@record
class Categorical(Columnwise):
    """Independent columns, in each of which every one of L levels has a probability of its own.

    Rows hold codes, whole numbers from 0 to L - 1, as floating point numbers; NaN for what is not known, with
    `jaxgmm.rows(x, missing="nan")`.

    Fields: `log_probabilities` (k, d, L), natural logarithms.

    A fit keeps probabilities at the floor or above it, so that no row is impossible for a level that no row of a
    component has shown so far.
    """

    log_probabilities: Leaf = log_simplex()

    support: ClassVar[Support] = "codes"
    discrete: ClassVar[bool] = True

    @classmethod
    def form(cls, levels: Any) -> Form:
        """Columns of so many `levels` each: one number, or one for each column, which makes a `Product`.

        Raises:
            TypeError, ValueError: no whole numbers from 2.
        """
        if isinstance(levels, Sequence) and not isinstance(levels, str):
            from jaxgmm.families.product import Product

            numbers = [checks.count("levels", number, 2) for number in levels]
            if len(set(numbers)) != 1:
                by_number = {n: tuple(i for i, m in enumerate(numbers) if m == n) for n in dict.fromkeys(numbers)}
                return Product.form({columns: cls.form(number) for number, columns in by_number.items()})
            levels = numbers[0]
        levels = checks.count("levels", levels, 2)
        return Form(cls, (("levels", levels),), f"Categorical(levels={levels})")

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *, levels: int
    ) -> "Categorical":
        return cls(jnp.full((n_components, center.size, levels), -np.log(levels), center.dtype))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        return ((np.arange(x.shape[1]), _marks(x, options["levels"]).astype(x.dtype)),)

    def impossible(self, x: np.ndarray) -> np.ndarray | None:
        return ~((x >= 0) & (x < self.log_probabilities.shape[-1]) & (x == np.floor(x)))

    def expects(self, column: int) -> str:
        return f"Categorical components are of codes here: whole numbers from 0 to {self.n_levels - 1}"

    def axis(self, column: int) -> Axis:
        return Axis(0.0, self.n_levels - 1.0, whole=True)

    @property
    def n_levels(self) -> int:
        """Number of levels of each column, L."""
        return int(self.log_probabilities.shape[-1])

    @property
    def probabilities(self) -> Float[Array, "*batch k d L"]:
        """Of each level, (k, d, L)."""
        return jnp.exp(self.log_probabilities)

    @property
    def means(self) -> Array:
        """There are none, as codes stand for names."""
        raise NotImplementedError(_NO_MOMENTS)

    @property
    def covariances(self) -> Array:
        """There are none."""
        raise NotImplementedError(_NO_MOMENTS)

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        return jnp.argmax(self.log_probabilities, axis=-1).astype(self.log_probabilities.dtype)

    def variances(self) -> Float[Array, "*batch k d"]:
        """Of the codes, for what looks at nothing but their size."""
        codes = jnp.arange(self.n_levels, dtype=self.log_probabilities.dtype)
        means = jnp.sum(self.probabilities * codes, axis=-1, keepdims=True)
        return jnp.sum(self.probabilities * (codes - means) ** 2, axis=-1)

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        marks = _marks(x, self.n_levels)
        each = jnp.sum(jnp.where(marks, self.log_probabilities[:, :, None, :], 0), axis=-1)
        return jnp.where(jnp.any(marks, axis=-1), each, -jnp.inf)

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "d n L"]]:
        return (_marks(x, self.n_levels).astype(x.dtype),)

    def log_prob_of(self, rows: Entries) -> Float[Array, "n k"]:
        # One product for all columns and levels.
        marks = self._seen_marks(rows)
        inside = jnp.any(_marks(rows.x, self.n_levels), axis=-1)
        inside = jnp.all(inside if rows.seen is None else inside | ~rows.seen, axis=0)
        # What has no probability is beyond all others, and times 0 is 0.
        logs = jnp.maximum(self.log_probabilities, -2 * linalg.saturation(rows.x.dtype))
        logs = jnp.reshape(logs, (-1, marks.shape[0]))
        return jnp.where(inside, linalg.einsum("kp,pn->kn", logs, marks), -jnp.inf).T

    def sums_of(self, rows: Entries, responsibilities: Float[Array, "n k"]) -> EntrySums:
        found = linalg.einsum("nk,pn->kp", responsibilities, self._seen_marks(rows))
        found = jnp.reshape(found, self.log_probabilities.shape)
        return EntrySums((found,), jnp.sum(found, axis=-1))

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d L"], ...], floor: Float[Array, " d"]
    ) -> tuple["Categorical", Bool[Array, "k d"]]:
        shares = sums[0] / mass[:, :, None]
        least = least_share(floor, self.n_levels)[:, None]
        return type(self)(jnp.log(shares_above(shares, least))), jnp.zeros(mass.shape, bool)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Categorical", Bool[Array, " k"]]:
        least = least_share(floor, self.n_levels)[:, None]
        return type(self)(jnp.log(shares_above(self.probabilities, least))), jnp.zeros(alive.shape, bool)

    @classmethod
    def blur(cls, **options: Any) -> float:
        # A probability at the floor takes many steps to leave it.
        return BLUR

    def pseudo_terms(self, mean: Float[Array, " d"]) -> tuple[Float[Array, "d L"]]:
        return (jnp.full((mean.size, self.n_levels), 1 / self.n_levels, mean.dtype),)

    def log_density_of_terms(self, terms: tuple[Float[Array, "d L"], ...]) -> Float[Array, "k d"]:
        return jnp.sum(terms[0] * self.log_probabilities, axis=-1)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        drawn = jax.random.categorical(key, self.log_probabilities[labels])
        return drawn.astype(self.log_probabilities.dtype)

    def information(self, weights: Float[Array, " k"]) -> "Categorical":
        return type(self)(weights[:, None, None] * self.probabilities)

    def n_parameters(self, n_components: int) -> int:
        return n_components * self.n_columns * (self.n_levels - 1)

    def _seen_marks(self, rows: Entries) -> Float[Array, "p n"]:
        """1 for the level that an entry holds, all levels of all columns."""
        levels = jnp.arange(self.n_levels, dtype=rows.x.dtype)[:, None]
        marks = rows.x[:, None, :] == levels
        marks = marks if rows.seen is None else marks & rows.seen[:, None, :]
        return jnp.reshape(marks.astype(rows.x.dtype), (-1, rows.x.shape[1]))


def _marks(x: Float[Array, "..."], levels: int) -> Bool[Array, "... L"]:
    return x[..., None] == jnp.arange(levels, dtype=x.dtype)
