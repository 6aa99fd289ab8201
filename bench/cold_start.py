"""What a container's start takes, by part, from the process to the first answer, with every cache filled.

    python -m bench.cold_start [--config FILE] [--tokenizer FILE] [--tokenizer-config FILE] [--quantization nf4]
                               [--folder DIR] [--repeats 3] [--hashes] [--quick] [--out DIR]

Deploys `modal_app.py` to the control plane of `tests/modal` and starts Modal's own entry point there, with the uploaded
files and a checkpoint of random weights in the config's shape on a local disk. The first container fills the caches
and is not counted. Then, `repeats` times each, containers whose checkpoint the kernel was told to forget (`disk`) and
ones that find it in the page cache (`cached`); medians. Ceiling: the bytes of the checkpoint at the speed of `dd` on
the same files. Without a mount namespace a plain process is started instead, and `namespace` says so.

Parts follow each other and add up to `first_answer_s`: `entry_point` (interpreter, Modal's client), `imports`,
`driver`, then the engine's own phases, `engine_rest`, `schemas` (warming those that ship), `first_answer`. `ready_s`
is all but the last, `ready_without_weights_s` without the phase `weights` too. `--hashes` adds the checkpoint reader
with and without hashes against `dd` (`bench.checkpoint_read`). Packages of the image that are not installed here are
left out and named. Not measured: what Modal adds (container, image, Volume, network).
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.checkpoint_read import dd, forget, measure
from bench.checkpoint_read import show as show_readers
from bench.record import emit, record
from engine.serve.modal.deployment import Deployment

QUICK = {"MASKLOOP_MAX_BATCH": "2", "MASKLOOP_MAX_SEQUENCE": "2048"}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
QUANTIZE = """
import sys
from engine.model.loader import choose_device
from engine.model.quantize import quantize
model, to, out = sys.argv[1:]
quantize(model, to, out, device=choose_device("auto"))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="config.json of the shape; needed without --quick")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json, plain or .xz")
    parser.add_argument("--tokenizer-config", type=Path)
    parser.add_argument("--quantization", default="nf4")
    parser.add_argument("--folder", type=Path, help="the disk that is read; a temporary folder otherwise")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hashes", action="store_true", help="also the reader with and without hashes")
    parser.add_argument("--quick", action="store_true", help="a tiny model on the CPU, one start")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.quantization = "int8"
    elif not (options.config and options.tokenizer):
        parser.error("--config and --tokenizer are needed without --quick")
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
    from tests.modal.control_plane import roots
    from tests.modal.control_plane.plane import Plane

    why = roots.why_no_namespace()
    settings = {"MASKLOOP_AUTH": "none", "MASKLOOP_QUANTIZATION": options.quantization, "MASKLOOP_MAX_CONTAINERS": "1"}
    if options.quick:
        settings |= QUICK
    if why:
        print(f"no mount namespace here ({why}): plain processes", flush=True)
    with Plane(folder / "p", namespaces=not why, strict=False) as plane:
        weights = plane.uploads.volume("maskloop-weights")
        checkpoint = weights / Deployment.from_env(settings).checkpoint
        make_checkpoint(options, folder, checkpoint, settings["MASKLOOP_QUANTIZATION"])
        plane.container_modules["sitecustomize"] = str(Path(__file__).with_name("start_probe.py"))
        plane.container_env |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        plane.deploy(**settings)
        paths = sorted(checkpoint.glob("*.safetensors"))
        ceiling_s = read_s(paths)
        starts: dict[str, list[dict[str, float]]] = {"disk": [], "cached": []}
        device = "cpu"
        for cache, counted in plan(options):
            if cache == "disk":
                forget(paths)
            parts, device = start(plane)
            if counted:
                starts[cache].append(parts)
        figures = summary(starts, paths, ceiling_s)
        show(figures, device)
        if options.hashes:
            read = measure(checkpoint, paths, torch_device(device), options.repeats)
            figures["reader"], figures["hashes_add"] = read
            show_readers(*read)
        left_out = sorted(plane.launcher.left_out)
        print(f"packages of the image that are not installed here: {', '.join(left_out) or 'none'}")
    return {**figures, "namespace": not why, "why_no_namespace": why, "left_out": left_out, "device": device}


