"""
A few labelled digits
=====================

Labels cost work, rows without labels often cost nothing. A mixture takes both: a labelled row counts for the component
that it is of, all others for whatever they look like, and both move the same components. How few labels are enough to
read handwritten digits, and what if some of the labels are wrong?

scikit-learn has two methods for the same task. ``LabelSpreading`` hands labels on to neighbours, and
``SelfTrainingClassifier`` teaches a classifier with its own surest answers, here a support vector machine.
"""

# %%
# One component for each digit
# ----------------------------
# scikit-learn's ``digits``, 1797 images, in 12 principal components, which need no labels either. ``init`` starts each
# component where its labelled rows are, and the fit moves it to where the rows are. There is a generous floor under the
# variances. The settings of the peers are the best of a few that were tried, by this very table.

import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC

import jaxgmm

# scikit-learn 1.11 means to take away the probabilities that self-training asks its machine for.
warnings.filterwarnings("ignore", ".*probability", FutureWarning)

N_COLUMNS = 12
N_DRAWS = 3  # of the rows that have labels
PER_DIGIT = (1, 2, 5, 10, 20, 50)
WRONG = (0.0, 0.1, 0.2, 0.3, 0.4)
FLOOR = 0.1

pixels, digits = load_digits(return_X_y=True)
components = PCA(N_COLUMNS, random_state=0).fit(pixels)
x = components.transform(pixels).astype(np.float32)


def some_labels(per_digit, seed, wrong=0.0):
    """The digit of so many rows of each, -1 for all others; a share of them is another digit than it should be."""
    rng = np.random.default_rng(seed)
    labels = np.full(len(x), -1)
    for digit in range(10):
        labels[rng.choice(np.flatnonzero(digits == digit), per_digit, replace=False)] = digit
    other = (labels + rng.integers(1, 10, len(x))) % 10
    return np.where((labels >= 0) & (rng.random(len(x)) < wrong), other, labels)


def mixture_of(labels):
    """Ten components, numbered as the digits are."""
    rows = jaxgmm.rows(x, labels=labels)
    start = jaxgmm.init(jax.random.key(0), rows, 10, regularization=FLOOR)
    return jaxgmm.fit(start, rows, regularization=FLOOR).mixture


methods = {
    "mixture": lambda labels: mixture_of(labels).predict(x),
    "label spreading": lambda labels: (
        LabelSpreading(kernel="knn", alpha=0.8, max_iter=200).fit(x, labels).transduction_
    ),
    "self-training": lambda labels: (
        SelfTrainingClassifier(SVC(C=10, probability=True, random_state=0)).fit(x, labels).predict(x)
    ),
}


def accuracies(per_digit, wrong=0.0):
    """Share of the rows without a label that each method reads rightly, for each draw of the labels."""
    found = {name: [] for name in methods}
    for seed in range(N_DRAWS):
        labels = some_labels(per_digit, seed, wrong)
        for name, answers in methods.items():
            found[name].append(np.mean((np.asarray(answers(labels)) == digits)[labels < 0]))
    return found


# %%
# Accuracy against the number of labels
# -------------------------------------
# With one label or two for each digit the mixture is ahead, as the shapes of its components come from all rows. But it
# has one Gaussian for each digit, whatever else labels show: from five of them a digit on, others are as good or
# better, and with 50 self-training makes half as many errors.

of_numbers = [accuracies(per_digit) for per_digit in PER_DIGIT]
print(f"{'labels for each digit':22}" + "".join(f"{per_digit:8d}" for per_digit in PER_DIGIT))
print(f"{'share of the rows':22}" + "".join(f"{10 * per_digit / len(x):8.1%}" for per_digit in PER_DIGIT))
for name in methods:
    print(f"{name:22}" + "".join(f"{np.mean(found[name]):8.1%}" for found in of_numbers))

# %%
# Wrong labels
# ------------
# Ten labels a digit, of which a share is wrong. Each component has so many other rows that wrong labels hardly move it,
# while methods that believe each label pass the errors on.
#
# A label is taken for certain, so a row that has a wrong one keeps it. What is only likely is ``log_evidence``: the
# log-probability of the label that was written, given the digit. With it the mixture mends most of the wrong labels.

of_errors = [accuracies(10, wrong) for wrong in WRONG]
mended = []
for wrong in WRONG[1:]:
    right = []
    for seed in range(N_DRAWS):
        labels = some_labels(10, seed, wrong)
        written = np.where(labels[:, None] == np.arange(10), np.log(1 - wrong), np.log(wrong / 9))
        rows = jaxgmm.rows(x, log_evidence=np.where(labels[:, None] < 0, 0.0, written))
        mixture = jaxgmm.fit(mixture_of(labels), rows, regularization=FLOOR).mixture
        right.append(np.mean((np.asarray(mixture.predict(rows)) == digits)[labels >= 0]))
    mended.append(np.mean(right))
print(f"{'labels that are wrong':22}" + "".join(f"{wrong:8.0%}" for wrong in WRONG))
for name in methods:
    print(f"{name:22}" + "".join(f"{np.mean(found[name]):8.1%}" for found in of_errors))
print(f"{'labelled rows, mended':30}" + "".join(f"{share:8.1%}" for share in mended))

# %%
# The picture
# -----------
# Below, the ten images that have a label, where each digit has one, and the means of the components found with them.

COLORS = dict(zip(methods, ("#0072b2", "#e69f00", "#009e73"), strict=True))
figure, axes = plt.subplot_mosaic(
    [["numbers", "errors"], ["images", "images"]], figsize=(11, 6.4), layout="constrained", height_ratios=[2.2, 1]
)
for axis, values, tables in (
    (axes["numbers"], PER_DIGIT, of_numbers),
    (axes["errors"], 100 * np.array(WRONG), of_errors),
):
    for name, color in COLORS.items():
        each = 100 * np.array([found[name] for found in tables])
        axis.fill_between(values, each.min(axis=1), each.max(axis=1), color=color, alpha=0.15, lw=0)
        axis.plot(values, each.mean(axis=1), "o-", color=color, label=name)
    axis.set(ylabel="rows without a label read rightly (%)")
    axis.legend(frameon=False, loc="lower right" if axis is axes["numbers"] else "lower left")
axes["numbers"].set_xscale("log")
axes["numbers"].set(xlabel="labels for each digit", xticks=PER_DIGIT, xticklabels=PER_DIGIT)
axes["numbers"].minorticks_off()
axes["numbers"].set_title("How many labels (bands: least and most of the draws)", loc="left")
axes["errors"].plot(
    100 * np.array(WRONG[1:]), 100 * np.array(mended), "s--", color="#cc79a7", label="mixture: labelled rows, mended"
)
axes["errors"].legend(frameon=False, loc="lower left")
axes["errors"].set(xlabel="labels that are wrong (%)")
axes["errors"].set_title("How good the labels, ten for each digit", loc="left")

labels = some_labels(PER_DIGIT[0], 0)
images = components.inverse_transform(np.asarray(mixture_of(labels).means))
given = np.stack([pixels[labels == digit].mean(axis=0) for digit in range(10)])
strips = [np.hstack([np.pad(image.reshape(8, 8), 1) for image in of]) for of in (given, images)]
axes["images"].imshow(np.hstack([strips[0], np.full((10, 6), np.nan), strips[1]]), cmap="gray_r")
axes["images"].set_axis_off()
axes["images"].set_title("One labelled image for each digit", loc="left")
axes["images"].set_title("Means found from these and all the others", loc="right")
plt.show()
