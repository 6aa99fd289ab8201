"""The plot of the mask-overhead bench. Knows the fields of its runs; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from bench.harness.plots import save

HIDDEN, EXPOSED = "#1d9a6c", "#e4572e"


def plot_mask_overhead(runs: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """One panel per schema set: mask work per step by loop and batch, hidden and exposed, on a logarithmic axis."""
    sets = {run["schema_set"]: [one for one in runs if one["schema_set"] == run["schema_set"]] for run in runs}
    rows = max(map(len, sets.values()))
    figure, panels = pyplot.subplots(1, len(sets), figsize=(4.6 * len(sets) + 1.5, 1.2 + 0.3 * rows), squeeze=False)
    for panel, (name, shown) in zip(panels[0], sets.items(), strict=True):
        for shift, key, color in ((0.0, "hidden", HIDDEN), (-0.36, "exposed", EXPOSED)):
            places, values = [p + shift for p in range(len(shown))], [run[f"mask_{key}_us"] for run in shown]
            panel.barh(places, values, color=color, height=0.36, align="edge", label=key)
        panel.set_yticks(list(range(len(shown))), [_label(run) for run in shown], fontsize=8)
        panel.invert_yaxis()
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xlabel("µs per row and step, median")
        panel.set_title(name, fontsize=10, loc="left")
    panels[0][0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=2, fontsize=8, frameon=False)
    return save(figure, out, "mask_overhead")


def _label(run: dict[str, Any]) -> str:
    if run["loop"] != "ours":
        return f"{run['loop'].replace(' LogitsProcessor', '')} · batch {run['batch']}"
    overlap = "overlap" if run["overlap"] else "no overlap"
    return f"ours, {overlap}, forced {run['forced']} · batch {run['batch']}"
