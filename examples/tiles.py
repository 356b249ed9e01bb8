"""
How many colours in each tile of a picture
==========================================

Cut a photograph into 672 tiles, and ask each of them by itself how many colours it has. That is 672 small data sets of
three columns, four thousand mixtures of one to six components from several starts each, and a choice for every tile:
`select_many` takes all of them in one call and answers with a table.

Where there is one colour only, in the sky and on the lake, nothing is to be seen. Where there are three and more,
something has been painted.
"""

# %%
# The tiles
# ---------
# The picture is scikit-learn's ``china.jpg``. Colours are taken to CIELAB, where distances are about what the eye sees:
# lightness, green to red, blue to yellow. Two things in a picture would keep a mixture from counting colours. They come
# in steps, so that many pixels are equal and a component can close in on them. And the sky has hundreds of shades that
# nobody tells apart. Both go with a little noise: two shades have to differ by about 2.3 to be told apart, and groups
# closer than two standard deviations make one hump. So its standard deviation is half of that.
#
# Neighbouring pixels repeat each other, which BIC would count as evidence. Only every second one across and down is
# taken, a hundred of each tile.

import time

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

import jaxgmm
from jaxgmm import plot

TILE = 20  # pixels across and down
STEP = 2
MOST = 6
N_RESTARTS = 4
VISIBLE = 2.3

picture = load_sample_image("china.jpg")
up, across = picture.shape[0] // TILE, picture.shape[1] // TILE
picture = picture[: up * TILE, : across * TILE]


def to_lab(rgb):
    """CIELAB under daylight (D65) of sRGB colours between 0 and 1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2127, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9503]])
    xyz = xyz / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def pieces(image, step=1):
    """Those of an image by row and column."""
    cut = {
        (row, column): np.s_[row * TILE : (row + 1) * TILE : step, column * TILE : (column + 1) * TILE : step]
        for row in range(up)
        for column in range(across)
    }
    return {name: image[where] for name, where in cut.items()}


lab = to_lab(picture / 255) + np.random.default_rng(0).normal(scale=VISIBLE / 2, size=picture.shape)
tiles = {name: piece.reshape(-1, 3) for name, piece in pieces(lab, STEP).items()}

# %%
# One call
# --------
# Its text is a table of the tiles by their number of colours. A pixel that stands alone is no component, and is set
# aside. That no tile has six says that the range was wide enough.

start = time.process_time()
found = jaxgmm.select_many(jax.random.key(0), tiles, range(1, MOST + 1), "full", n_restarts=N_RESTARTS)
print(f"{len(tiles)} tiles, {MOST} numbers of components, {N_RESTARTS} starts: ", end="")
print(f"{time.process_time() - start:.0f} s of processor time, compilation included")
print(found)

# %%
# The map
# -------
# Beside the picture: how many colours each tile has. The pagoda stands out, and the trees against the sky. Leaves by
# themselves are one colour or two, wide ones with many shades.

counts = found.n_components.reshape(up, across)
figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained", width_ratios=(1.5, 1.5, 1))
axes[0].imshow(picture)
shown = axes[1].imshow(counts, plt.get_cmap("magma", MOST), vmin=0.5, vmax=MOST + 0.5)
figure.colorbar(shown, ax=axes[1], ticks=range(1, MOST + 1), label="colours")
for ax in axes[:2]:
    ax.set(xticks=[], yticks=[])
plot.selections(found, axes[2])
axes[2].set(xlabel="colours", ylabel="tiles")

# %%
# Some of the tiles
# -----------------
# Of each number of colours the tile where it is surest: where the next candidate is furthest behind. Above the tile,
# below its pixels in lightness and blue to yellow, by component. The second one is water with a boat of a few pixels.

surest = [
    max(
        (name for name, k in zip(found.names, found.n_components, strict=True) if k == wanted),
        key=lambda name: found.behind[found.names.index(name)],
    )
    for wanted in np.unique(found.n_components)
]
figure, axes = plt.subplots(2, len(surest), figsize=(2.4 * len(surest), 4.8), layout="constrained", squeeze=False)
for ax, name in zip(axes[0], surest, strict=True):
    ax.imshow(pieces(picture)[name])
    ax.set(xticks=[], yticks=[])
plot.multiples(found, tiles, surest, columns=[0, 2], axes=axes[1])
for ax in axes[1]:
    ax.set(xlabel="lightness", ylabel="blue to yellow")
plt.show()
