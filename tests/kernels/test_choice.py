"""The assembly that picks a lone token's experts, run by a small machine of 32 lanes, against the plain torch."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest
import torch

from engine.model.kernels.routing.choice import _choice_assembly, choose

LANES = range(32)
ALL = 0xFFFFFFFF


def _float_bits(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def _bits_float(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits & ALL))[0])


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits & 0x80000000 else bits


BINARY: dict[str, Callable[[int, int], int]] = {
    "add.u32": lambda a, b: a + b & ALL,
    "and.b32": lambda a, b: a & b,
    "or.b32": lambda a, b: a | b,
    "xor.b32": lambda a, b: a ^ b,
    "shl.b32": lambda a, b: a << b & ALL,
    "shr.u32": lambda a, b: a >> b,
    "shr.s32": lambda a, b: _signed(a) >> b & ALL,
    "mul.wide.u32": lambda a, b: a * b,
    "add.u64": lambda a, b: a + b,
    "add.f32": lambda a, b: _float_bits(_bits_float(a) + _bits_float(b)),
}
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "lt": lambda a, b: a < b, "gt": lambda a, b: a > b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
}  # fmt: skip


class Warp:
    """The first warp of a block: registers by name and lane, the logits at address 0, ids in shared memory."""

    def __init__(self, logits: list[float]) -> None:
        self.logits = logits
        self.registers: list[dict[str, int]] = [
            {"%tid.x": lane, "%lanemask_lt": (1 << lane) - 1, "$1": 0, "maskloop_chosen": 0} for lane in LANES
        ]
        self.shared: dict[int, int] = {}

    def read(self, lane: int, name: str) -> int:
        if name.startswith("0f"):
            return int(name[2:], 16)
        return (
            int(name, 0) if re.fullmatch(r"(0x)?[0-9a-f]+", name) and name[0].isdigit() else self.registers[lane][name]
        )

    def run(self, lines: list[str]) -> None:
        target = ""
        for line in lines:
            if target and line != target:
                continue
            target = ""
            if found := re.fullmatch(r"@(\w) bra (\w+);", line):
                taken = {registers[found[1]] for registers in self.registers}
                assert len(taken) == 1, "all lanes branch, or none"
                target = f"{found[2]}:" if taken == {1} else ""
                continue
            if line.startswith((".", "{", "}", "CHOSEN", "FOUND", "bar")):
                continue
            found = re.fullmatch(r"(?:@(\w) )?([\w.]+) (.*);", line)
            assert found, line
            guard, operation, operands = found.groups()
            lanes = [lane for lane in LANES if guard is None or self.registers[lane][guard]]
            if lanes:
                self.step(operation, re.split(r",\s*", operands), lanes)

    def step(self, operation: str, names: list[str], lanes: list[int]) -> None:
        values = {lane: [self.read(lane, name) for name in names[1:] if "[" not in name] for lane in lanes}
        kind, *rest = operation.split(".")
        if kind in ("redux", "vote"):
            assert lanes == list(LANES), "the whole warp takes part"
            whole = [values[lane][0] for lane in LANES]
            ballot = sum(1 << lane for lane in LANES if whole[lane])
            gathered = ballot if kind == "vote" else (max if "max" in rest else min)(whole)
        for lane in lanes:
            given = values[lane]
            if operation == "ld.global.cg.f32":
                at = re.fullmatch(r"\[(\w+)\+(\d+)\]", names[1])
                assert at
                result = _float_bits(self.logits[(self.read(lane, at[1]) + int(at[2])) // 4])
            elif operation == "st.shared.u32":
                self.shared[self.read(lane, names[0][1:-1]) // 4] = given[0]
                continue
            elif kind in ("redux", "vote"):
                result = gathered
            elif kind == "setp":
                result = int(COMPARE[rest[0]](given[0], given[1]) and ("and" not in rest or bool(given[2])))
            elif kind == "mov":
                result = given[0]
            elif kind == "popc":
                result = given[0].bit_count()
            elif kind == "selp":
                result = given[0] if given[2] else given[1]
            else:
                result = BINARY[operation](given[0], given[1])
            self.registers[lane][names[0]] = result


def picked(logits: torch.Tensor, chosen: int) -> list[int]:
    """What the assembly leaves in shared memory."""
    experts = logits.shape[1]
    held = (max(32, 1 << (experts - 1).bit_length()) + 31) // 32
    text = _choice_assembly(held, experts, chosen).replace("@p bra CHOSEN;\n", "")  # no other warp runs here
    warp = Warp(logits[0].tolist())
    warp.run(text.splitlines())
    return [warp.shared[slot] for slot in range(len(warp.shared))]


LOGITS: dict[str, Callable[[int], torch.Tensor]] = {
    "random": lambda experts: torch.randn(1, experts),
    "many ties": lambda experts: torch.randn(1, experts).round(),
    "zeros": lambda experts: torch.zeros(1, experts),
    "zeros of both signs": lambda experts: torch.where(torch.randn(1, experts) > 0, 0.0, -0.0),
    "negative": lambda experts: -torch.rand(1, experts) - 1,
}


@pytest.mark.parametrize(("experts", "chosen"), [(1, 1), (8, 2), (60, 4), (128, 8), (200, 10)])
@pytest.mark.parametrize("kind", LOGITS)
def test_the_first_warp_picks_what_the_specification_does(experts: int, chosen: int, kind: str) -> None:
    torch.manual_seed(0)
    for _ in range(2):
        logits = LOGITS[kind](experts)
        assert picked(logits, chosen) == choose(logits, chosen, True)[0][0].tolist()
