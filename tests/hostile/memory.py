"""Resident memory of a server that meets the whole hostile corpus, again and again, in one process.

`python -m tests.hostile.memory [--rounds N] [--left-mb M] [--held-mb H]` prints a line a round, at last a JSON object.
Every round changes the schemas a little, so that nothing comes from a cache, and is measured twice: as it is, and after
the bounded caches were emptied (what they may hold is configuration, not a leak) and the allocator gave back what it
can. Three figures tell a leak from an allocator that keeps pages which are nearly empty: resident memory, what C code
holds (allocated and not freed, every arena) and how many blocks Python holds. Ends with 1 when resident memory is over
M MB above where it was before the first round, or when what C or Python holds grows after the first round by over H MB
or 0.5 % a round on average. The first round leaves 20 MB that C code takes once, and pages that both allocators keep
although little or nothing on them is in use; M is a fifth more than the most that came to in eight rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.config import Limits
from engine.schema.kept import Kept
from tests.decode.fakes import fake_engine, random_logits
from tests.hostile.requests import ALL as REQUESTS
from tests.hostile.schemas import ALL as SCHEMAS
from tests.serve.fakes import Server

LIMITS = Limits(compile_s=1.5, compile_memory_bytes=1 << 30)
JSON = {"content-type": "application/json"}
WAIT_S = 60.0
_Kept = (functools._lru_cache_wrapper, Kept)


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


@dataclass(frozen=True)
class Memory:
    """Of this process. `held_mb` is what C code has allocated, `free_mb` what the C allocator keeps beside it."""

    resident_mb: float
    held_mb: float
    free_mb: float
    python_blocks: int


def measured() -> Memory:
    """After what can be collected is gone."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    resident = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
    allocated = ctypes.CDLL(None).mallinfo2
    allocated.restype = _Allocated
    found = allocated()
    held = (found.uordblks + found.hblkhd) / 2**20
    return Memory(round(resident, 1), round(held, 1), round(found.fordblks / 2**20, 1), sys.getallocatedblocks())


def without_caches(engine: Any) -> Memory:
    """The same when no cache of grammars, masks, tables or rules holds anything."""
    grammars = engine.grammars
    grammars._memory.clear()
    grammars.vocabulary.masks.clear()
    grammars._compiler._xgr.clear_cache()
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("engine.")]
    for kept in [value for module in modules for value in vars(module).values() if isinstance(value, _Kept)]:
        kept.cache_clear()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return measured()


def meet(server: Server, number: int) -> int:
    """Every schema and request once; how many were answered with 200."""
    served = 0
    for body in [*(_body(case.schema, number) for case in SCHEMAS), *(case.body for case in REQUESTS)]:
        served += server.client.post("/generate", content=body, headers=JSON, timeout=WAIT_S).status_code == 200
    return served


def _body(schema: Any, number: int) -> bytes:
    if isinstance(schema, dict):
        schema = {**schema, "$comment": f"round {number}"}
    return json.dumps({"prompt": "x", "schema": schema, "max_tokens": 64, "seed": number}).encode()


def run(rounds: int) -> list[Memory]:
    """Without caches, before the first round and after each."""
    with tempfile.TemporaryDirectory() as folder:
        engine, _ = fake_engine(random_logits(5), Path(folder), limits=LIMITS)
        engine.grammars.sandbox.start()
        with Server(engine) as server:
            server.client.post("/generate", content=_body(True, 0), headers=JSON, timeout=WAIT_S)
            seen = [without_caches(engine)]
            for number in range(1, rounds + 1):
                served = meet(server, number)
                engine.grammars.flush()
                full = measured()
                seen.append(without_caches(engine))
                print(f"round {number}: {served} served, {full.resident_mb} MB; without caches {seen[-1]}", flush=True)
        engine.close()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--left-mb", type=float, default=250.0)
    parser.add_argument("--held-mb", type=float, default=1.0)
    args = parser.parse_args()
    before, first, *_, last = run(max(args.rounds, 2))
    rounds = max(args.rounds, 2) - 1
    left = round(last.resident_mb - before.resident_mb, 1)
    held = round((last.held_mb - first.held_mb) / rounds, 2)
    blocks = round((last.python_blocks / first.python_blocks - 1) * 100 / rounds, 3)
    print(json.dumps({"before": asdict(before), "after": asdict(last), "resident_left_mb": left,
                      "held_growth_mb_a_round": held, "python_growth_percent_a_round": blocks}))  # fmt: skip
    return int(left > args.left_mb or held > args.held_mb or blocks > 0.5)


if __name__ == "__main__":
    sys.exit(main())
