"""Kernels are collected without being launched and compiled by another process, where a launch then finds them; each
compiled form asks for its shared memory itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from engine.model.kernels.device.launch import compiled_key

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import torch, triton
from pathlib import Path
from triton.backends.compiler import GPUTarget
from engine.model.kernels import compiling
from engine.model.kernels.device import launch
from engine.model.kernels.products import token

class Driver(compiling._Target):
    def get_current_stream(self, device):
        return 0

triton.runtime.driver.set_active(Driver(GPUTarget("cuda", 90, 32)))
launch.options = lambda tensor: {"ASM": True, "PDL": True, "launch_pdl": True}
x, out = torch.zeros(4, 256), torch.zeros(4, 256, dtype=torch.bfloat16)
wanted, gain = torch.arange(4, dtype=torch.int32), torch.ones(256, dtype=torch.float16)
jobs = compiling.collect(lambda: token.final_norm(x, wanted, gain, out, eps=1e-6))
assert [job[1] for job in jobs] == ["final_norm_kernel"], jobs

folder = Path(triton.knobs.cache.dir)
broken = (jobs[0][0], jobs[0][1], "{}")
process = compiling.early()
assert process is not None
assert len(compiling.compile_kernels([*jobs, broken], process)) == 1, "what cannot be compiled is told"
assert compiling.early() is not None, "a failure leaves no mark"
assert compiling.compile_kernels(jobs) == []
assert compiling.early() is None
made = sorted(folder.rglob("*.cubin"))
assert len(made) == 1

token.final_norm_kernel.warmup(
    x, wanted, gain, out, 1e-6, grid=(4,), H=256, HP=256, num_warps=8, PDL=True, launch_pdl=True
)
assert sorted(folder.rglob("*.cubin")) == made, "the launch found what the process had compiled"
print("found")
"""


def test_a_launch_finds_what_another_process_compiled(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == "found", run.stdout + run.stderr[-2000:]


def test_forms_of_a_kernel_differ_by_constants_types_and_alignment() -> None:
    x, constants = torch.zeros(64, dtype=torch.float16), {"N": 16}
    keys = {
        compiled_key("kernel", arguments, settings)
        for arguments, settings in (
            ((x, 5), constants),
            ((x.bfloat16(), 5), constants),
            ((x[1:], 5), constants),
            ((x, 5), {"N": 32}),
        )
    }
    assert len(keys) == 4
    assert compiled_key("kernel", (x.clone(), 7), constants) in keys
