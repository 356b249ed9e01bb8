"""Cells of the tables of what works with what: each works, or says why not in words that name both sides.

All others are tried where the page is made.
"""

import composition
import pytest

from cases import CASES, THIN
from tolerance import once

pytestmark = once
LACKING = {
    "impute",
    "denoise",
    "projection",
    "sample_missing",
    "shrunk",
    "condition",
    "affine",
    "product",
    "kl_divergence",
    "kl_bounds",
    "entropy_bounds",
    "l2_distance",
    "bures_distance",
    "mixture_wasserstein",
    "to_numpyro",
    "to_scipy",
    "to_sklearn",
}
"""What a family may lack."""
RUN = {
    "fit_batches",
    "fit_online",
    "fit_many",
    "select_many",
    "select",
    "select by cross-validation",
    "stability",
    "bootstrap",
    "likelihood_ratio_test",
}
"""Verbs of rows that are compiled and run, as nothing traces them: most of what their cells cost."""


def kinds_of(case):
    """Names of the families that components are of, and their parts."""
    components = case.mixture().components
    return {type(part).__name__ for part in (components, *getattr(components, "parts", ()))}


@pytest.mark.parametrize("name", composition.OF_ROWS | composition.OF_MIXTURES)
def test_every_form(name):
    verb = (composition.OF_ROWS | composition.OF_MIXTURES)[name]
    # What is run has tests of its own with the first family.
    for case in composition.OF_EACH_FAMILY[name in RUN :]:
        if message := composition.tried(verb, case, composition.plain):
            assert name in LACKING
            assert any(kind in message for kind in kinds_of(case)) or "noise component" in message


@pytest.mark.parametrize("name", sorted((composition.OF_ROWS | composition.OF_MIXTURES).keys() - RUN))
def test_low_rank(name):
    """Whose moments are no matrices."""
    message = composition.tried((composition.OF_ROWS | composition.OF_MIXTURES)[name], THIN, composition.plain)
    assert not message or (name in LACKING and "Gaussian" in message)


@pytest.mark.parametrize("name", composition.OF_ROWS)
def test_every_kind_of_rows(name):
    """Beside plain ones, which every form is tried with; noise and log-evidence are in all of it, and for what is run,
    all is.
    """
    for kind in {"all of it"} if name in RUN else composition.ROWS.keys() - {"plain", "noise", "log_evidence"}:
        message = composition.tried(composition.OF_ROWS[name], CASES[0], composition.ROWS[kind])
        assert not message or (name in {"likelihood_ratio_test", "shrunk"} and name in message)


@pytest.mark.parametrize("kind", ["gaps", "noise"])
def test_what_takes_no_rows_of_a_kind_says_so(kind):
    """Of every family: it has densities of such rows, or is named beside them."""
    for case in composition.OF_EACH_FAMILY:
        message = composition.tried(composition.OF_ROWS["fit"], case, composition.ROWS[kind])
        kinds = kinds_of(case)
        assert bool(message) == (kind == "noise" and not kinds.isdisjoint({"Poisson", "StudentT", "Product"}))
        assert not message or (kind in message and any(one in message for one in kinds))


@pytest.mark.parametrize("name", composition.CLIMBING)
def test_a_prior(name):
    composition.CLIMBING[name](CASES[0], composition.OBJECTIVES["Posterior"])


def test_every_transformation():
    assert not [cell for row in composition.ways().values() for cell in row.values() if cell]
