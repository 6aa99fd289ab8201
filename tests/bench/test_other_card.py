"""Another card's code is that card's, assembled for this one, and only while it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.decode.other_card import CARDS, LATER, assembler, later_instructions, resident

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys
from pathlib import Path
import torch, triton
from triton.backends.compiler import GPUTarget
from bench.decode.other_card import OtherCard, later_instructions
from engine.model.kernels.compiling import _Target
from engine.model.kernels.device import launch
from engine.model.kernels.products import token

class Driver(_Target):
    def get_current_stream(self, device):
        return 0

folder = Path(sys.argv[1])
triton.runtime.driver.set_active(Driver(GPUTarget("cuda", 90, 32)))
card = OtherCard(80, folder)

def compile():
    x, wanted = torch.zeros(4, 256), torch.zeros(4, dtype=torch.int32)
    half = torch.zeros(256, dtype=torch.float16)
    dependent = launch.capability() >= (9, 0)
    return token.final_norm_kernel.warmup(
        x, wanted, half, half, 1e-6, grid=(4,), H=256, HP=256, num_warps=8, PDL=dependent, launch_pdl=dependent
    )

def card_of(made):
    return made.asm["cubin"][48]  # the ELF header's flags begin with it

own, before = compile(), dict(os.environ)
with card.active():
    assert launch.capability() == (8, 0)
    other = compile()
assert launch.capability() == (9, 0) and dict(os.environ) == before
assert compile() is own, "this card's code is as it was"
assert later_instructions(own.asm["ptx"]) == ["griddepcontrol"]
assert card.compiled() == {"final_norm_kernel": [other.asm["ptx"]]}
print(card_of(own), card_of(other), own.metadata.target.arch, other.metadata.target.arch)
"""


@pytest.mark.slow
def test_code_of_another_card_is_assembled_for_the_one_that_is_there(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path / "own")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.stdout.split() == ["90", "90", "90", "80"], run.stdout + run.stderr[-2000:]


def test_the_assembler_is_called_with_the_card_that_is_there(tmp_path: Path) -> None:
    made = assembler(tmp_path, "/bin/echo", "sm_90")
    run = subprocess.run([made, "-v", "--gpu-name=sm_80", "a b.ptx"], capture_output=True, text=True, check=True)
    assert run.stdout == "-v --gpu-name=sm_90 a b.ptx\n"


@pytest.mark.parametrize("word", LATER)
def test_later_instructions_are_found(word: str) -> None:
    assert later_instructions(f".target sm_80\n\t{word}.something;") == [word]
    assert later_instructions("cp.async.cg.shared.global [a], [b], 16;\nmma.sync.aligned.m16n8k16") == []


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks"),
    [
        (128, 32, 0, (16, 12, 12)),  # warps
        (32, 32, 0, (32, 16, 24)),  # blocks
        (128, 168, 0, (3, 3, 3)),  # registers
        (128, 144, 69632, (2, 1, 1)),  # shared memory, with 1 KiB a block for the driver
        (128, 32, 163 * 1024, (1, 0, 0)),
        (128, 32, 163 * 1024 + 1, (0, 0, 0)),
    ],
)
def test_blocks_that_a_multiprocessor_holds(threads: int, registers: int, shared: int, blocks: tuple[int, ...]) -> None:
    """By NVIDIA's tables of compute capabilities 8.0, 8.6 and 8.9."""
    assert tuple(resident(CARDS[card], threads, registers, shared) for card in (80, 86, 89)) == blocks
