"""Loading what other tools quantised, as far as the disk and the layout go, beside `dd`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.checkpoint_read.readers import dd, measure


def compared(paths: list[Path], device: str, repeats: int) -> list[dict[str, Any]]:
    """Cold reads of a model's files by `dd` and by the loader."""
    path = paths[0].parent if paths[0].suffix == ".safetensors" else paths[0]
    load = loader(path, device)
    gib = sum(path.stat().st_size for path in paths) / 2**30
    readers = {"dd": lambda: dd(paths), "reading and layout": load}
    return [{**run, "gib": gib} for run in measure(paths, readers, repeats, caches=("cold",), warm=0)]


def loader(path: Path, device: str) -> Callable[[], None]:
    """Takes every weight to the device, packed, and lays it out. All that is imported is there when this returns:
    seconds that the benches' other processes do without."""
    import torch

    from engine.model.architecture.shape import Shape
    from engine.model.checkpoint.read_ahead import ReadAhead
    from engine.model.cpu.packed_weights import Opened, open_folder, open_gguf
    from engine.model.cuda.fragment_model import fragment_model
    from engine.model.formats.gguf_file import read_gguf
    from engine.model.formats.schemes import scheme_of

    def opened() -> Opened:
        scheme = scheme_of(path) if path.is_dir() else None
        return open_gguf(read_gguf(path)) if scheme is None else open_folder(path, scheme)

    def load() -> None:
        model = opened()
        with torch.inference_mode():
            fragment_model(ReadAhead(model.checkpoint, model.names, device), Shape.from_config(model.settings))
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    torch.zeros(1, device=device)  # the driver
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # an engine starts without memory
    opened()  # transformers imports a model's code when the first is made
    return load


def prepare() -> None:
    """The imports that `loader` needs, in whatever process this is called."""
    for name in ("engine.model.cpu.packed_weights", "engine.model.cuda.fragment_model"):
        import_module(name)
