"""Where a checkpoint may be written. Without torch: a taken name is told before seconds are spent on imports."""

from __future__ import annotations

from pathlib import Path

from engine.errors import ModelError


def require_free(out: Path) -> None:
    """ModelError where something lies there already; an empty folder may."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists and is not empty; choose another --out or remove it", param="out")
