"""What importing the package brings along, and what it makes public."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import jaxgmm

ROOT = Path(__file__).parent.parent


def run(code):
    """Standard output of `code` in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


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
