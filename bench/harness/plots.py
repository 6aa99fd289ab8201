"""How a plot is saved: PNG and SVG, without a display. Knows matplotlib; knows no figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Both forms into `out`, without the spines that carry nothing, and the figure closed."""
    out.mkdir(parents=True, exist_ok=True)
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    files = [out / f"{name}.{kind}" for kind in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
    return files
