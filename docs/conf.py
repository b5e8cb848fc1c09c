"""Sphinx settings of the documentation site: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# Importing Airflow writes its settings file somewhere; a build is to leave the user's own alone.
os.environ.setdefault("AIRFLOW_HOME", str(Path(tempfile.gettempdir()) / "modelslab-docs-airflow"))
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")

from airflow_provider_modelslab import __version__  # noqa: E402

project = "airflow-provider-modelslab"
author = "the maintainers of airflow-provider-modelslab"
project_copyright = "Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "short_names",
]
exclude_patterns = ["_build"]
smartquotes = False  # it makes a dash of each flag's "--"
nitpicky = True
nitpick_ignore_regex = [
    # Names of other packages, in signatures and :raises: lines; their documentation is elsewhere.
    (r"py:.*", r"(?!airflow_provider_modelslab\.).*"),
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"airflow-provider-modelslab {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#5b3fa8", "color-brand-content": "#5b3fa8"},
    "dark_css_variables": {"color-brand-primary": "#b9a5f0", "color-brand-content": "#b9a5f0"},
}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
