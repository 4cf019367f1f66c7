"""Figure of the offset of an exposure: its cross-correlation with the first one."""

from __future__ import annotations

from matplotlib.figure import Figure

from crdetect.equivalence.offsets import Offsets
from crdetect.plots.style import VERMILLION, new_figure


def crosscorrelation(offsets: Offsets, number: int) -> Figure:
    """Draw the cross-correlation of one exposure with the first, and its measured offset.

    Parameters
    ----------
    offsets : Offsets
        Measured offsets.
    number : int
        Number of the exposure, from 1.
    """
    correlation = offsets.correlation[number - 1]
    reach = len(correlation) // 2
    x, y = offsets.xy_px[number - 1] - offsets.xy_px[0]
    error_x, error_y = offsets.errors_px[number - 1]
    figure = new_figure(7.5, 6.4)
    ax = figure.subplots()
    drawn = ax.imshow(
        correlation,
        origin="lower",
        extent=(-reach - 0.5, reach + 0.5, -reach - 0.5, reach + 0.5),
        cmap="cividis",
        interpolation="nearest",
    )
    figure.colorbar(drawn, label="cross-correlation with exposure 1")
    ax.axhline(0, color="w", linewidth=0.6)
    ax.axvline(0, color="w", linewidth=0.6)
    ax.plot(
        [x],
        [y],
        "+",
        color=VERMILLION,
        markersize=16,
        markeredgewidth=2.5,
        label=f"({x:+.3f} ± {error_x:.3f}, {y:+.3f} ± {error_y:.3f}) px",
    )
    dx, dy = offsets.xy_px[number - 1]
    ax.set(
        xlabel="offset from exposure 1 in x (pixel)",
        ylabel="offset from exposure 1 in y (pixel)",
        title=f"Exposure {number}: offset from the median ({dx:+.3f}, {dy:+.3f}) px",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    return figure
