"""What compiles imports XGrammar without torch; what cannot do without torch gets it."""

from __future__ import annotations

import subprocess
import sys

from engine.sandbox import Job, Pool
from engine.sandbox.light_import import light_import

LOOK = """
import sys
from engine.sandbox.light_import import light_import
light_import("engine.grammar.store.worker")
assert "xgrammar" in sys.modules
assert not {"torch", "transformers"} & {name.partition(".")[0] for name in sys.modules}
import torch
print(torch.zeros(2).sum().item())
"""


def test_the_module_that_compiles_comes_without_torch_which_can_be_had_afterwards() -> None:
    found = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert found.stdout == "0.0\n"


def test_a_module_that_needs_torch_is_imported_with_it() -> None:
    pool = Pool(places=1)
    try:
        job = Job("tests.sandbox.worker_with_torch", "", b"", cpu_s=5.0)
        assert pool.submit(job, ["a"]).result(120).content == b"2.0"
    finally:
        pool.close()


def test_where_torch_is_there_already_it_stays() -> None:
    import torch

    assert light_import("engine.sandbox.frames").__name__ == "engine.sandbox.frames"
    assert sys.modules["torch"] is torch
