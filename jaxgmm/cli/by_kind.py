"""What components are like in columns of every kind: probabilities of levels, means and standard deviations."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm.ground.programs import program

if TYPE_CHECKING:
    from jaxgmm.cli.applying import Loaded


def has_kinds(model: "Loaded") -> bool:
    """Whether any of the columns is of levels, or families were asked for."""
    return "families" in model.metadata.get("fit", {}) or any(_n_levels(model.mixture))


def described(model: "Loaded") -> dict[str, dict[str, Any]]:
    """For each column the probabilities of its `levels` (k, L), or a `mean` and `sd` for each component."""
    numbers = _n_levels(model.mixture)
    found = jax.device_get(_read(model.mixture, numbers))
    known = [None] * len(numbers) if model.schema is None else list(model.schema.levels)
    families = model.metadata.get("fit", {}).get("families", {})
    columns = {}
    for name, number, own, values in zip(model.columns, numbers, known, found, strict=True):
        family = {"family": families[name]} if name in families else {}
        if number:
            # Room for one more than there are, as two are the least.
            levels = list(range(number)) if own is None else list(own)
            columns[name] = family | {"levels": levels, "probabilities": values.T[:, : len(levels)]}
        else:
            columns[name] = family | {"mean": values[0], "sd": values[1]}
    return columns


def _n_levels(mixture: jaxgmm.Mixture) -> tuple[int, ...]:
    """How many levels each column has, 0 where it holds other numbers."""
    return tuple(mixture.components.axis(column).n_levels or 0 for column in range(mixture.n_columns))


@program(static=("numbers",))
def _read(mixture: jaxgmm.Mixture, numbers: tuple[int, ...]) -> list[Any]:
    found: list[Any] = []
    for column, number in enumerate(numbers):
        own: Any = mixture.components.marginal(np.array([column]))
        if number:
            codes = jnp.arange(number, dtype=mixture.log_weights.dtype)
            found.append(jnp.exp(own.log_prob(codes[:, None])))
        else:
            found.append((own.means[:, 0], jnp.sqrt(own.variances()[:, 0])))
    return found
