"""What R's mclust has published beside what is found here: likelihoods of all fourteen models.

python numerics/mclust_models.py [--restarts 40] [--most 9] [data ...]

Of each model and number of components that `tests/data/mclust_models.csv` has a criterion of, the likelihood that
follows from it and the highest regular one of restarts here, in float64. A difference below 0.05 is one of where the
same fit ends: mclust stops at a relative change of 1e-5. A larger one is another optimum.
"""

import argparse
import collections
import sys
import time
from pathlib import Path

import jax
import numpy as np

import jaxgmm

sys.path.append(str(Path(__file__).parent.parent / "tests"))

SAME = 0.05
DATA = ["faithful", "iris", "diabetes_as_in_mclust", "diabetes", "galaxies"]


def main() -> None:
    """Print a line for each row of the table that differs, and how many of each kind there are."""
    jax.config.update("jax_enable_x64", True)
    from test_mclust import data, table

    from jaxgmm.covariance.table import LETTERS

    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="*", default=DATA)
    parser.add_argument("--restarts", type=int, default=40)
    parser.add_argument("--most", type=int, default=9)
    options = parser.parse_args()
    for name in options.data:
        x = data(name)
        published = collections.defaultdict(list)
        for row in table():
            if row["data"] == name and row["bic"] and int(row["components"]) <= options.most:
                form = {"E": "EII", "V": "VII"}.get(row["model"], row["model"])
                published[LETTERS[form]].append((int(row["components"]), row["model"], row["bic"]))
        found = collections.Counter()
        began = time.process_time()
        for form, rows in published.items():
            for k, model, bic in sorted(set(rows)):
                best = jaxgmm.fit_restarts(
                    jax.random.key(k),
                    x,
                    k,
                    form,
                    max_components=options.most,
                    n_restarts=options.restarts,
                    regularization=1e-9,
                )
                regular = bool(best.regular[best.winner])
                mixture = best.best.mixture
                p = int(mixture.n_parameters)
                theirs = (float(bic) + p * np.log(len(x))) / 2
                # What the last digit printed leaves open.
                rounded = 0.25 * 10.0 ** -min(len(bic.partition(".")[2]), 6)
                ahead = float(jaxgmm.log_likelihood(mixture, x)) - theirs
                if not regular:
                    kind = "no regular fit"
                elif ahead < -1e-3 - rounded:
                    kind = "below"
                elif ahead < 1e-3 + rounded:
                    kind = "equal"
                else:
                    kind = "same optimum, nearer to it" if ahead < SAME + rounded else "another optimum, higher"
                found[kind] += 1
                if kind in ("below", "no regular fit"):
                    print(f"{name} {model} {k}: {ahead:+.4f} {kind}", flush=True)
        counts = ", ".join(f"{number} {kind}" for kind, number in found.most_common())
        print(f"{name}: {sum(found.values())} rows: {counts}; {time.process_time() - began:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
