"""Sphinx configuration."""

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

import jaxgmm

sys.path.insert(0, str(Path(__file__).parent / "ext"))

project = "jaxgmm"
version = release = jaxgmm.__version__
exclude_patterns = ["_build", "gallery/data"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "composition_table",
    "name_table",
    "option_table",
    "public_names",
]

nitpicky = True
nitpick_ignore = [("py:exc", "sklearn.exceptions.NotFittedError")]

html_theme = "furo"
html_title = f"jaxgmm {version}"
html_static_path = ["_static"]
html_css_files = ["jaxgmm.css"]
html_theme_options = {"top_of_page_buttons": []}
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["dollarmath", "deflist", "attrs_block"]
myst_heading_anchors = 3

# Docstrings put names and shapes between single backticks.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Fields", "params_style")]
# Docstrings state shapes and units; the annotations would say the same once more, at length.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "",
    "copyfile_regex": r"index\.rst",
    "within_subsection_order": "sphinx_gallery.sorting.FileNameSortKey",
    "minigallery_sort_order": "examples.as_told",
    "doc_module": ("jaxgmm",),
    "backreferences_dir": "gallery/backreferences",
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "image_srcset": ["2x"],
    "reset_modules": ("matplotlib", "examples.around"),
    "reset_modules_order": "both",
    "parallel": min(2, os.cpu_count() or 1),
    # `make docs GALLERY=0` leaves the examples unrun.
    "plot_gallery": os.environ.get("GALLERY", "1") != "0",
}


def setup(app: Sphinx) -> None:
    """Connect what the configuration defines itself."""
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)


def keep_first_line(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep napoleon, which comes next, from reading the first line of a property as `type: description`."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment
