"""Draw the picture that README and the first page show: `python docs/picture.py` writes docs/_static/faithful.png."""

import io
from pathlib import Path

import jax
import matplotlib
import numpy as np
from PIL import Image

import jaxgmm
from jaxgmm import plot

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NAMES = ("eruption length (min)", "waiting time (min)")

x = np.loadtxt(HERE.parent / "examples" / "data" / "faithful.csv", delimiter=",", skiprows=1)
found = jaxgmm.fit_restarts(jax.random.key(0), x, 2).best.mixture
mixture = found.take(np.argsort(found.means[:, 0]))
pull = jax.grad(lambda weights: jaxgmm.fit(mixture, x, weights).mixture.means[0, 1])(np.ones(len(x)))
seconds = 60 * np.asarray(pull)

plt.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left"})
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1), layout="constrained", sharey=True)
plot.assignment(mixture, x, left)
plot.ellipses(mixture, left)
left.get_legend().remove()
left.set(xlabel=NAMES[0], ylabel=NAMES[1], title="Two components of 272 eruptions")
most = np.abs(seconds).max()
points = right.scatter(*x.T, c=seconds, cmap="RdBu_r", vmin=-most, vmax=most, s=14, edgecolor="0.4", linewidth=0.3)
bar = figure.colorbar(points, ax=right, label="seconds", aspect=30)
bar.outline.set_visible(False)
right.set(xlabel=NAMES[0], title="Pull of each on the mean wait after short ones")

drawn = io.BytesIO()
figure.savefig(drawn, dpi=110)
# Few colours are enough, and make a small file.
picture = Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE)
picture.save(HERE / "_static" / "faithful.png", optimize=True)
