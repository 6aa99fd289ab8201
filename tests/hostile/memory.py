"""Resident memory of a server that meets the whole hostile corpus, again and again, in one process.

`python -m tests.hostile.memory [--rounds N] [--growth-mb M]` prints a line a round and one JSON object last, and ends
with 1 when each round after the first left over M MB behind, on average. Every round changes the schemas a little, so
that nothing comes from a cache, and is measured twice: as it is, and after the bounded caches were emptied (what they
may hold is configuration, not a leak) and the allocator gave back what is free.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from engine.config import Limits
from tests.decode.fakes import fake_engine, random_logits
from tests.hostile.requests import ALL as REQUESTS
from tests.hostile.schemas import ALL as SCHEMAS
from tests.serve.fakes import Server

LIMITS = Limits(compile_s=1.5, compile_memory_bytes=1 << 30)
JSON = {"content-type": "application/json"}
WAIT_S = 60.0
_Kept = functools._lru_cache_wrapper


def resident_mb() -> float:
    """Of this process, after what can be collected is gone."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def without_caches_mb(engine: Any) -> float:
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
    return resident_mb()


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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth-mb", type=float, default=20.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine, _ = fake_engine(random_logits(5), Path(folder), limits=LIMITS)
        engine.grammars.sandbox.start()
        with Server(engine) as server:
            server.client.post("/generate", content=_body(True, 0), headers=JSON, timeout=WAIT_S)
            held = [without_caches_mb(engine)]
            for number in range(1, args.rounds + 1):
                served = meet(server, number)
                engine.grammars.flush()
                full = resident_mb()
                held.append(without_caches_mb(engine))
                print(f"round {number}: {served} served, {full:.0f} MB, {held[-1]:.0f} MB without caches", flush=True)
        engine.close()
    growth = [round(after - before, 1) for before, after in pairwise(held[1:])]
    after_mb = [round(megabytes, 1) for megabytes in held[1:]]
    print(json.dumps({"before_mb": round(held[0], 1), "after_mb": after_mb, "growth_mb": growth}))
    return int(sum(growth) > args.growth_mb * len(growth))


if __name__ == "__main__":
    sys.exit(main())
