"""Plots of bench lines, PNG and SVG. Knows matplotlib and the fields of the runs; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

HIDDEN, EXPOSED = "#1d9a6c", "#e4572e"


def plot_mask_overhead(runs: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """One panel per schema set: mask work per step by loop and batch, hidden and exposed, on a logarithmic axis."""
    sets = list(dict.fromkeys(run["schema_set"] for run in runs))
    rows = max(sum(run["schema_set"] == name for run in runs) for name in sets)
    figure, panels = pyplot.subplots(1, len(sets), figsize=(4.6 * len(sets) + 1.5, 1.2 + 0.3 * rows), squeeze=False)
    for panel, name in zip(panels[0], sets, strict=True):
        _mask_panel(panel, name, [run for run in runs if run["schema_set"] == name])
    panels[0][0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=2, fontsize=8, frameon=False)
    return save(figure, out, "mask_overhead")


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Both forms into `out`, and the figure closed."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{name}.{kind}" for kind in ("png", "svg")]
    figure.tight_layout()
    for file in files:
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
    return files


def _mask_panel(panel: Any, name: str, runs: Sequence[dict[str, Any]]) -> None:
    labels = [_label(run) for run in runs]
    places = range(len(runs))
    panel.barh(places, [run["mask_hidden_us"] for run in runs], color=HIDDEN, height=0.36, align="edge", label="hidden")
    exposed = [run["mask_exposed_us"] for run in runs]
    panel.barh([p - 0.36 for p in places], exposed, color=EXPOSED, height=0.36, align="edge", label="exposed")
    panel.set_yticks(list(places), labels, fontsize=8)
    panel.invert_yaxis()
    panel.set_xscale("symlog", linthresh=1)
    panel.set_xlabel("µs per row and step, median")
    panel.set_title(name, fontsize=10, loc="left")
    panel.spines[["top", "right"]].set_visible(False)


def _label(run: dict[str, Any]) -> str:
    if run["loop"] != "ours":
        return f"{run['loop'].replace(' LogitsProcessor', '')} · batch {run['batch']}"
    overlap = "overlap" if run["overlap"] else "no overlap"
    return f"ours, {overlap}, forced {run['forced']} · batch {run['batch']}"
