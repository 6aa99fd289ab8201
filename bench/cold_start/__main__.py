"""What a container's start takes, by part, from the process to the first answer, with every cache filled.

    python -m bench.cold_start [--config FILE] [--tokenizer FILE] [--quantization nf4] [--folder DIR]
                               [--repeats 3] [--quick] [--out DIR]

Deploys `modal_app.py` to the control plane of `tests/modal` and starts Modal's own entry point there, with the uploaded
files and a checkpoint of random weights in the config's shape on a local disk. The first container fills the caches
and is not counted. Then, `repeats` times each, containers whose checkpoint the kernel was told to forget (`disk`) and
ones that find it in the page cache (`cached`); medians. Ceiling: the bytes of the checkpoint at the speed of `dd` on
the same files. Without a mount namespace a plain process is started instead, and `namespace` says so.

Parts follow each other and add up to `first_answer_s`: `entry_point` (interpreter, Modal's client), `imports`,
`driver`, then the engine's own phases, `engine_rest`, `schemas` (warming those that ship), `first_answer`. `ready_s`
is all but the last, `ready_without_weights_s` without the phase `weights` too. Packages of the image that are not
installed here are left out and named. Not measured: what Modal adds (container, image, Volume, network).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.checkpoint_read.readers import dd, forget
from bench.datasets.cases import text_of
from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from engine.serve.modal.deployment import Deployment
from tests.modal.control_plane import roots
from tests.modal.control_plane.plane import Plane
from tests.modal.deployed.models import write_shape

QUICK = {"MASKLOOP_MAX_BATCH": "2", "MASKLOOP_MAX_SEQUENCE": "2048"}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
TOTALS = ("ready_s", "ready_without_weights_s", "first_answer_s")
QUANTIZE = """
import sys
from engine.model.loader import choose_device
from engine.model.quantize import quantize
model, to, out = sys.argv[1:]
quantize(model, to, out, device=choose_device("auto"))
"""
"""In a process of its own, which gives the GPU's memory back."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, divide, print the table and the JSON line."""
    options = _options(arguments)
    folder = Path(tempfile.mkdtemp(prefix="cold-", dir=options.folder))
    try:
        figures = run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    device = figures.pop("device")
    configuration = {"quantization": options.quantization, "quick": options.quick}
    line = record("cold_start", figures, configuration=configuration, repeats=options.repeats, device=device)
    emit(line, options.out)
    return 0


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The checkpoint, the deployment, the starts."""
    why = roots.why_no_namespace()
    settings = {"MASKLOOP_AUTH": "none", "MASKLOOP_QUANTIZATION": options.quantization, "MASKLOOP_MAX_CONTAINERS": "1"}
    settings |= QUICK if options.quick else {}
    if why:
        print(f"no mount namespace here ({why}): plain processes", flush=True)
    with Plane(folder / "p", namespaces=not why, strict=False) as plane:
        weights = plane.uploads.volume("maskloop-weights")
        checkpoint = weights / Deployment.from_env(settings).checkpoint
        (folder / "shape").mkdir()
        config = write_shape(folder / "shape") if options.quick else _shape(options, folder / "shape")
        quantize = [sys.executable, "-c", QUANTIZE, f"random:{config}", options.quantization, str(checkpoint)]
        subprocess.run(quantize, check=True)
        plane.container_modules["sitecustomize"] = str(Path(__file__).with_name("probe.py"))
        plane.container_env |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        plane.deploy(**settings)
        paths = sorted(checkpoint.glob("*.safetensors"))
        forget(paths)
        began = time.perf_counter()
        dd(paths)
        dd_s = time.perf_counter() - began
        starts: dict[str, list[dict[str, float]]] = {"disk": [], "cached": []}
        device = "cpu"
        for cache, counted in plan(options):
            if cache == "disk":
                forget(paths)
            parts, device = start(plane)
            starts[cache] += [parts] if counted else []
        figures = {"checkpoint_bytes": sum(path.stat().st_size for path in paths), "dd_s": round(dd_s, 3)}
        figures["runs"] = [summary(cache, seen) for cache, seen in starts.items() if seen]
        show(figures, device)
        left_out = sorted(plane.launcher.left_out)
        print(f"packages of the image that are not installed here: {', '.join(left_out) or 'none'}")
    return {**figures, "namespace": not why, "why_no_namespace": why, "left_out": left_out, "device": device}


def plan(options: argparse.Namespace) -> list[tuple[str, bool]]:
    """Which starts, in order, and which of them count."""
    if options.quick:
        return [("cached", True)]
    return [("cached", False), *[("disk", True), ("cached", True)] * options.repeats]


def _shape(options: argparse.Namespace, folder: Path) -> Path:
    """What the options name; its config."""
    (folder / "tokenizer.json").write_text(text_of(options.tokenizer), encoding="utf-8")
    return Path(shutil.copyfile(options.config, folder / "config.json"))


def start(plane: Plane) -> tuple[dict[str, float], str]:
    """One container from the process to its first answer; parts in seconds, in order, and the device."""
    function = plane.function("maskloop", "Engine.*")
    engine = plane.cls("maskloop")
    began = time.time()
    answer = engine.generate.spawn("ready?", SCHEMA, 20, seed=1).get(timeout=1200)
    answered = time.time()
    if answer["status"] not in ("complete", "closed"):
        raise SystemExit(f"the container answered {answer}")
    (container,) = function.containers
    parts = divide(container.log, began, answered, answer["timings_ms"]["total"] / 1e3)
    plane.run(function.stop(container))
    plane.wait_until(lambda: container.exit_code is not None)
    plane.wait_until(lambda: not function.containers)
    return parts, answer["device"]


def divide(log: str, began: float, answered: float, answer_s: float) -> dict[str, float]:
    """The parts of a start from the probe's lines and the product's own `loaded` line. They add up to the whole."""
    probes = [json.loads(line.partition("probe ")[2]) for line in log.splitlines() if line.startswith("probe ")]
    loaded = next(json.loads(line) for line in log.splitlines() if '"event": "loaded"' in line)
    app = next(probe for probe in probes if probe["part"] == "import modal_app")
    entry_s = app["at"] - app["s"] - began - sum(probe["s"] for probe in probes if probe["at"] < app["at"] - app["s"])
    parts = {"entry_point": entry_s, "imports": 0.0, "driver": 0.0}
    phases = without_probes({name: float(s) for name, s in loaded["phases_s"].items()}, loaded["ts"], probes)
    for probe in probes:
        parts["imports" if probe["part"].startswith("import ") else "driver"] += probe["s"]
    parts |= phases
    parts["engine_rest"] = loaded["ts"] - began - sum(parts.values())
    ready = answered - answer_s
    return {**parts, "schemas": ready - loaded["ts"], "first_answer": answer_s}


def without_probes(phases: dict[str, float], end: float, probes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The engine's phases, which follow each other up to `end`, without the imports and driver calls inside them."""
    windows, at = {}, end - sum(phases.values())
    for name, seconds in phases.items():
        windows[name] = (at, at := at + seconds)
    inside = {
        name: sum(probe["s"] for probe in probes if begin < probe["at"] <= finish)
        for name, (begin, finish) in windows.items()
    }
    return {name: max(0.0, seconds - inside[name]) for name, seconds in phases.items()}


