"""Tables and lists of the documentation that are made from what the project itself reads.

They come from the schema of parameters, the catalogue of products, ``CITATION.cff`` and the
fragments of the changelog.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from crdetect.catalogue import CATALOGUE
from crdetect.detectors import REGISTRY
from crdetect.interactive.keys import WINDOWS
from crdetect.parameters import BLOCKS, Inputs
from crdetect.schema.block import Block
from crdetect.schema.words import describe_block, yaml_value

MODELS: dict[str, type[Block]] = {"input": Inputs, **BLOCKS}
REQUIRED = "must be given"

_WIDTHS = {5: (31, 13, 8, 24, 24), 3: (38, 44, 18), 2: (40, 60)}  # percent, by number of columns


class ParameterTable(SphinxDirective):
    """Table of the parameters of a block: ``.. parameter-table:: BLOCK``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        return [parameter_table(MODELS[self.arguments[0]])]


class DetectorTables(SphinxDirective):
    """Sections with the parameters of each detector: ``.. detector-tables::``."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        return [
            nodes.section(
                "",
                nodes.title(text=kind.block.title),
                nodes.paragraph("", "", nodes.literal(text=f"crmethod: {name}"), nodes.Text(":")),
                parameter_table(kind.block),
                ids=[f"parameters-of-{name}"],
            )
            for name, kind in REGISTRY.items()
        ]


def parameter_table(model: type[Block]) -> nodes.table:
    """Make the table of the parameters of a block."""
    rows = [
        (
            nodes.literal(text=item.name),
            nodes.literal(text=yaml_value(item.default))
            if not model.model_fields[item.name].is_required()
            else nodes.emphasis(text=REQUIRED),
            nodes.Text(item.unit or ""),
            nodes.Text(item.accepted),
            nodes.Text(item.description),
        )
        for item in describe_block(model)
    ]
    return table(("parameter", "default", "unit", "accepted", "meaning"), rows)


class KeyTable(SphinxDirective):
    """Table of the keys of a window: ``.. key-table:: WINDOW``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        rows = [
            (
                nodes.emphasis(text=key.gesture) if key.gesture else nodes.literal(text=key.label),
                nodes.Text(key.text),
            )
            for key in WINDOWS[self.arguments[0]]
        ]
        return [table(("key", "what it does"), rows)]


class ProductTable(SphinxDirective):
    """Table of the files that a run writes: ``.. product-table::``."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        rows = [
            (
                nodes.literal(text=product.name),
                nodes.Text(product.holds),
                nodes.Text(product.shelf.value),
            )
            for product in CATALOGUE
        ]
        return [table(("file", "what it holds", "group"), rows)]


class CitationTable(SphinxDirective):
    """Table of the papers to cite, from ``CITATION.cff``: ``.. citations::``."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        path = Path(self.env.srcdir).parent / "CITATION.cff"
        self.env.note_dependency(str(path))
        papers = yaml.safe_load(path.read_text(encoding="utf-8"))["references"]
        rows = [(nodes.Text(paper["scope"]), _citation(paper)) for paper in papers]
        return [table(("method (crmethod)", "paper"), rows)]


def _citation(paper: Mapping[str, Any]) -> nodes.inline:
    names = [author.get("family-names") for author in paper["authors"]]
    authors = " & ".join(filter(None, names)) + ("" if all(names) else " et al.")
    text = f"{authors} {paper['year']}, {paper['title']}"
    if "journal" in paper:
        text += f", {paper['journal']} {paper['volume']}, {paper['start']}"
    cell = nodes.inline("", "", nodes.Text(f"{text}. {paper.get('notes', '')}"))
    if "doi" in paper:
        url = f"https://doi.org/{paper['doi']}"
        cell += nodes.reference("", f"doi:{paper['doi']}", refuri=url)
    return cell


class ChangeFragments(SphinxDirective):
    """Lists of the changes since the last release, by their kind: ``.. change-fragments::``."""

    def run(self) -> list[nodes.Node]:
        """Make the lists, with the titles that towncrier gives them."""
        self.env.note_reread()  # a fragment that comes or goes changes no file of the page
        root = Path(self.env.srcdir).parent
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        made = []
        for kind in settings["tool"]["towncrier"]["type"]:
            lines = [*_fragments(root / "changes", kind["directory"])]
            if lines:
                made += [nodes.rubric(text=kind["name"])]
                made += self.parse_text_to_nodes("\n".join(lines))
        return made


def _fragments(folder: Path, kind: str) -> Iterator[str]:
    """Lines of a list with the fragments of one kind."""
    for path in sorted(folder.glob(f"*.{kind}.rst")):
        first, *others = path.read_text(encoding="utf-8").splitlines()
        yield from (f"- {first}", *(f"  {line}" for line in others))


def table(head: Sequence[str], rows: Iterable[Sequence[nodes.Node]]) -> nodes.table:
    """Make a table of docutils; cells are inline nodes, so no text is taken for markup."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=width) for width in _WIDTHS[len(head)]]
    group += nodes.thead("", _row([nodes.Text(text) for text in head]))
    group += nodes.tbody("", *[_row(row) for row in rows])
    return nodes.table("", group, classes=["schema", "colwidths-given"])


def _row(cells: Iterable[nodes.Node]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])
