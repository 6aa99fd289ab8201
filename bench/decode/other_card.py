"""Another card's code on this one: its PTX, assembled for the card that is there, and what the other card would hold.

Triton is told that the card is the other one, which the engine asks Triton for (`kernels.device.launch.capability`), so
that every choice is the other card's. What is assembled is then told the card that is there: it takes older cards' PTX.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget


class Limits(NamedTuple):
    """What a multiprocessor has, but for its 65,536 registers (CUDA programming guide, compute capabilities)."""

    card: str
    multiprocessors: int
    shared_kib: int
    """Of it 1 KiB a block is the driver's."""
    warps: int
    blocks: int


CARDS = {
    80: Limits("A100", 108, 164, 64, 32), 86: Limits("A10", 72, 100, 48, 16), 89: Limits("L40S", 142, 100, 48, 24),
}  # fmt: skip
LATER = ("griddepcontrol", "wgmma", "cp.async.bulk", "tensormap", "mbarrier.try_wait", "setmaxnreg", "elect.sync")
"""What no card before Hopper has: dependent launch, products of warp groups, the copy engine, what goes with them."""
_ASSEMBLE = """#!/bin/sh
for word do
    shift
    case $word in --gpu-name=*) word=--gpu-name={card} ;; esac
    set -- "$@" "$word"
done
exec {ptxas} "$@"
"""


def later_instructions(ptx: str) -> list[str]:
    """Those of LATER that are in the text."""
    return [word for word in LATER if word in ptx]


def resident(limits: Limits, threads: int, registers: int, shared: int) -> int:
    """Blocks that a multiprocessor holds at once: 0 where one has not the room. Registers are given out by 256 a warp,
    shared memory (of `shared` bytes a block) by 128."""
    warps, room = -(-threads // 32), -(-shared // 128) * 128 + 1024
    of_registers = 65536 // (-(-32 * registers // 256) * 256 * warps)
    return min(limits.warps // warps, limits.blocks, of_registers, limits.shared_kib * 1024 // room)


def assembler(folder: Path, ptxas: str, card: str) -> Path:
    """An executable that calls ptxas for `card`, whatever card is asked for."""
    file = folder / "ptxas"
    file.write_text(_ASSEMBLE.format(card=card, ptxas=ptxas))
    file.chmod(0o755)
    return file


class OtherCard:
    """A card of that capability (80: an A100). `folder` keeps what is compiled; it outlives this."""

    def __init__(self, capability: int, folder: Path) -> None:
        self.target = GPUTarget("cuda", capability, 32)
        here = triton.runtime.driver.active.get_current_target().arch
        assert capability <= here, f"this card (sm_{here}) runs older cards' code, not sm_{capability}'s"
        made = assembler(folder, triton.knobs.nvidia.ptxas.path, f"sm_{here}")
        self._environment = {"TRITON_PTXAS_PATH": str(made), "TRITON_CACHE_DIR": str(folder / "cache")}
        self._compiled: dict[Any, Any] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Meanwhile kernels are compiled, here and in processes begun here, and launched as the other card's."""
        driver, kernels = triton.runtime.driver.active, _kernels()
        own = [kernel.device_caches for kernel in kernels]
        environment = {name: os.environ.get(name) for name in self._environment}
        for kernel in kernels:
            kernel.device_caches = self._compiled.setdefault(id(kernel), defaultdict(kernel.create_binder))
        driver.get_current_target = lambda: self.target
        os.environ.update(self._environment)
        try:
            yield
        finally:
            del driver.get_current_target
            for name, value in environment.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            for kernel, cache in zip(kernels, own, strict=True):
                kernel.device_caches = cache

    def compiled(self) -> dict[str, list[str]]:
        """PTX of every kernel that was launched, by its name. AssertionError where it is not the other card's."""
        found: dict[str, list[str]] = {}
        for caches in self._compiled.values():
            for kernel in (kernel for cache in caches.values() for kernel in cache[0].values()):
                found.setdefault(kernel.name, []).append(kernel.asm["ptx"])
        for name, ptx in ((name, ptx) for name, forms in found.items() for ptx in forms):
            assert f".target sm_{self.target.arch}" in ptx, f"{name} is not for sm_{self.target.arch}"
            assert not later_instructions(ptx), f"{name} has {later_instructions(ptx)}"
        return found


def _kernels() -> list[Any]:
    """The engine's, and device functions."""
    modules = [module for name, module in sys.modules.items() if name.startswith("engine.model.kernels.")]
    jitted = (value for module in modules for value in list(vars(module).values()))
    return list({id(value): value for value in jitted if isinstance(value, triton.runtime.JITFunction)}.values())
