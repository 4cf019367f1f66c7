"""Pages of features, two for each: the images around it, and its pixels in the diagram.

Figures and their artists are made once and get the data of one feature after the other, since
making them anew for each feature would take most of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from crdetect.combine import Combination
from crdetect.equality import by_value
from crdetect.masks import Feature
from crdetect.pipeline import Detection, Progress
from crdetect.plots.diagnostic import Flagged, Plane, subject_mediancr
from crdetect.plots.images import MISSING_COLOR, grey_limits, grey_map, rows_and_columns
from crdetect.plots.labels import write_labels
from crdetect.plots.plane import FINAL_COLOR, draw_density_image, name_axes, typical_threshold
from crdetect.plots.style import LOOKS, ORANGE, Y_LABEL, count_norm, grey_density_map, new_figure
from crdetect.plots.surroundings import Surroundings
from crdetect.plots.words import class_labels, code_labels

_PAGE_IN = (11.0, 7.8)  # size of a page, inches: it fits on A4 and on letter
_DPI = 100  # pixels per inch of images in the file: few are enough, the pixels shown are large
_FADED = 0.3  # opacity of the codes of other features
_MOST_LABELS = 15  # largest number of pixels of a feature that are labelled in the diagram
_LEAST_LABELLED = 0.1  # lowest height of a labelled pixel, in units of the highest of the feature
_MOST_ROWS = 30  # largest number of pixels of a feature in the table; chosen by eye
_LINES = ("-", "--")  # symbols of a legend that are lines, not markers
# Width of a character of the small font in a legend, and width of a symbol with the gap between two
# entries, in widths of a page; chosen so that entries do not overlap (a test looks at that).
_CHARACTER, _SYMBOL = 0.0054, 0.045
# The texts are in fonts that every PDF viewer has: laying out and embedding the glyphs of other
# fonts would take half of the time. These fonts have the characters of Windows 1252 only, and one
# weight.
_FONTS = {"pdf.use14corefonts": True, "font.weight": 500, "axes.titleweight": 500}
_FONTS |= {"axes.labelweight": 500, "figure.titleweight": 500, "figure.labelweight": 500}
_FONTS |= {"axes.formatter.use_mathtext": True}  # so that no other font is searched for a minus
_Y_LABEL = Y_LABEL.replace("−", "–")  # Windows 1252 has no minus
_SOME = 20  # largest number of messages on the progress of a file


@by_value
@dataclass(frozen=True)
class Sheet:
    """The results that the pages of a run and its report are drawn from.

    Attributes
    ----------
    detection : Detection
        The result of a run.
    corrected_adu : (rows, columns) array
        The combined image mediancr: the median with the pixels of MEDIANCR replaced.
    plane : Plane
        Density of the pixels outside MEDIANCR in the diagram.
    """

    detection: Detection
    corrected_adu: np.ndarray
    plane: Plane

    @classmethod
    def of(cls, detection: Detection, combined: Mapping[str, Combination]) -> Sheet:
        """Make the sheet of a detection and the images combined with its masks."""
        subject = subject_mediancr(detection)
        plane = Plane.of(detection, subject, Flagged.of(subject, detection.statistics))
        return cls(detection, combined["mediancr"].value, plane)

    def around(self, feature: Feature) -> Surroundings:
        """Surroundings of a feature that are shown, as large as ``semiwindow`` asks for."""
        semiwindow = self.detection.parameters.general.semiwindow
        return Surroundings.around(feature, semiwindow, self.detection.codes.shape)

    def heights(self, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
        """Places of the pixels of a feature in the diagram: x and y, ADU."""
        statistics = self.detection.statistics
        x = statistics.min2d[feature.y, feature.x]
        return x, statistics.median2d[feature.y, feature.x] - x


def write_pages(path: Path, sheet: Sheet, features: Sequence[Feature], progress: Progress) -> None:
    """Write a PDF file with two pages for each feature.

    Parameters
    ----------
    path : Path
        The file.
    sheet : Sheet
        The results to be drawn.
    features : sequence of Feature
        The features, at least one.
    progress : callable
        Called with a line that says which feature is drawn.
    """
    step = -(-len(features) // _SOME)
    with (
        mpl.rc_context(_FONTS),
        PdfPages(path, metadata={"Creator": "crdetect", "Title": path.stem}) as pdf,
    ):
        images, diagram = _ImagesPage(sheet), _DiagramPage(sheet)
        for i, feature in enumerate(features):
            if i % step == 0:
                progress(f"drawing {path.name}: feature {i + 1} of {len(features)}")
            for page in (images, diagram):
                page.show(feature)
                page.figure.set_dpi(_DPI)
                # Figure.savefig would draw each page twice
                FigureCanvasPdf(page.figure).print_pdf(pdf)


def feature_figures(sheet: Sheet, feature: Feature) -> tuple[Figure, Figure]:
    """Draw the two pages of one feature.

    Parameters
    ----------
    sheet : Sheet
        The results to be drawn.
    feature : Feature
        The feature.

    Returns
    -------
    tuple of two Figure
        The images around it, and its pixels in the diagram.
    """
    images, diagram = _ImagesPage(sheet), _DiagramPage(sheet)
    images.show(feature)
    diagram.show(feature)
    return images.figure, diagram.figure


def describe(sheet: Sheet, feature: Feature) -> str:
    """Describe a feature in one line: number, class, size, place and highest pixel."""
    x, y = feature.x + 1, feature.y + 1
    height = np.nan_to_num(sheet.heights(feature)[1])
    top = int(height.argmax())
    pixels = "1 pixel" if x.size == 1 else f"{x.size} pixels"
    words = class_labels(sheet.detection)[feature.class_name]
    return (
        f"CR {feature.number}, {words}: {pixels}, "
        f"x {x.min()}–{x.max()}, y {y.min()}–{y.max()}; highest at ({x[top]}, {y[top]}), "
        f"{height[top]:.4g} ADU above the minimum"
    )


def _explain(figure: Figure, entries: Sequence[tuple[str, str, str]]) -> None:
    """Explain markers or lines (symbol, colour, text) in one or two rows at the foot of a page.

    A legend of matplotlib would be laid out again for each page.
    """
    place, height = 0.04, 0.040
    for symbol, color, text in entries:
        width = _SYMBOL + _CHARACTER * len(text)
        if place + width > 1:
            place, height = 0.04, 0.014
        if symbol in _LINES:
            ends = [place - 0.012, place + 0.012]
            line = Line2D(ends, [height, height], color=color, linestyle=symbol)
        else:
            line = Line2D([place], [height], color=color, linestyle="none", marker=symbol)
        figure.add_artist(line)
        figure.text(place + 0.017, height, text, va="center", fontsize="small")
        place += width


# ---------------------------------------------------------------------------------------------
# First page: images


class _ImagesPage:
    """First page: exposures, median, codes and corrected median around a feature."""

    def __init__(self, sheet: Sheet):
        self._sheet = sheet
        names = [f"exposure {i}" for i in range(1, len(sheet.detection.masks.crmasks) + 1)]
        names += ["median2d", "codes (explained below)", "mediancr (corrected)"]
        self.figure = new_figure(*_PAGE_IN)
        self.figure.set_layout_engine("none")
        self._title = self.figure.suptitle(" ", fontsize="medium", y=0.97)
        axes = _grid(self.figure, len(names))
        self._panels = [_Panel(ax, name) for ax, name in zip(axes, names, strict=True)]
        self._bar = _Bar(self.figure, f"ADU ({sheet.detection.parameters.general.color_scale})")
        labels = code_labels(sheet.detection)
        entries = [("s", LOOKS[code].color, label) for code, label in labels.items()]
        entries.append(("-", ORANGE, "masked in this image"))
        if not sheet.detection.statistics.count2d.all():
            entries.append(("s", MISSING_COLOR, "no value"))
        _explain(self.figure, entries)

    def show(self, feature: Feature) -> None:
        """Show another feature."""
        sheet, detection = self._sheet, self._sheet.detection
        around = sheet.around(feature)
        exposures = [around.cut(image) for image in detection.observation.stack.exposures]
        median = around.cut(detection.statistics.median2d)
        images = [*exposures, median, around.cut(sheet.corrected_adu)]
        low, high = grey_limits(np.stack(images), detection.parameters.general.color_scale)
        *panels, middle, codes, corrected = self._panels
        crmasks = detection.masks.crmasks
        for panel, image, crmask in zip(panels, exposures, crmasks, strict=True):
            hit = np.count_nonzero(crmask[feature.y, feature.x])
            note = f": {hit} of {feature.x.size} masked"
            panel.show(image, around, (low, high), around.cut(crmask), note)
        middle.show(median, around, (low, high), around.cut(detection.masks.mediancr))
        corrected.show(images[-1], around, (low, high), np.zeros(around.shape, bool))
        own = around.holds(feature)
        codes.show(_paint(around.cut(detection.codes), own), around, (low, high), own)
        self._bar.show(low, high)
        self._title.set_text(describe(sheet, feature))


def _grid(figure: Figure, n: int) -> list[Axes]:
    """Make n panels of equal size with common axes, of which the outer ones have labels."""
    rows, columns = rows_and_columns(n)
    grid = figure.add_gridspec(
        rows, columns, left=0.07, right=0.92, bottom=0.12, top=0.9, wspace=0.08, hspace=0.14
    )
    axes: list[Axes] = []
    for i in range(n):
        shared = axes[0] if axes else None
        ax = figure.add_subplot(grid[divmod(i, columns)], sharex=shared, sharey=shared)
        _label_outside(ax, left=i % columns == 0, bottom=i + columns >= n)
        axes.append(ax)
    for axis in (axes[0].xaxis, axes[0].yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        axis.set_major_formatter(FuncFormatter(_number))
    figure.supxlabel("x (FITS pixel)", fontsize="medium", y=0.06)
    figure.supylabel("y (FITS pixel)", fontsize="medium")
    return axes


def _label_outside(ax: Axes, left: bool, bottom: bool) -> None:
    """Show the ticks of the outer panels only, and fix the place of the title: both save time."""
    ax.tick_params(labelsize="small")
    ax.yaxis.set_visible(left)
    ax.xaxis.set_visible(bottom)
    _settle(ax)


def _settle(ax: Axes) -> None:
    """Fix the places of title and labels, so that they are not laid out again for each page."""
    ax.set_title(" ", y=1.0)
    ax.xaxis.set_label_coords(0.5, -0.11)
    ax.yaxis.set_label_coords(-0.11, 0.5)


def _number(value: float, _: int) -> str:
    """Format a number with a hyphen for a minus, which the fonts of the file have."""
    return f"{value:g}"


class _Panel:
    """Panel with an image and the outline of a mask."""

    def __init__(self, ax: Axes, name: str):
        self._name = name
        self.image = ax.imshow(
            np.zeros((2, 2)),
            cmap=grey_map(),
            origin="lower",
            interpolation="nearest",
        )
        (self._outline,) = ax.plot([], [], color=ORANGE, linewidth=1.0, scalex=False, scaley=False)
        ax.set_facecolor("0.93")
        self._title = ax.set_title(name, fontsize="small", y=1.0)

    def show(
        self,
        image: np.ndarray,
        around: Surroundings,
        limits: tuple[float, float],
        mask: np.ndarray,
        note: str = "",
    ) -> None:
        """Show another image and the outline of its mask, and add a note to its name."""
        self.image.set_data(image)
        self.image.set_extent(around.extent)
        self.image.set_clim(*limits)
        self._title.set_text(f"{self._name}{note}")
        self._outline.set_data(*around.outline(mask))


class _Bar:
    """Colour bar of the images; one of matplotlib would be made anew for each page."""

    def __init__(self, figure: Figure, label: str):
        self._ax = figure.add_axes((0.935, 0.14, 0.014, 0.74))
        self._image = self._ax.imshow(
            np.linspace(0, 1, 256)[:, np.newaxis], cmap="gray", origin="lower", aspect="auto"
        )
        self._ax.xaxis.set_visible(False)
        self._ax.yaxis.tick_right()
        self._ax.yaxis.set_major_locator(MaxNLocator(6))
        self._ax.yaxis.set_major_formatter(FuncFormatter(_number))
        _settle(self._ax)
        self._ax.set_ylabel(label)
        self._ax.yaxis.set_label_coords(4.2, 0.5)

    def show(self, low: float, high: float) -> None:
        """Show the values of black and white."""
        self._image.set_extent((0, 1, low, high))


def _paint(codes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Colours (RGBA) of codes; pixels outside the feature are faded."""
    table = np.zeros((max(LOOKS) + 1, 4))
    for code, look in LOOKS.items():
        table[code] = to_rgba(look.color)
    painted = table[codes]
    painted[..., 3] *= np.where(own, 1.0, _FADED)
    return painted


