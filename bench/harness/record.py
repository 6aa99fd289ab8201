"""The JSON line every bench ends with: what ran, on what, from which commit, with which data."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("xgrammar", "torch", "transformers", "tokenizers", "jsonschema_rs", "bitsandbytes", "triton")
LABELS = ("measured", "computed")


def record(
    bench: str, figures: Mapping[str, Any], *, configuration: Mapping[str, Any], seeds: Sequence[int] = (),
    repeats: int = 1, data: Sequence[Path] = (), model_revision: str | None = None, label: str = "measured",
    packages: Iterable[str] = (), device: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The line as a dict: common fields, then `figures`. ValueError on a clash, a bad label, a non-finite figure.

    `data` are the files whose bytes are hashed; a `device` of None or `cpu` is told by the processor's name.
    """
    if label not in LABELS:
        raise ValueError(f"label {label!r} is not one of {', '.join(LABELS)}")
    head: dict[str, Any] = {
        "bench": bench,
        "commit": commit(),
        "dirty": dirty(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions((*PACKAGES, *packages)),
        "device": cpu_name() if device in (None, "cpu") else device,
        "cores": os.cpu_count(),
        "configuration": dict(configuration),
        "seeds": list(seeds),
        "repeats": repeats,
        "data_sha256": sha256(data) if data else None,
        "model_revision": model_revision,
        "label": label,
    }
    if clash := head.keys() & figures.keys():
        raise ValueError(f"figures may not reuse the fields {', '.join(sorted(clash))}")
    line = {**head, **figures}
    if (where := non_finite(line)) is not None:
        raise ValueError(f"figure {where} is not finite")
    return line


def emit(line: Mapping[str, Any], out: Path | None) -> None:
    """Print the line last on stdout; with `out` also append it to `out/NAME.jsonl`."""
    text = json.dumps(line, ensure_ascii=False, allow_nan=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with (out / f"{line['bench']}.jsonl").open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    print(text, flush=True)


def non_finite(value: Any, path: str = "") -> str | None:
    """The path of the first NaN or infinity inside plain JSON types, or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (non_finite(part, f"{path}.{key}" if path else str(key)) for key, part in parts)
    return next((where for where in found if where is not None), None)


def commit() -> str | None:
    """The commit of the working tree, None outside a repository."""
    return _git("rev-parse", "HEAD")


def dirty() -> bool | None:
    """Whether tracked files differ from the commit, None outside a repository."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    return None if status is None else bool(status)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions by package name; absent packages are left out. `python` is always there."""
    installed = {name: metadata.version(name) for name in packages if any(metadata.distributions(name=name))}
    return {"python": platform.python_version(), **installed}


def cpu_name() -> str:
    """The processor's name as Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def sha256(paths: Iterable[Path]) -> str:
    """One sha256 over the bytes of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
