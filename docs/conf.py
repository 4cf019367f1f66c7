"""Configuration of the documentation. Its figures and tables are made while it is built."""

import sys
from pathlib import Path

import crdetect

sys.path.insert(0, str(Path(__file__).parent))

from figures import make_figures
from tables import (
    ChangeFragments,
    CitationTable,
    DetectorTables,
    KeyTable,
    ParameterTable,
    ProductTable,
)

project = "crdetect"
version = release = crdetect.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build", "_generated"]
default_role = "py:obj"
toc_object_entries = False
pygments_style = "default"
smartquotes = False  # texts of the schema stay as they are

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types stand in the docstrings
autodoc_preserve_defaults = True
numpydoc_show_class_members = False  # autodoc lists them

html_theme = "alabaster"
html_theme_options = {
    "description": "Cosmic rays in equivalent exposures",
    "page_width": "1180px",
    "body_max_width": "940px",
    "sidebar_width": "220px",
    "fixed_sidebar": True,
    "show_powered_by": False,
}
html_static_path = ["_static"]  # custom.css is the theme's own hook
html_extra_path = ["_generated/extra"]  # the report of the example
Path(__file__).with_name("_generated").joinpath("extra").mkdir(parents=True, exist_ok=True)
html_show_copyright = False
html_show_sourcelink = False


def setup(app):
    """Add the directives of the tables; draw the figures before pages are read."""
    app.add_directive("parameter-table", ParameterTable)
    app.add_directive("detector-tables", DetectorTables)
    app.add_directive("key-table", KeyTable)
    app.add_directive("citations", CitationTable)
    app.add_directive("change-fragments", ChangeFragments)
    app.add_directive("product-table", ProductTable)
    app.connect("builder-inited", lambda app: make_figures(Path(app.srcdir, "_generated")))
