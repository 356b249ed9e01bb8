"""Rows and components in the directions in which the components differ most."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.ground.rows import Evidence
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.projection import projection as projection_of
from jaxgmm.model.recovery import impute
from jaxgmm.plot import canvas, kinds, scatter, shapes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = ["first direction", "second direction"]


def projection(
    mixture: Mixture,
    x: Any = None,
    ax: "Axes | None" = None,
    soft: bool = True,
    weights: Any = None,
    means: Any = 0.5,
) -> "Axes":
    """The two directions in which the components differ most, by `jaxgmm.projection`: rows, and ellipses over them.

    Along both axes the mixture as a whole has mean 0 and variance 1. Ellipses hold 50 and 95 % of each component, and
    rows have the colours that they have in all columns together. A row of which entries are missing is where it is
    expected to be, given the others, and its marker is hollow; its colour is what is seen of it says.

    Args:
        mixture: two components or more, with two columns or more.
        x: (n, d), a frame or an array, or what `jaxgmm.rows` makes of them. By default only the components are shown.
        ax: where to draw; by default a new figure.
        soft: as for `assignment`.
        weights: (n,), weights of the rows, shown as the areas of their markers. Rows of weight 0 are left out.
        means: as for `jaxgmm.projection`.

    Returns:
        The axes, with a legend for two to seven components over rows.

    Raises:
        ValueError: a stack of mixtures, one component, fewer than two columns, or rows of weight that are NaN or
            infinite.
        NotImplementedError: a family without affine images.
        ImportError: without matplotlib.
    """
    mixture = canvas.single(mixture)
    kinds.check_lines(mixture, "projection")
    if mixture.n_columns < 2:
        raise ValueError("mixture has 1 column; expected 2 or more. Use plot.histogram.")
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    found = projection_of(mixture, 2, means=means)
    flat = mixture.take(range(mixture.n_clusters)).affine(found.matrix, found.offset)
    ax = style.axes(ax)
    if rows is None:
        shapes.draw(ax, flat, np.array([0, 1]), (0.5, 0.95), shapes.palette(flat), fill=True)
        style.label(ax, _NAMES)
        return ax
    shown = rows.shown()
    flat_rows = _flat(mixture, shown, np.asarray(found.matrix, float), np.asarray(found.offset, float))
    canvas.aim(flat, flat_rows, ax)
    responsibilities = np.asarray(mixture.responsibilities(shown.known))
    scatter.points(ax, mixture, flat_rows, responsibilities, soft, hollow=np.isnan(shown.x).any(axis=1))
    shapes.draw(ax, flat, np.array([0, 1]), (0.5, 0.95), shapes.palette(flat), fill=False)
    scatter.outside(ax, flat_rows)
    style.label(ax, flat_rows.names)
    scatter.key(ax, mixture, len(flat_rows.x))
    return ax


def _flat(mixture: Mixture, rows: canvas.Rows, matrix: np.ndarray, offset: np.ndarray) -> canvas.Rows:
    """The rows in these directions, with what is not seen as it is expected."""
    gaps = bool(np.isnan(rows.x).any())
    whole = np.asarray(impute(mixture, jax.tree.map(jnp.asarray, rows.evidence)) if gaps else rows.x, float)
    z = (whole @ matrix.T + offset).astype(rows.x.dtype)
    evidence: Any = Evidence(z, rows.weights)  # type: ignore[arg-type]
    return canvas.Rows(z, rows.weights, _NAMES, canvas.near(z, rows.weights), evidence)
