"""
Calm and turbulent quarters of an economy
=========================================

Do the quarters of an economy come in kinds? The data are statsmodels' ``macrodata``, the United States from 1959 to
2009: the growth of the gross domestic product and the change of the rate of unemployment, 202 quarters. A mixture sorts
them into regimes without being told the dates, and is then held against what is known of them: the recessions as dated
by the National Bureau of Economic Research, and the Great Moderation, the calm from about 1984 on (Kim & Nelson 1999,
Rev. Econ. Stat. 81).
"""

# %%
# The quarters
# ------------

import jax
import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm

import jaxgmm
import jaxgmm.plot

N_RESTARTS = 20
MOST_COMPONENTS = 5

data = sm.datasets.macrodata.load_pandas().data
growth = 400 * np.diff(np.log(data.realgdp))  # percent a year
unemployment = np.diff(data.unemp)  # points
x = np.stack([growth, unemployment], axis=1)
date = np.asarray(data.year + (data.quarter - 1) / 4)[1:]
# Each recession from the quarter of its peak to that of its trough.
RECESSIONS = (
    (1960.25, 1961.0), (1969.75, 1970.75), (1973.75, 1975.0), (1980.0, 1980.5), (1981.5, 1982.75), (1990.5, 1991.0),
    (2001.0, 2001.75), (2007.75, 2009.25),
)  # fmt: skip
recession = np.any([(date >= first) & (date <= last) for first, last in RECESSIONS], axis=0)
print(f"{len(x)} quarters, {recession.sum()} of them in recession")

# %%
# How many kinds?
# ---------------
# BIC weighs structures and numbers of components against each other.

table = jaxgmm.select(jax.random.key(0), x, range(1, MOST_COMPONENTS + 1), ("full", "tied"), n_restarts=N_RESTARTS)
print("\n".join(repr(table).splitlines()[:5]))
mixture = table.best.mixture
mixture = mixture.take(np.linalg.det(np.asarray(mixture.covariances)).argsort())  # the calmest first
responsibilities = np.asarray(mixture.responsibilities(x))
turbulent = responsibilities[:, -1]
for k, (weight, mean, covariance) in enumerate(
    zip(mixture.weights, mixture.means, mixture.covariances, strict=True), start=1
):
    spread = np.sqrt(np.diagonal(covariance))
    print(
        f"regime {k}: {weight:.0%} of the quarters, growth {mean[0]:.1f} +- {spread[0]:.1f} % a year, "
        f"unemployment {mean[1]:+.2f} +- {spread[1]:.2f} points"
    )

# %%
# What the regimes are
# --------------------
# They differ in spread far more than in mean: one regime is not "recession" but "turbulent", and its quarters are the
# booms as well as the slumps. Five quarters of recession in six fall into it, and a third of the others.
#
# A mixture takes the quarters as if their order did not matter. It does: a turbulent quarter is followed by another in
# 59 % of all cases, a calm one in 21 %. A Markov-switching model, statsmodels' ``MarkovRegression`` of the growth with
# two means and variances, knows that, and sees the Great Moderation far more clearly: 95 % of the time before 1984 is
# turbulent to it and 25 % of the time after, against 52 % and 33 % for the mixture. Where order matters, it is the
# better description. The mixture is the simpler one, takes two columns as easily as one, and judges every quarter by
# itself: a calm one amid turbulent years is calm.

late = date >= 1984
print(
    f"turbulent before 1984: {turbulent[~late].mean():.0%} of the quarters; from 1984 on {turbulent[late].mean():.0%}"
)
print(f"turbulent in recessions: {turbulent[recession].mean():.0%}; outside them {turbulent[~recession].mean():.0%}")
after = turbulent[:-1] > 0.5
again = np.mean(turbulent[1:][after] > 0.5), np.mean(turbulent[1:][~after] > 0.5)
print(f"turbulent after a turbulent quarter: {again[0]:.0%}; after a calm one {again[1]:.0%}")
chain = sm.tsa.MarkovRegression(growth, k_regimes=2, switching_variance=True).fit(search_reps=0)
smoothed = chain.smoothed_marginal_probabilities
smoothed = smoothed[:, np.argmax(chain.params[-2:])]
print(f"Markov switching, before 1984: {smoothed[~late].mean():.0%}; from 1984 on {smoothed[late].mean():.0%}")

CALM, TURBULENT = "#0072b2", "#d55e00"
figure, axes = plt.subplot_mosaic(
    [["growth", "scatter"], ["probability", "scatter"]], figsize=(13, 5.6), width_ratios=[1.7, 1], layout="constrained"
)
for name in ("growth", "probability"):
    for first, last in RECESSIONS:
        axes[name].axvspan(first, last + 0.25, color="0.85", lw=0)
    axes[name].axvline(1984, color="0.3", lw=0.8, ls=(0, (4, 3)))
    axes[name].set_xlim(date[0], date[-1] + 0.25)
sure = turbulent > 0.5
axes["growth"].bar(date[~sure], growth[~sure], 0.25, align="edge", color=CALM, label="calm")
axes["growth"].bar(date[sure], growth[sure], 0.25, align="edge", color=TURBULENT, label="turbulent")
axes["growth"].set(ylabel="growth (% a year)")
axes["growth"].legend(frameon=False, ncols=2, loc="upper right")
axes["growth"].set_title("Recessions are grey, the dashed line is 1984", loc="left")
axes["probability"].plot(date, smoothed, color="0.2", lw=1.5, label="Markov switching, of growth alone")
axes["probability"].fill_between(
    date, turbulent, step="post", color=TURBULENT, alpha=0.55, lw=0, label="mixture, which knows no time"
)
axes["probability"].set(ylabel="probability of turbulence", ylim=(0, 1.25), yticks=[0, 0.5, 1])
axes["probability"].legend(frameon=False, ncols=2, loc="upper center")
points = jaxgmm.plot.ellipses(mixture, axes["scatter"])
jaxgmm.plot.assignment(mixture, x, points)
points.get_legend().remove()
points.scatter(*x[recession].T, s=70, fc="none", ec="k", lw=1)
points.set(xlabel="growth (% a year)", ylabel="change of unemployment (points)")
points.set_title("Two kinds of quarters; rings: in recession", loc="left")
plt.show()
