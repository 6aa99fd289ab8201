"""Compiling kernels beside each other before the first is launched, in processes that need no GPU.

Triton compiles where a kernel is first launched, and most of that holds Python's lock, so threads gain little. Here one
process imports the kernels (started early, it does so while weights are read), is told what to compile, and forks once
a core; what the forks write into Triton's cache folder is what the launches then find. A failure is never fatal: what
is missing compiles where it is launched, as ever. Knows Triton's hooks and its cache folder. Knows no kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import triton

MOST_WORKERS = 16
_PATIENCE_S = 300.0
_IMPORTED_EARLY = (
    "attention.attend_few", "attention.attention", "attention.expanding", "attention.gating", "attention.walk_few",
    "delta.chunk",
    "delta.chunks", "delta.step", "products.experts", "routing.groups", "products.linear", "device.plane",
    "products.prefill", "products.prefill_hopper", "routing.router", "sampling.sampling", "products.strips",
    "products.stream", "products.prefill_ampere", "products.ordered",
    "sampling.threshold", "attention.tile_attention", "attention.tile_attention_hopper", "products.token",
)  # fmt: skip
Job = tuple[str, str, str]
"""Module, kernel, and what Triton's JIT says of the specialisation (signature, constants, options, target)."""


def collect(work: Callable[[], None]) -> list[Job]:
    """Run `work` with every launch of a kernel that is not compiled left out; gives those kernels, each once."""
    found: dict[Job, None] = {}

    def note(*, fn: Any, compile: dict[str, Any], **_: object) -> bool:  # noqa: A002 - Triton's name
        found[fn.module, fn.name, compile["specialization_data"]] = None
        return True

    _name_sources()
    runtime = triton.knobs.runtime
    before, runtime.jit_cache_hook = runtime.jit_cache_hook, note
    try:
        work()
    finally:
        runtime.jit_cache_hook = before
    return list(found)


class Compilers:
    """The process that compiles. Use it once, or `close` it."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.model.kernels.compiling"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment, text=True,
        )  # fmt: skip

    def run(self, jobs: Sequence[Job], target: tuple[str, int, int], workers: int) -> list[str]:
        """Compile all of them; gives what went wrong, one line a kernel, and ends the process."""
        order = json.dumps({"jobs": list(jobs), "target": target, "workers": workers})
        try:
            answer, _ = self._process.communicate(order + "\n", timeout=_PATIENCE_S)
            failed: list[str] = json.loads(answer.strip().splitlines()[-1])
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            failed = [f"the compiling process was lost: {error!r}"]
        self.close()
        return failed

    def close(self) -> None:
        """End the process. Idempotent."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def early() -> Compilers | None:
    """Start the process now where Triton's cache folder has not seen this engine's kernels; None where it has."""
    return None if any(_folder().glob("maskloop-*")) else Compilers()


def compile_kernels(jobs: Sequence[Job], compilers: Compilers | None = None) -> list[str]:
    """Compile `jobs` into Triton's cache, unless the same list was compiled there before; gives what went wrong."""
    mark = _folder() / f"maskloop-{_digest(jobs)}"
    if not jobs or mark.exists():
        if compilers is not None:
            compilers.close()
        return []
    found = triton.runtime.driver.active.get_current_target()
    workers = min(MOST_WORKERS, os.cpu_count() or 1, len(jobs))
    target = (found.backend, found.arch, found.warp_size)
    failed = (compilers or Compilers()).run(jobs, target, workers)
    if not failed:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return failed


def _folder() -> Path:
    return Path(triton.knobs.cache.dir)


def _digest(jobs: Sequence[Job]) -> str:
    """Of the kernels' sources and of what they are specialised to."""
    told = hashlib.sha256(triton.__version__.encode())
    for module, name, data in sorted(jobs):
        told.update(f"{getattr(import_module(module), name).cache_key}{data}".encode())
    return told.hexdigest()[:24]


def _name_sources() -> None:
    """Hash every kernel's source in one order: what Triton finds a kernel to depend on depends on what was hashed
    before it, and two processes must agree on the names of files in the cache."""
    for name in _IMPORTED_EARLY:
        module = import_module(f"engine.model.kernels.{name}")
        for value in list(vars(module).values()):
            if isinstance(value, triton.runtime.JITFunction):
                str(value.cache_key)


class _Target:
    """What the JIT asks of a driver when it only compiles."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0


def _serve() -> None:
    _name_sources()
    line = sys.stdin.readline()
    if not line.strip():
        return
    order = json.loads(line)
    from triton.backends.compiler import GPUTarget

    triton.runtime.driver.set_active(_Target(GPUTarget(*order["target"])))  # type: ignore[arg-type]  # as much as is asked
    with get_context("fork").Pool(order["workers"]) as pool:
        failed = [found for found in pool.imap_unordered(_compile, order["jobs"], chunksize=1) if found]
    sys.stdout.write(json.dumps(failed) + "\n")


def _compile(job: Job) -> str | None:
    module, name, data = job
    try:
        kernel = getattr(import_module(module), name).preload(data)
    except Exception as error:  # noqa: BLE001 - told to whoever asked; the launch will show it again
        return f"{module}.{name}: {error!r}"
    with contextlib.suppress(Exception):  # a machine without CUDA's driver has no launcher to build
        from triton.backends.nvidia.driver import CudaLauncher

        CudaLauncher(kernel.src, kernel.metadata)  # C code of its own, compiled and cached at the first launch
    return None


if __name__ == "__main__":
    _serve()
