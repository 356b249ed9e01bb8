"""Every example runs, prints what it promises and shows a picture."""

import ast
import warnings
from pathlib import Path

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from run_example import run, with_constants
from tolerance import dtype

ROOT = Path(__file__).parent.parent
FOUND = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
# For each example: constants that make it short, and what it must print.
SHORT = {
    "adaptation": ({"N_DRAWS": 1, "N_RESTARTS": 1, "N_COMPONENTS": 8, "SIZES": [2, 10]}, "adapted, with weights"),
    "angles": (
        {"N_WINDS": [3], "N_RESTARTS": 2},
        "from 2, 92, 264 degrees",
        "directions and speeds: agreement with the winds 0.9",
    ),
    "anomalies": (
        {"N_UNSEEN": 2, "CHOICES": [[9, 0.1]], "N_TREES": 20},
        "promised by the rows held back:",
    ),
    "bayesian": ({"N_DRAWS": 10}, "R-hat"),
    "choosing_k": (
        {"LARGEST": 4, "STRUCTURES": ["full"], "TESTED": [2], "N_RESTARTS": 4, "N_BOOTSTRAP": 9},
        "full       3",
    ),
    "classes": (
        {"N_COMPONENTS": [1], "FORMS": ["tied"], "N_DRAWS": 1, "SHARES": [0.0, 0.3]},
        "Chinstrap 1 tied",
        "linear discriminant analysis   errors",
    ),
    "contamination": (
        {"N_SETS": 2, "SHARES": [0.0, 0.2], "N_RESTARTS": 2},
        "error of the means        0%     20%",
        "Gaussian and noise      0.9",
    ),
    "credible_means": ({"SIZES": [100], "N_SETS": 20}, "hardly touch,    100 rows, 20 data sets"),
    "density_network": ({"N_STEPS": 50}, "mixture density"),
    "digits_classifier": ({"N_SPLITS": 1, "N_COMPONENTS": [1], "N_RESTARTS": 1}, "mixtures, k = 1        accuracy 98."),
    "drift": ({"N_BATCHES": 60}, "memory      400 rows   score"),
    "embedding": ({"N_STEPS": 3, "N_SPLITS": 1}, "learned"),
    "error_bars": ({"N_STARS": 400, "N_RESTARTS": 2, "SIZES": [1.0], "SAID": [1.5]}, "errors times 1.0"),
    "few_labels": (
        {"N_DRAWS": 1, "PER_DIGIT": [1], "WRONG": [0.0, 0.2]},
        "labels that are wrong       0%     20%",
    ),
    "generation": ({"N_COMPONENTS": [1, 5], "FLOORS": [0.1], "N_RESTARTS": 1}, "mixture of 5 components"),
    "incomplete_survey": ({"N_DRAWS": 1, "N_RESTARTS": 4, "SHARES": [0.2]}, "without gaps: 0.960", "at random: 86"),
    "influence": ({"N_ROWS": 136, "N_RESTARTS": 4}, "influence against refits:"),
    "latent_prior": ({"N_STEPS": 30}, "mixture of ten"),
    "many_fits": ({"N_GENES": 400, "N_LOOPED": 10}, "800 fits"),
    "pruning": ({"N_VALUES": 4, "N_RESTARTS": 4, "ROOM": 6}, "pseudo_rows"),
    "quickstart": ({}, "converged after", "log-likelihood -1130.264"),
    "regimes": (
        {"N_RESTARTS": 2, "MOST_COMPONENTS": 2},
        "growth 3.4 +- 2.3 % a year, unemployment -0.09 +- 0.14 points",
    ),
    "regression": ({"N_RESTARTS": 4}, "least squares -0.723, mixture of 2 -0.39"),
    "row_weights": ({"N_STEPS": 10, "N_RESTARTS": 4}, "AUC"),
    "segmentation": ({"STRIDE": 8, "N_RESTARTS": 4}, "4320 pixels"),
    "segments": ({"N_RESTARTS": 4, "MOST_COMPONENTS": 4}, "segment 1: 50 wines"),
    "shapes": (
        {"LETTERS": ["EEE", "EVE"], "N_RESTARTS": 4, "RANKS": [2]},
        "EVE  13 parameters  BIC 1600",
        "component 0: correlation 0.9",
    ),
    "stretched_clusters": ({"N_RESTARTS": 4}, "of the mixture 0.9"),
    "survey": (
        {"N_CLASSES": [4], "N_RESTARTS": 2},
        "131 of whom answered everything",
        "4 classes, agreement with the kinds 0.9",
    ),
    "tiles": (
        {"TILE": 80, "STEP": 8, "MOST": 3, "N_RESTARTS": 2},
        "40 tiles",
        "40 data sets by bic, 40 of them fitted",
    ),
}
# Files that an example leaves in the folder it is run in; all others leave none.
SAVED = {"quickstart": {"out/faithful.png"}}
# Run in both dtypes; all others in float32 only, as users run them.
BOTH_DTYPES = ("quickstart",)


@pytest.fixture
def _as_it_was():
    """What an example may set for the whole process."""
    x64 = jax.config.jax_enable_x64
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("default")
        plt.switch_backend("agg")
        yield
        plt.close("all")
    jax.config.update("jax_enable_x64", x64)


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize("name", SHORT)
def test_it_prints_and_shows_a_picture(tmp_path, name, monkeypatch, capsys):
    if dtype() is not np.float32 and name not in BOTH_DTYPES:
        pytest.skip("examples are run once, as users run them")
    constants, *printed = SHORT[name]
    monkeypatch.chdir(tmp_path)
    axes = run(ROOT / "examples" / f"{name}.py", constants, monkeypatch)
    told = capsys.readouterr().out
    assert [text for text in printed if text not in told] == []
    assert any(axes), "no figure with axes was open at plt.show()"
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == SAVED.get(name, set())


def test_every_example_is_run():
    assert sorted(SHORT) == FOUND


@pytest.mark.parametrize("name", SHORT)
def test_it_is_a_page_of_cells(name):
    """As sphinx-gallery reads it: a docstring that begins with an underlined title, then cells."""
    source = (ROOT / "examples" / f"{name}.py").read_text()
    title, line, *_ = ast.get_docstring(ast.parse(source)).splitlines()
    assert title
    assert set(line) == {"="}
    assert len(line) >= len(title)
    assert source.splitlines().count("# %%") >= 2
    assert "plt.show()" in source.splitlines()


@pytest.mark.parametrize("source", ["", "M = 1", "N = 1\nN = 2", "def f():\n    N = 1"])
def test_constants_are_assigned_exactly_once(source):
    with pytest.raises(ValueError, match="N is assigned"):
        with_constants(source, {"N": 3})
