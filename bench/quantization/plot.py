"""The plot of the quantisation study. Knows the fields of its rows; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from bench.harness.plots import save

ALL, LEGAL = "#3b6fb6", "#e4572e"


def plot_quantization(label: str, scores: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Divergence and flips of every format (filled) and its noise control (hollow), over all and over legal tokens."""
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2))
    _panel(panels[0], scores, ("kl_all", "kl_legal"), "KL to the reference, nats per token")
    panels[0].set_yscale("log")
    _panel(panels[1], scores, ("flips_free", "flips_legal"), "share of tokens whose argmax flips")
    panels[1].set_ylim(bottom=0)
    panels[0].legend(loc="lower right", fontsize=8, frameon=False)
    figure.suptitle(f"reference: {label}; bars: 95 % intervals over prompts", fontsize=10)
    return save(figure, out, "quantization")


def _panel(panel: Any, scores: Sequence[dict[str, Any]], names: tuple[str, str], title: str) -> None:
    rows = {row["variant"]: row for row in scores if row["variant"] != "reference"}
    formats = [name for name in rows if not name.startswith("noise~")]
    for shift, (name, color, words) in enumerate(zip(names, (ALL, LEGAL), ("all tokens", "legal tokens"), strict=True)):
        for noise, prefix in enumerate(("", "noise~")):
            shown = [one for one in formats if prefix + one in rows]
            values = [rows[prefix + one][name] for one in shown]
            panel.errorbar(
                [formats.index(one) + 0.18 * (2 * shift + noise) - 0.27 for one in shown],
                [value for value, _, _ in values],
                yerr=[[max(0.0, v - low) for v, low, _ in values], [max(0.0, high - v) for v, _, high in values]],
                fmt="o",
                color=color,
                markerfacecolor="white" if noise else color,
                label=f"{words}{', noise of the same RMS' if noise else ''}",
            )
    panel.set_xticks(range(len(formats)), formats)
    panel.set_title(title, fontsize=10)
