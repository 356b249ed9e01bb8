"""What all pictures share: axes, colours, markers, legends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.model.mixture import Mixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's colours, told apart also by the colour-blind and, with the markers, in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# For what belongs to no component, or to one of more components than there are colours.
NEUTRAL = "#404040"
# For rows of a noise component.
NOISE = "#999999"

# Linear sRGB to the responses of the cones, and their cube roots to lightness, green-red and blue-yellow.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def pyplot() -> Any:
    """matplotlib's pyplot, or an error that says how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError('Pictures need matplotlib: pip install "jaxgmm[plot]".') from None
    return plt


def axes(ax: "Axes | None") -> "Axes":
    """The caller's axes, or those of a new figure."""
    return pyplot().subplots(layout="constrained")[1] if ax is None else ax


def legend(ax: "Axes", handles: Sequence[Any], **options: Any) -> None:
    """A legend beside the axes where the figure makes room for it, else where it covers least."""
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0, "frameon": False}
    place = beside if ax.figure.get_layout_engine() is not None else {"loc": "best"}
    ax.legend(handles=handles, **place, **options)


def label(ax: "Axes", names: Sequence[str] | None) -> None:
    """Names of the columns on the axes, where they are known."""
    if names is not None:
        for axis, name in zip((ax.xaxis, ax.yaxis), names, strict=False):
            axis.set_label_text(name)


def frame(ax: "Axes", plane: Any) -> None:
    """Axes that end where a map does."""
    ax.set(xlim=plane.ends[0], ylim=plane.ends[1])


def shades(name: str, low: float, high: float, n: int) -> np.ndarray:
    """So many steps of a part of one of matplotlib's colour maps."""
    return pyplot().get_cmap(name)(np.linspace(low, high, n))


def weights(mixture: Mixture) -> np.ndarray:
    """Of the components (k,), in numpy: outside of a program, each operation of JAX is compiled as one of its own."""
    return np.exp(np.asarray(mixture.log_weights))


def present(mixture: Mixture) -> np.ndarray:
    """Places of the components that have weight; what is behind them is not drawn as one."""
    return np.flatnonzero(weights(mixture)[: mixture.n_clusters] > 0)


def color(place: int) -> str:
    """Of the component that is number `place` of those present."""
    return COLORS[place % len(COLORS)]


def marker(place: int) -> str:
    """Likewise. Where colours come again, they do so with other markers."""
    return MARKERS[place % len(MARKERS)]


def blend(shares: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Colours (n, 3) mixed in these shares (n, k), evenly to the eye: means in Oklab (Ottosson, 2020)."""
    from matplotlib.colors import to_rgb

    encoded = np.array([to_rgb(one) for one in colors])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    mixed = shares @ (np.cbrt(linear @ _CONES.T) @ _OKLAB.T)
    linear = (mixed @ np.linalg.inv(_OKLAB).T) ** 3 @ np.linalg.inv(_CONES).T
    linear = np.clip(linear, 0, 1)
    return np.clip(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055), 0, 1)
