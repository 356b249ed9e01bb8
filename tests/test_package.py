"""What importing the package brings along, and what it makes public."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxgmm

from tolerance import dtype

ROOT = Path(__file__).parent.parent
float32_only = pytest.mark.skipif(dtype() is not np.float32, reason="examples are run once, as users run them")


def run(code, **environment):
    """Standard output of `code` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | environment,
    ).stdout


def test_import_brings_nothing_but_the_core():
    loaded = set(run("import jax, optax, sys; import jaxgmm; print('\\n'.join(sys.modules))").split())
    assert not loaded & {"matplotlib", "sklearn", "chex", "scipy.stats", "beartype", "pytest", "pandas", "numpyro"}


def test_import_changes_no_setting_of_jax():
    code = "import jax; before = dict(jax.config.values); import jaxgmm; print(before == dict(jax.config.values))"
    assert run(code).strip() == "True"


def test_every_public_name_is_documented():
    for name in jaxgmm.__all__:
        member = getattr(jaxgmm, name)
        assert inspect.getdoc(member), name
        for attribute, value in vars(member).items() if inspect.isclass(member) else ():
            if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(getattr(member, attribute)), f"{name}.{attribute}"


def test_no_branch_on_names_or_types_of_families():
    """One table maps names to structures; nothing else asks what a component is."""
    for path in (ROOT / "jaxgmm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                compared = isinstance(node.ops[0], (ast.Eq, ast.NotEq)) and "covariance_type" in sides
                assert not compared, f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                kind = ast.unparse(node.args[1])
                assert not any(name in kind for name in ("Gaussian", "Full", "Tied", "Diagonal", "Spherical"))


@pytest.mark.parametrize("x64", ["0", "1"])
def test_example_prints_the_known_optimum_and_draws_it(tmp_path, x64):
    picture = tmp_path / "picture.png"
    code = f"import sys; sys.argv = ['', {str(picture)!r}]; exec(open('examples/faithful.py').read())"
    code = f"__file__ = 'examples/faithful.py'\n{code}"
    printed = run(code, JAX_ENABLE_X64=x64)
    assert "-1130.264" in printed
    assert "converged" in printed
    assert picture.stat().st_size > 10_000


@float32_only
def test_genes_are_told_apart_and_drawn(tmp_path):
    picture = tmp_path / "picture.png"
    code = f"import sys; sys.argv = ['', {str(picture)!r}, '400']; exec(open('examples/genes.py').read())"
    printed = run(f"__file__ = 'examples/genes.py'\n{code}", MPLBACKEND="agg")
    assert "800 fits" in printed
    assert picture.stat().st_size > 10_000


@float32_only
@pytest.mark.parametrize(
    ("name", "sizes", "printed"),
    [
        ("influence", "136", "influence against refits:"),
        ("embedding", "3 1", "learned"),
        ("row_weights", "10", "AUC"),
        ("density_network", "50", "mixture density"),
        ("latent_prior", "30", "mixture of ten"),
        ("bayesian", "20", "R-hat"),
    ],
)
def test_examples_print_and_draw(tmp_path, name, sizes, printed):
    picture = tmp_path / "picture.png"
    code = f"import sys; sys.argv = ['', {str(picture)!r}, *{sizes!r}.split()]; exec(open('examples/{name}.py').read())"
    assert printed in run(f"__file__ = 'examples/{name}.py'\n{code}", MPLBACKEND="agg")
    assert picture.stat().st_size > 10_000
