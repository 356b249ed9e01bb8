"""Components as ellipses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, kinds, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Shares of the largest weight's opacity and line width that a component keeps however small its weight is.
_LEAST = 0.3
# Over rows, ellipses up to so many times the size of the picture have it grow. Of larger ones its edges are as straight
# if they are no larger than this, and matplotlib takes as long as an ellipse is large.
_ROOM, _LARGEST = 3, 1e4


def ellipses(
    mixture: Mixture,
    ax: "Axes | None" = None,
    levels: Sequence[float] = (0.5, 0.95),
    colors: Sequence[str] | str | None = None,
    fill: bool = True,
) -> "Axes":
    """An ellipse of each component of a mixture in two columns for each level, stronger the larger its weight.

    An ellipse of level p holds the share p of a Gaussian component: (x - m)^T S^-1 (x - m) <= -2 log(1 - p). For other
    families it is that of the Gaussian with the same mean and covariance. Components without weight are left out. The
    axes make room for all, but over rows or a map, which are to be drawn first, not for what is more than three times
    as large as these.

    Args:
        mixture: of any family and structure, with two columns.
        ax: where to draw; by default a new figure.
        levels: shares of the probability, between 0 and 1.
        colors: one for all, or one for each of the k components. By default up to seven are told apart, and more
            have the same neutral one.
        fill: whether to shade them.

    Returns:
        The axes. Each component's outermost ellipse has a label, so that `ax.legend()` names them.

    Raises:
        ValueError: a stack of mixtures, another number of columns, or levels outside of 0 to 1.
        NotImplementedError: a column of levels or angles, along which nothing has a mean and a width.
        ImportError: without matplotlib.

    >>> import jaxgmm
    >>> from jaxgmm import plot
    >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [4.0, 4.0]], [[1.0, 1.0], [2.0, 0.5]], "diag")
    >>> len(plot.ellipses(mixture).patches)
    4
    """
    mixture = canvas.single(mixture, 2)
    kinds.check_lines(mixture, "ellipses")
    masses, chosen = shares(levels), palette(mixture, colors)
    ax = style.axes(ax)
    draw(ax, mixture, np.array([0, 1]), masses, chosen, fill)
    return ax


def draw(
    ax: "Axes",
    mixture: Mixture,
    columns: np.ndarray,
    levels: Sequence[float],
    colors: dict[int, str],
    fill: bool,
) -> None:
    """The ellipses in these two columns of a mixture in any number of them."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Ellipse

    radii = np.sqrt(-2 * np.log1p(-np.array(levels)))
    kept = style.present(mixture)
    weights = style.weights(mixture).astype(float)
    means = np.asarray(mixture.means, float)[:, columns]
    covariances = canvas.covariances(mixture)[:, columns[:, None], columns]
    # Over rows or a map, what is much larger than these is cut.
    per_picture = 1 / np.abs(np.diff([ax.get_xlim(), ax.get_ylim()])) if ax.collections else np.zeros((2, 1))
    # The smallest on top, so that none is hidden.
    for place in kept[np.argsort(-np.linalg.det(covariances[kept]), kind="stable")].tolist():
        variances, directions = np.linalg.eigh(covariances[place])
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        strength = _LEAST + (1 - _LEAST) * np.sqrt(weights[place] / weights.max())
        for rank, radius in enumerate(radii[::-1]):
            lengths = 2 * radius * np.sqrt(np.maximum(variances, 0))
            minor, major = lengths / np.maximum(
                1, np.max(lengths * np.abs(directions) * per_picture, axis=0) / _LARGEST
            )
            patch = Ellipse(
                means[place],
                major,
                minor,
                angle=angle,
                ec=to_rgba(colors[place], strength),
                fc=to_rgba(colors[place], 0.15 * strength) if fill else "none",
                lw=1.8 * strength,
                label="_" if rank else f"component {place}",
                zorder=2.5,
            )
            widths = 2 * radius * np.sqrt(np.diag(covariances[place]))
            # `add_artist` leaves the limits as they are.
            (ax.add_patch if np.all(widths * per_picture[:, 0] <= _ROOM) else ax.add_artist)(patch)
    ax.autoscale_view()


def palette(mixture: Mixture, colors: Sequence[str] | str | None = None) -> dict[int, str]:
    """A colour for each component that is present."""
    kept = style.present(mixture).tolist()
    n_components = mixture.n_clusters
    if colors is None:
        several = len(kept) <= len(style.COLORS)
        return {place: style.color(rank) if several else style.NEUTRAL for rank, place in enumerate(kept)}
    if isinstance(colors, str):
        return dict.fromkeys(kept, colors)
    if len(colors) != n_components:
        raise ValueError(f"colors holds {len(colors)} colours; expected one, or {n_components}, one per component.")
    return {place: colors[place] for place in kept}


def shares(levels: Sequence[float]) -> list[float]:
    """Levels in ascending order."""
    ordered = sorted(float(level) for level in np.atleast_1d(levels))
    if not ordered or not (ordered[0] > 0 and ordered[-1] < 1):
        raise ValueError(f"levels is {levels!r}; expected shares of the probability between 0 and 1, such as 0.95.")
    return ordered
