"""What is fitted, before there are numbers in it."""

import dataclasses
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float

if TYPE_CHECKING:
    from jaxgmm.families.family import Family
else:  # whose method makes these
    Family = Any


@dataclasses.dataclass(frozen=True)
class Form:
    """A family, and what is decided about its components beforehand. Made by `Family.form`, such as `StudentT.form`.

    Hashable and compared by value: a program is compiled for it. Wherever a form is asked for, "full" is short for
    `Gaussian.form("full")`, and so on for all names of covariance structures.

    Fields: `family`; `options`, what its `blank` is given besides; `name`, as tables show it.

    >>> import jaxgmm
    >>> jaxgmm.StudentT.form("diag", nu=5).name
    'StudentT(diag, nu=5)'
    """

    family: type[Family]
    options: tuple[tuple[str, Hashable], ...]
    name: str

    def blank(self, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> Family:
        """Equal components at the center of the data, as wide as these are, where seeding takes its statistics."""
        return self.family.blank(n_components, center, scale, **dict(self.options))

    def __str__(self) -> str:
        return self.name
