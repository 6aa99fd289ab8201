"""Lies on a container's path as `sitecustomize`: what a start spends on imports and on the CUDA driver, by name.

Prints one line `probe {...}` to stderr whenever a watched package is in, or torch has first asked the driver. Times of
a package are without those of the watched ones that it imports. Uses the standard library alone; costs microseconds.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

WATCHED = {
    "accelerate", "bitsandbytes", "engine", "fastapi", "gguf", "jsonschema_rs", "modal", "modal_app", "numpy",
    "pydantic", "regex", "safetensors", "tokenizers", "torch", "transformers", "triton", "tvm_ffi", "uvicorn",
    "xgrammar",
    "engine.decode.engine", "engine.model.cuda.cuda_loader", "engine.serve.modal.container",
}  # fmt: skip


def tell(**facts: Any) -> None:
    print("probe", json.dumps({"at": time.time(), **facts}), file=sys.stderr, flush=True)


class Clock:
    """Nested spans; the time of an inner one is not the outer one's."""

    def __init__(self) -> None:
        self._inner: list[float] = []

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            return work()
        finally:
            whole = time.perf_counter() - start
            own = whole - self._inner.pop()
            if self._inner:
                self._inner[-1] += whole
            tell(part=name, s=own)


CLOCK = Clock()


class Timed:
    """A loader whose module body is timed; everything else is the real loader's."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        CLOCK.run(f"import {module.__name__}", lambda: self._loader.exec_module(module))
        if module.__name__ == "torch":
            time_driver(module)


class Finder:
    """Finds watched packages as everybody does, and times them."""

    def __init__(self) -> None:
        self._finding: set[str] = set()

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name not in WATCHED or name in self._finding:
            return None
        self._finding.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.discard(name)
        if spec is not None and spec.loader is not None:
            spec.loader = Timed(spec.loader)
        return spec


def time_driver(torch: Any) -> None:
    """The first question to the driver and the first context: the parts of a start that only the driver decides."""
    for place, name in ((torch.cuda, "is_available"), (torch.cuda, "_lazy_init")):
        setattr(place, name, _first(getattr(place, name), f"driver {name.strip('_')}"))


def _first(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    seen: list[bool] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        if seen:
            return function(*args, **kwargs)
        seen.append(True)
        return CLOCK.run(part, lambda: function(*args, **kwargs))

    return timed


if __name__ == "sitecustomize":
    tell(part="interpreter", s=0.0)
    sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]  # a finder by duck type