def plan(options: argparse.Namespace) -> list[tuple[str, bool]]:
    """Which starts, in order, and which of them count."""
    if options.quick:
        return [("cached", True)]
    return [("cached", False), *[("disk", True), ("cached", True)] * options.repeats]


def make_checkpoint(options: argparse.Namespace, folder: Path, checkpoint: Path, quantization: str) -> None:
    """Random weights of the shape, quantised in a process of their own, under the name of the product's checkpoint."""
    shape = folder / "shape"
    if options.quick:
        from tests.modal.deployed.models import write_tiny

        config = write_tiny(shape)
    else:
        shape.mkdir()
        config = Path(shutil.copyfile(options.config, shape / "config.json"))
        text = options.tokenizer.read_bytes()
        (shape / "tokenizer.json").write_bytes(lzma.decompress(text) if options.tokenizer.suffix == ".xz" else text)
        if options.tokenizer_config:
            shutil.copyfile(options.tokenizer_config, shape / "tokenizer_config.json")
    if options.quick:
        from engine.model.quantize import quantize

        quantize(f"random:{config}", quantization, checkpoint)
    else:  # a process that gives the GPU's memory back
        subprocess.run([sys.executable, "-c", QUANTIZE, f"random:{config}", quantization, str(checkpoint)], check=True)


def read_s(paths: Sequence[Path]) -> float:
    """One reader of the files, nothing of them in the page cache."""
    forget(paths)
    started = time.perf_counter()
    dd(paths)
    return time.perf_counter() - started


def start(plane: Any) -> tuple[dict[str, float], str]:
    """One container from the process to its first answer; parts in seconds, in order, and the device."""
    function = plane.function("maskloop", "Engine.*")
    engine = plane.cls("maskloop")
    began = time.time()
    call = engine.generate.spawn("ready?", SCHEMA, 20, seed=1)
    answer = call.get(timeout=1200)
    answered = time.time()
    if answer["status"] not in ("complete", "closed"):
        raise SystemExit(f"the container answered {answer}")
    (container,) = function.containers
    parts = divide(container.log, began, answered, answer["timings_ms"]["total"] / 1e3)
    device = answer["device"]
    plane.run(function.stop(container))
    plane.wait_until(lambda: container.exit_code is not None)
    plane.wait_until(lambda: not function.containers)
    return parts, device


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


def summary(starts: Mapping[str, list[dict[str, float]]], paths: Sequence[Path], ceiling_s: float) -> dict[str, Any]:
    """Medians by cache, and what follows from them."""
    runs = []
    for cache, seen in starts.items():
        if not seen:
            continue
        parts = {name: round(statistics.median(each[name] for each in seen), 3) for name in seen[0]}
        wholes = [sum(each.values()) for each in seen]
        ready = [whole - each["first_answer"] for whole, each in zip(wholes, seen, strict=True)]
        without = [whole - each["weights"] for whole, each in zip(ready, seen, strict=True)]
        runs.append(
            {
                "cache": cache,
                "parts": parts,
                "ready_s": round(statistics.median(ready), 3),
                "ready_without_weights_s": round(statistics.median(without), 3),
                "first_answer_s": round(statistics.median(wholes), 3),
            }
        )
    nbytes = sum(path.stat().st_size for path in paths)
    return {"checkpoint_bytes": nbytes, "dd_s": round(ceiling_s, 3), "runs": runs}


def show(figures: Mapping[str, Any], device: str) -> None:
    """The table for people."""
    size, ceiling = figures["checkpoint_bytes"] / 1e9, figures["dd_s"]
    print(f"ceiling: {size:.2f} GB of checkpoint in {ceiling:.2f} s (dd, not cached); {device}")
    print(f"{'part':<28}" + "".join(f"{run['cache']:>12}" for run in figures["runs"]))
    for name in figures["runs"][0]["parts"]:
        print(f"{name:<28}" + "".join(f"{run['parts'][name]:>12.3f}" for run in figures["runs"]))
    for name in ("ready_s", "ready_without_weights_s", "first_answer_s"):
        print(f"{name:<28}" + "".join(f"{run[name]:>12.3f}" for run in figures["runs"]))


def torch_device(name: str) -> str:
    return "cpu" if name == "cpu" else "cuda"


if __name__ == "__main__":
    raise SystemExit(main())