# ---------------------------------------------------------------------------------------------
# Second page: the diagram


class _DiagramPage:
    """Second page: pixels of a feature in the diagram, enlarged, and in a table of values."""

    def __init__(self, sheet: Sheet):
        self._sheet = sheet
        self.figure = new_figure(*_PAGE_IN)
        self.figure.set_layout_engine("none")
        self._title = self.figure.suptitle(" ", fontsize="medium", y=0.97)
        whole = self.figure.add_axes((0.075, 0.56, 0.43, 0.34))
        self._part = self.figure.add_axes((0.075, 0.14, 0.43, 0.33))
        self._points = []
        labels = code_labels(sheet.detection)
        for ax, title in (
            (whole, "pixels of the feature in the diagram"),
            (self._part, "enlarged, labelled by x, y (FITS pixel)"),
        ):
            plane = sheet.plane
            norm = count_norm(1.0, plane.counts)
            draw_density_image(ax, plane.limits, plane.counts, norm, grey_density_map())
            plane.draw_criterion(ax)
            name_axes(ax, "", _Y_LABEL)
            _settle(ax)
            ax.set_title(title, fontsize="medium", y=1.0)
            ax.tick_params(labelsize="small")
            ax.xaxis.set_major_locator(MaxNLocator(5))
            self._points.append(_Points(ax, labels))
        self._part.yaxis.set_major_locator(MaxNLocator(5))
        sheet.plane.set_scales(whole)
        whole.yaxis.set_minor_locator(NullLocator())
        for axis in (whole.xaxis, whole.yaxis, self._part.xaxis, self._part.yaxis):
            axis.set_major_formatter(FuncFormatter(_number))
        self._table = self.figure.text(
            0.54, 0.9, "", va="top", family="monospace", fontsize=7, linespacing=1.5
        )
        self._labels: list = []
        entries = [(LOOKS[code].marker, LOOKS[code].color, label) for code, label in labels.items()]
        if sheet.plane.criterion is not None:
            _, threshold = typical_threshold(sheet.plane.criterion)
            entries = [("-", FINAL_COLOR, "boundary"), ("--", "k", threshold), *entries]
        _explain(self.figure, entries)

    def show(self, feature: Feature) -> None:
        """Show another feature."""
        x, y = self._sheet.heights(feature)
        for points in self._points:
            points.show(x, y, feature.code)
        order = np.argsort(-np.nan_to_num(y), kind="stable")
        self._part.set_xlim(_padded(x, least=1.0))
        self._part.set_ylim(_padded(np.append(y, 0.0), least=1.0))
        self._write_labels(feature, x[order], y[order], order)
        self._table.set_text("\n".join(self._rows(feature, x, y, order)))
        self._title.set_text(describe(self._sheet, feature))

    def _write_labels(
        self, feature: Feature, x: np.ndarray, y: np.ndarray, order: np.ndarray
    ) -> None:
        for artist in self._labels:
            artist.remove()
        some = order[:_MOST_LABELS][y[:_MOST_LABELS] >= _LEAST_LABELLED * y[0]]
        labels = [f"{feature.x[i] + 1}, {feature.y[i] + 1}" for i in some]
        texts, lines = write_labels(self._part, x, y, labels)
        self._labels = [*texts, lines]

    def _rows(self, feature: Feature, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> list[str]:
        """Rows of the table of values: the pixels of a feature, the highest first."""
        exposures = self._sheet.detection.observation.stack.exposures
        names = ["min2d", "med–min", *(f"exp. {i}" for i in range(1, len(exposures) + 1))]
        head = f"{'x':>5}{'y':>6} code" + "".join(f"{name:>10}" for name in names)
        rows = [head, "-" * len(head)]
        for i in order[:_MOST_ROWS]:
            values = [x[i], y[i], *exposures[:, feature.y[i], feature.x[i]]]
            numbers = "".join(f"{value:>10.2f}" for value in values)
            rows.append(f"{feature.x[i] + 1:>5}{feature.y[i] + 1:>6}{feature.code[i]:>5}{numbers}")
        if order.size > _MOST_ROWS:
            rows.append(f"… and {order.size - _MOST_ROWS} lower ones: see the CSV table")
        return rows


class _Points:
    """Pixels of a feature in the diagram, with the colour and marker of their codes."""

    def __init__(self, ax: Axes, labels: dict[int, str]):
        self.lines = {
            code: ax.plot(
                [],
                [],
                linestyle="none",
                marker=LOOKS[code].marker,
                markersize=1.2 * LOOKS[code].size,
                markerfacecolor=LOOKS[code].color,
                markeredgecolor="k",
                markeredgewidth=0.3,
                label=label,
                zorder=5,
            )[0]
            for code, label in labels.items()
        }

    def show(self, x: np.ndarray, y: np.ndarray, code: np.ndarray) -> None:
        """Show other pixels."""
        for value, line in self.lines.items():
            line.set_data(x[code == value], y[code == value])


def _padded(values: np.ndarray, least: float) -> tuple[float, float]:
    """Limits of an axis around values, with room for labels."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    room = max(0.18 * (high - low), least)
    return low - room, high + room
