"""Report of a run: one HTML file that needs no other file, network or server."""

from __future__ import annotations

import base64
import datetime as dt
import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from crdetect import __version__
from crdetect.masks import Feature
from crdetect.pipeline import Detection
from crdetect.plots.images import MISSING_COLOR, grey_limits, thinning_step
from crdetect.plots.pages import Sheet, describe
from crdetect.plots.style import LOOKS
from crdetect.plots.surroundings import Surroundings
from crdetect.plots.words import (
    MEANCR,
    MEANCRT,
    MEDIANCR,
    class_labels,
    code_labels,
    crmask_meaning,
)
from crdetect.schema.block import Block
from crdetect.schema.words import describe_block, yaml_value

# Largest size of the images of all features together, bytes: as text in the file they take a third
# more. The whole file is to stay below 15 MB with 500 features.
_MOST_BYTES = 8_000_000
# Largest side of the images of a feature, pixels; pixels of larger surroundings are left out.
_LARGEST_SIDE_PX = 101
_FIGURE_WIDTH_PX = 1600  # largest width of a figure in the file, pixels: texts can be read
_JPEG_QUALITY = 85  # of 100; chosen by eye: texts and lines are clear
_MARKS = {"GOOD": "✓", "PARTIAL": "!", "BAD": "✗"}  # mark beside each verdict

# Indices in the palette of the images of a feature: greys from 0 on, then a colour for missing
# values, a transparent one for pixels that are not flagged, and the colours of the codes.
_GREYS = 250
_MISSING, _CLEAR = 250, 251
_FIRST_CODE = 251  # index of code 0, which is clear


def write_report(
    path: Path, sheet: Sheet, history: Sequence[str], figures: Mapping[Path, str]
) -> None:
    """Write the report of a run.

    Parameters
    ----------
    path : Path
        The file, HTML.
    sheet : Sheet
        The results of the run.
    history : sequence of str
        Lines on the program and its input.
    figures : mapping of Path to str
        Figures of the run, PNG, which are copied into the file, and what each one shows.
    """
    detection = sheet.detection
    features = list(_features(sheet))
    parts = {
        "title": "Cosmic rays in equivalent exposures",
        "subtitle": html.escape(_subtitle(detection)),
        "counts": _counts(detection),
        "checks": _checks(detection),
        "figures": "\n".join(_figure(path, words) for path, words in figures.items()),
        "shown": _shown(len(features), len(detection.features)),
        "legend": _legend(detection),
        "history": "\n".join(f"<li>{html.escape(line.strip('- '))}</li>" for line in history),
        "parameters": "\n".join(map(_parameters, detection.parameters.active_blocks())),
        "data": _data(detection, features),
        "style": _template("report.css"),
        "script": _template("report.js"),
    }
    path.write_text(Template(_template("report.html")).substitute(parts), encoding="utf-8")


def _template(name: str) -> str:
    return (files("crdetect.plots") / "templates" / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------
# Texts and tables


def _subtitle(detection: Detection) -> str:
    rows, columns = detection.codes.shape
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{detection.parameters.general.crmethod}, {len(detection.masks.crmasks)} exposures of "
        f"{rows} × {columns} pixels (rows × columns). crdetect {__version__}, {now}"
    )


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", marked: str = ""
) -> str:
    """Make a table; texts are escaped. A row that ends with True has the CSS class ``marked``."""
    lines = [f"<table><caption>{html.escape(caption)}</caption>", _row("th", head, "")]
    for row in rows:
        changed = row[-1] is True
        cells = [cell for cell in row if not isinstance(cell, bool)]
        lines.append(_row("td", cells, marked if changed else ""))
    return "\n".join([*lines, "</table>"])


def _row(tag: str, cells: Sequence[Any], css: str) -> str:
    texts = (
        f'<{tag} class="number">{cell}</{tag}>'
        if isinstance(cell, int)
        else f"<{tag}>{html.escape(str(cell))}</{tag}>"
        for cell in cells
    )
    return f'<tr class="{css}">' + "".join(texts) + "</tr>"


def _counts(detection: Detection) -> str:
    """Make the tables of the numbers of flagged pixels and features."""
    masks = detection.masks
    named = [("MEDIANCR", MEDIANCR, masks.mediancr), ("MEANCRT", MEANCRT, masks.meancrt)]
    named += [
        (f"CRMASK{i}", crmask_meaning(i), mask) for i, mask in enumerate(masks.crmasks, start=1)
    ]
    everywhere = "hit in every exposure, so that no clean value is left"
    named += [
        ("MEANCR", MEANCR, masks.meancr),
        ("masked in all exposures", everywhere, masks.crmasks.all(axis=0)),
    ]
    pixels = [(name, int(np.count_nonzero(mask)), words) for name, words, mask in named]
    numbers = np.bincount(detection.codes.ravel(), minlength=max(LOOKS) + 1)
    labels = code_labels(detection)
    by_code = [(label, int(numbers[code])) for code, label in labels.items()]
    counts = detection.features.counts()
    by_class = [(label, counts[name]) for name, label in class_labels(detection).items()]
    return (
        _table(("mask", "pixels", "what the pixels are"), pixels, "Masks")
        + _table(("features", "number"), by_class, "Features of MEDIANCR by class")
        + _table(("pixels", "number"), by_code, "Pixels of MEDIANCR by code")
    )


