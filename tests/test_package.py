"""What importing the package brings along, and what it makes public."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jaxgmm
from jaxgmm.ground import versions

from tolerance import once

pytestmark = once
ROOT = Path(__file__).parent.parent


def run(code, check=True):
    """Standard output of `code` in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=check, cwd=ROOT).stdout


HEAVY = {"beartype", "chex", "matplotlib", "numpyro", "optax", "pandas", "pytest", "scipy.stats", "sklearn"}


def loaded_after(code):
    """Modules that are there after `code` in a fresh interpreter, whatever it prints and however it ends."""
    told = "import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules))"
    return set(run(f"{told}; {code}", check=False).splitlines()[-1].split())


def test_import_brings_nothing_but_the_core():
    assert not loaded_after("import jaxgmm") & {"jax", "jaxlib", *HEAVY}
    everything = loaded_after("import jaxgmm; [getattr(jaxgmm, name) for name in jaxgmm.__all__]")
    assert "jax" in everything
    assert not everything & HEAVY


def test_a_fit_needs_no_optimiser():
    code = "jaxgmm.fit(jaxgmm.init(jax.random.key(0), numpy.eye(4), 1, 'spherical'), numpy.eye(4))"
    assert not loaded_after(f"import jax, numpy, jaxgmm; {code}") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["--version"], ["fit"], ["fit", "x", "--k"]])
def test_the_command_line_needs_nothing_to_answer(arguments):
    loaded = loaded_after(f"sys.argv[1:] = {arguments}; from jaxgmm.cli import main; main()")
    assert "typer" in loaded
    assert not loaded & {"jax", "jaxlib", "numpy", *HEAVY}


def test_public_names_are_where_type_checkers_look_for_them():
    (checked,) = (
        node.body
        for node in ast.parse(Path(jaxgmm.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: node.module.removeprefix("jaxgmm.") for node in checked for alias in node.names}
    assert seen == jaxgmm._PLACES
    assert sorted(seen) == sorted(jaxgmm.__all__)
    assert set(jaxgmm.__all__) <= set(dir(jaxgmm))
    with pytest.raises(AttributeError, match="module 'jaxgmm' has no attribute 'fitt'"):
        _ = jaxgmm.fitt


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
                compared = isinstance(node.ops[0], (ast.Eq, ast.NotEq)) and {"covariance_type", "form"} & {*sides}
                assert not compared, f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                kind = ast.unparse(node.args[1])
                assert not any(name in kind for name in ("Gaussian", "Each", "Shared", "Tril", "Scale"))


@pytest.mark.parametrize("version", ["0.10.0", "0.10.2", "0.11.0"])
def test_a_jaxlib_that_hangs_is_warned_of(version):
    with pytest.warns(RuntimeWarning, match=f"jaxlib {version} .* pip install"):
        versions.warn_of_hangs(version)


@pytest.mark.parametrize("version", ["0.8.0", "0.9.2", "0.11.1", "0.12.0.1", "0.12.1.dev20260101", "1.0.0"])
def test_a_jaxlib_that_returns_is_not(version):
    versions.warn_of_hangs(version)


def test_the_warning_comes_once_and_everything_works_all_the_same():
    faked = "import jaxlib; jaxlib.__version__ = '0.10.2'; import warnings; import jaxgmm"
    told = "told = warnings.catch_warnings(record=True); caught = told.__enter__(); warnings.simplefilter('always')"
    uses = "start = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], 'spherical')"
    many = f"{faked}; {told}; {uses}; {uses}; start.sample; print(sum('0.10.2' in str(one.message) for one in caught))"
    assert run(many).strip() == "1"