def summary(cache: str, seen: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians over the starts, of the parts and of what follows from them."""
    wholes = [sum(each.values()) for each in seen]
    ready = [whole - each["first_answer"] for whole, each in zip(wholes, seen, strict=True)]
    without = [whole - each["weights"] for whole, each in zip(ready, seen, strict=True)]
    totals = zip(TOTALS, (ready, without, wholes), strict=True)
    return {
        "cache": cache,
        "parts": {name: round(median(each[name] for each in seen), 3) for name in seen[0]},
        **{name: round(median(values), 3) for name, values in totals},
    }


def show(figures: Mapping[str, Any], device: str) -> None:
    """The table for people."""
    size, runs = figures["checkpoint_bytes"] / 1e9, figures["runs"]
    print(f"ceiling: {size:.2f} GB of checkpoint in {figures['dd_s']:.2f} s (dd, not cached); {device}")
    columns = [{**run["parts"], **{name: run[name] for name in TOTALS}} for run in runs]
    rows = [[name, *(f"{column[name]:.3f}" for column in columns)] for name in columns[0]]
    print_table(["part", *(run["cache"] for run in runs)], rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("cold_start", __doc__, "a tiny model on the CPU, one start")
    parser.add_argument("--config", type=Path, help="config.json of the shape; needed without --quick")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json, plain or .xz")
    parser.add_argument("--folder", type=Path, help="the disk that is read; a temporary folder otherwise")
    parser.add(quantization="nf4", repeats=3)
    options = parser.read(arguments, quantization="int8")
    if not options.quick and not (options.config and options.tokenizer):
        parser.error("--config and --tokenizer are needed without --quick")
    return options


if __name__ == "__main__":
    sys.exit(main())