def _checks(detection: Detection) -> str:
    """Make the tables of the quality checks, and of the values that the run measured."""
    rows = [
        (
            check.name,
            f"{check.value:.4g}",
            check.accepted,
            f"{_MARKS[check.verdict.name]} {check.verdict.name}",
            check.advice if check.verdict.value else "",
        )
        for check in detection.quality.checks
    ]
    found = list(detection.findings().items())
    head = ("check", "value", "criterion", "verdict", "advice")
    tables = [_table(head, rows)] if rows else []
    tables += [_table(("quantity", "value"), found, "Measured in this run")] if found else []
    return "\n".join(tables) or "<p>Nothing was checked or measured in this run.</p>"


def _parameters(block: Block) -> str:
    rows = [
        (
            item.name,
            yaml_value(value),
            yaml_value(item.default),
            f"{item.description}{f' [{item.unit}]' if item.unit else ''}",
            value != json.loads(json.dumps(item.default)),
        )
        for item, value in zip(
            describe_block(type(block)), block.model_dump(mode="json").values(), strict=True
        )
    ]
    return _table(("parameter", "value", "default", "meaning"), rows, block.title, "changed")


def _shown(shown: int, total: int) -> str:
    if shown == total:
        return f"{total} features."
    return (
        f"The {shown} highest of {total} features are shown: more would make this file too large."
    )


def _legend(detection: Detection) -> str:
    return "".join(
        f'<span class="swatch" style="background:{LOOKS[code].color}"></span>{html.escape(label)}'
        for code, label in code_labels(detection).items()
    )


# ---------------------------------------------------------------------------------------------
# Images


def _figure(path: Path, words: str) -> str:
    return (
        f'<figure><img src="{_as_url(path)}" alt="{html.escape(path.name)}">'
        f"<figcaption>{html.escape(words)} <code>{html.escape(path.name)}</code></figcaption>"
        "</figure>"
    )


def _as_url(path: Path) -> str:
    """Encode a figure in a data URL, as PNG or as a reduced JPEG, whichever is smaller."""
    png = path.read_bytes()
    with Image.open(path) as image:
        image.thumbnail((_FIGURE_WIDTH_PX, 2 * _FIGURE_WIDTH_PX), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    jpeg = buffer.getvalue()
    kind, content = ("jpeg", jpeg) if len(jpeg) < len(png) else ("png", png)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _data(detection: Detection, features: list[dict[str, Any]]) -> str:
    n = len(detection.masks.crmasks)
    names = _names(n)
    content = {
        "images": names,
        "exposures": list(range(n)),
        "before": names.index("median2d"),
        "after": names.index("mediancr (corrected)"),
        "classes": class_labels(detection),
        "features": features,
    }
    # Without "<", no text in the data can end the script element that holds them.
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _names(nexposures: int) -> list[str]:
    exposures = [f"exposure {i}" for i in range(1, nexposures + 1)]
    return [*exposures, "median2d", "mediancr (corrected)", "AUXCLEAN (filled from neighbours)"]


def _features(sheet: Sheet) -> Iterator[dict[str, Any]]:
    """Yield the data of the features in the gallery, the highest first, until the file is full."""
    heights = {}
    for feature in sheet.detection.features:
        heights[feature.number] = float(np.nan_to_num(sheet.heights(feature)[1]).max())
    used = 0
    for feature in sorted(sheet.detection.features, key=lambda f: -heights[f.number]):
        record, size = _record(sheet, feature)
        used += size
        if used > _MOST_BYTES:
            return
        yield record | {"height": round(heights[feature.number], 2)}


def _record(sheet: Sheet, feature: Feature) -> tuple[dict[str, Any], int]:
    around = sheet.around(feature)
    step = thinning_step(around.shape, _LARGEST_SIDE_PX)
    sprite = _sprite(sheet, around, step)
    png = _png(sprite)
    crmasks = sheet.detection.masks.crmasks
    return {
        "number": feature.number,
        "class": feature.class_name,
        "size": feature.x.size,
        "text": describe(sheet, feature),
        "hits": np.count_nonzero(crmasks[:, feature.y, feature.x], axis=1).tolist(),
        "left": around.columns.start + 1,
        "bottom": around.rows.start + 1,
        "step": step,
        "rows": sprite.shape[0],
        "columns": sprite.shape[1] // (len(_names(len(crmasks))) + 1),
        "png": base64.b64encode(png).decode(),
    }, len(png)


def _sprite(sheet: Sheet, around: Surroundings, step: int) -> np.ndarray:
    """Images around a feature side by side, the codes last, as indices in the palette."""
    detection = sheet.detection
    images = [*detection.observation.stack.exposures, detection.statistics.median2d]
    images += [sheet.corrected_adu, detection.auxclean]
    cuts = np.stack([around.cut(image)[::step, ::step] for image in images])
    low, high = grey_limits(cuts[:-1], detection.parameters.general.color_scale)
    with np.errstate(invalid="ignore"):
        grey = np.clip((cuts - low) / (high - low), 0, 1) * (_GREYS - 1)
    tiles = np.where(np.isnan(cuts), _MISSING, np.nan_to_num(grey).round()).astype(np.uint8)
    codes = around.cut(detection.codes)[::step, ::step] + np.uint8(_FIRST_CODE)
    return np.hstack([*tiles, codes])[::-1]  # the first row of an image file is at its top


def _png(sprite: np.ndarray) -> bytes:
    image = Image.fromarray(sprite, "P")
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=_CLEAR, optimize=False)
    return buffer.getvalue()


def _palette() -> bytes:
    grey = np.repeat(np.linspace(0, 255, _GREYS).round().astype(np.uint8), 3).tobytes()
    colors = [MISSING_COLOR, "#FFFFFF", *(LOOKS[code].color for code in sorted(LOOKS))]
    return grey + bytes(round(255 * part) for color in colors for part in to_rgb(color))
