"""The one table from the public names of covariance structures to what they are made of."""

import re
from typing import Any

from jaxgmm.covariance.kinds import Composed, Kind
from jaxgmm.covariance.scale import Scale
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.structure import Each, Shared, Structure
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground import checks

_COMPOSED: dict[str, Composed] = {
    "full": Composed(Each, Tril),
    "tied": Composed(Shared, Tril),
    "diag": Composed(Each, Scales),
    "tied-diag": Composed(Shared, Scales),
    "spherical": Composed(Each, Scale),
    "tied-spherical": Composed(Shared, Scale),
}
NAMES = (*_COMPOSED, "VEI", "EVI", "VEE", "EVV", "EEV", "VEV", "EVE", "VVE")
"""Of all structures but those of low rank, of which there is one for each rank."""
LETTERS = {
    "EII": "tied-spherical",
    "VII": "spherical",
    "EEI": "tied-diag",
    "VEI": "VEI",
    "EVI": "EVI",
    "VVI": "diag",
    "EEE": "tied",
    "VEE": "VEE",
    "EVE": "EVE",
    "VVE": "VVE",
    "EEV": "EEV",
    "VEV": "VEV",
    "EVV": "EVV",
    "VVV": "full",
}
"""The fourteen models of volume, shape and orientation, each equal (E), varying (V) or none (I), by their names here.

Source: Celeux & Govaert (1995), Pattern Recognit. 28; Banfield & Raftery (1993), Biometrics 49, for the letters.
"""

_LOW_RANK = re.compile(r"lowrank-([1-9]\d{0,5})(?:-(tied-diag|spherical|tied-spherical))?")


def names_shown(quoted: bool = True) -> str:
    """All names, for messages."""
    names = ", ".join(map(repr, NAMES) if quoted else NAMES)
    low_rank, letters = ("'lowrank-2'", "'VVV'") if quoted else ("lowrank-2", "VVV")
    return f"{names}, {low_rank} for two factors and so on, or letters such as {letters}"


def known_as(name: Any, what: str = "covariance") -> str:
    """The name of a structure that may be given by its letters; `ValueError` naming the known ones if there is none."""
    if not isinstance(name, str) or not (name in LETTERS or name in NAMES or _LOW_RANK.fullmatch(name)):
        raise ValueError(f"{what} is {checks.found(name)}; expected one of {names_shown()}.")
    return LETTERS.get(name, name)


def structure_of(name: str) -> Kind:
    """The structure called `name`; `ValueError` naming the known ones if there is none."""
    name = known_as(name)
    if name in _COMPOSED:
        return _COMPOSED[name]
    from jaxgmm.covariance import compositions

    if found := _LOW_RANK.fullmatch(name):
        return compositions.Thin(int(found[1]), _COMPOSED[found[2] or "diag"])
    return compositions.COMPOSITIONS[name]


def name_of(structure: Structure | None) -> str | None:
    """The name of a structure; None if it has none, or if there is none."""
    if structure is None:
        return None
    if found := _name_among(_COMPOSED, structure):
        return found
    from jaxgmm.covariance import compositions

    if low_rank := compositions.rank_and_noise(structure):
        rank, noise = low_rank
        kind = _name_among(_COMPOSED, noise)
        name = f"lowrank-{rank}" + ("" if kind == "diag" else f"-{kind}")
        return name if _LOW_RANK.fullmatch(name) else None
    return _name_among(compositions.COMPOSITIONS, structure)


def _name_among(kinds: Any, structure: Any) -> str | None:
    return next((name for name, one in kinds.items() if one.made(structure)), None)
