"""Plots of the quantisation study, PNG and SVG. Knows the fields of its rows; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from bench.plots import save

ALL, LEGAL = "#3b6fb6", "#e4572e"


def plot_quantization(label: str, scores: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Divergence and flips of every format (filled) and its noise control (hollow), over all and over legal tokens."""
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2))
    _panel(panels[0], scores, ("kl_all", "kl_legal"), "KL to the reference, nats per token", log=True)
    _panel(panels[1], scores, ("flips_free", "flips_legal"), "share of tokens whose argmax flips", log=False)
    panels[0].legend(loc="lower right", fontsize=8, frameon=False)
    figure.suptitle(f"reference: {label}; bars: 95 % intervals over prompts", fontsize=10)
    return save(figure, out, "quantization")


def _panel(panel: Any, scores: Sequence[dict[str, Any]], names: tuple[str, str], title: str, *, log: bool) -> None:
    rows = [row for row in scores if row["variant"] != "reference"]
    formats = [row["variant"] for row in rows if not row["variant"].startswith("noise~")]
    for shift, (name, color, words) in enumerate(zip(names, (ALL, LEGAL), ("all tokens", "legal tokens"), strict=True)):
        for row in rows:
            noise = row["variant"].startswith("noise~")
            place = formats.index(row["variant"].removeprefix("noise~")) + 0.18 * (2 * shift + noise) - 0.27
            value, low, high = row[name]
            first = row["variant"] in (formats[0], f"noise~{formats[0]}")
            panel.errorbar(
                place,
                value,
                yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
                fmt="o",
                color=color,
                markerfacecolor="white" if noise else color,
                label=f"{words}{', noise of the same RMS' if noise else ''}" if first else None,
            )
    panel.set_xticks(range(len(formats)), formats)
    panel.set_title(title, fontsize=10)
    if log:
        panel.set_yscale("log")
    else:
        panel.set_ylim(bottom=0)
    panel.spines[["top", "right"]].set_visible(False)
