"""Resident memory of a server that meets the whole hostile corpus, again and again, in one process.

`python -m tests.hostile.memory [--rounds N] [--left-mb M] [--held-mb H]` prints a line a round, at last a JSON object.
There are two places to return to: `before` the first schema, and `in_use`, after 60 different ordinary schemas, which a
server that only fetched its code and tables with its first request has not reached. Every round changes the schemas a
little, so that nothing comes from a cache, and is measured twice: as it is, and after the bounded caches were emptied
(what they may hold is configuration, not a leak) and the allocator gave back what it can. Five figures tell a leak from
an allocator that keeps pages which are nearly empty and from code that was read: resident memory, the private part of
it (the rest are pages of files, mostly libraries, that the system may drop at any time), what C code holds (allocated
and not freed), what the C allocator keeps beside it, and how many blocks Python holds. Ends with 1 when resident memory
is over M MB above `before`, or when what C or Python holds grows after the first round by over H MB or 0.5 % a round on
average. As in a server Python's blocks lie in C's heap and count there (0 here), unless `PYTHONMALLOC=pymalloc` is set.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.config import Limits
from engine.grammar.compile.compiler import Compiler
from engine.schema.strings.weighted_lru import WeightedLRU
from engine.serve.allocator import allocated, give_back, share_heap, take_python_too
from tests.decode.fakes import fake_engine, random_logits
from tests.hostile.requests import ALL as REQUESTS
from tests.hostile.schemas import ALL as SCHEMAS
from tests.serve.fakes import Server

LIMITS = Limits(compile_s=1.5, compile_memory_bytes=1 << 30)
JSON = {"content-type": "application/json"}
WAIT_S = 60.0
_Kept = (functools._lru_cache_wrapper, WeightedLRU)


@dataclass(frozen=True)
class Memory:
    """Of this process. `held_mb` is what C code has allocated, `free_mb` what the C allocator keeps beside it."""

    resident_mb: float
    private_mb: float
    held_mb: float
    free_mb: float
    python_blocks: int


def measured() -> Memory:
    """After what can be collected is gone, that which a server looks at every five minutes included."""
    gc.unfreeze()
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    sizes = {
        name: int(text.split()[0]) / 1024 for name, _, text in (line.partition(":") for line in lines) if "kB" in text
    }
    figures = (sizes["VmRSS"], sizes["RssAnon"], *(count / 2**20 for count in allocated()))
    return Memory(*(round(figure, 1) for figure in figures), sys.getallocatedblocks())


def without_caches(engine: Any) -> Memory:
    """The same when no cache of grammars, masks, tables or rules holds anything.

    XGrammar's compiler keeps tables that fit the most rules it ever held, 22 MB here; so it gets a successor.
    """
    grammars = engine.grammars
    grammars._memory.clear()
    grammars.vocabulary.masks.clear()
    grammars.vocabulary.known.forget()
    grammars._maker.compiler = Compiler(grammars.vocabulary.info, LIMITS)
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("engine.")]
    for kept in [value for module in modules for value in vars(module).values() if isinstance(value, _Kept)]:
        kept.cache_clear()
    gc.collect()
    give_back()
    return measured()


def meet(server: Server, number: int) -> int:
    """Every schema and request once; how many were answered with 200."""
    served = 0
    for body in [*(_body(case.schema, number) for case in SCHEMAS), *(case.body for case in REQUESTS)]:
        served += server.client.post("/generate", content=body, headers=JSON, timeout=WAIT_S).status_code == 200
    return served


def ordinary() -> list[dict[str, Any]]:
    """60 schemas as people write them: objects of a few members, none like another."""
    kinds = [{"type": "integer", "minimum": 0}, {"enum": ["small", "large"]}, {"type": ["string", "null"]},
             {"type": "array", "items": {"type": "number"}, "maxItems": 5}, {"type": "string", "format": "date"},
             {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, {"type": "boolean"}]  # fmt: skip
    members = [{f"{name}_{n}": kinds[(n + i) % 7] for i, name in enumerate(("id", "kind", "of"))} for n in range(60)]
    return [{"type": "object", "properties": each, "required": list(each)[: n % 4]} for n, each in enumerate(members)]


def meet_ordinary(server: Server) -> None:
    """Each must be served."""
    for schema in ordinary():
        answer = server.client.post("/generate", content=_body(schema, 0), headers=JSON, timeout=WAIT_S)
        assert answer.status_code == 200, answer.text


def _body(schema: Any, number: int) -> bytes:
    if isinstance(schema, dict):
        schema = {**schema, "$comment": f"round {number}"}
    return json.dumps({"prompt": "x", "schema": schema, "max_tokens": 64, "seed": number}).encode()


def run(rounds: int) -> list[Memory]:
    """Without caches: before the first schema, after the ordinary ones, and after each round."""
    share_heap()
    with tempfile.TemporaryDirectory() as folder:
        engine, _ = fake_engine(random_logits(5), Path(folder), limits=LIMITS)
        engine.grammars.start()
        with Server(engine) as server:
            ask = functools.partial(
                server.client.post, "/generate", content=_body(True, 0), headers=JSON, timeout=WAIT_S
            )
            ask()
            seen = [without_caches(engine)]
            meet_ordinary(server)
            engine.grammars.flush()
            seen.append(without_caches(engine))
            print(f"before {seen[0]}; in use {seen[1]}", flush=True)
            for number in range(1, rounds + 1):
                served = meet(server, number)
                engine.grammars.flush()
                full = measured()
                ask()  # the decode thread knows its last request until the next one
                engine.grammars.flush()
                seen.append(without_caches(engine))
                print(f"round {number}: {served} served, {full.resident_mb} MB; without caches {seen[-1]}", flush=True)
        engine.close()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--left-mb", type=float, default=100.0)
    parser.add_argument("--held-mb", type=float, default=1.0)
    args = parser.parse_args()
    take_python_too()
    before, in_use, first, *_, last = run(max(args.rounds, 2))
    rounds = max(args.rounds, 2) - 1
    left = round(last.resident_mb - before.resident_mb, 1)
    held = round((last.held_mb - first.held_mb) / rounds, 2)
    blocks = round((last.python_blocks / (first.python_blocks or 1) - bool(first.python_blocks)) * 100 / rounds, 3)
    print(json.dumps({"before": asdict(before), "in_use": asdict(in_use), "after": asdict(last),
                      "resident_left_mb": left, "left_of_in_use_mb": round(last.resident_mb - in_use.resident_mb, 1),
                      "held_growth_mb_a_round": held, "python_growth_percent_a_round": blocks}))  # fmt: skip
    return int(left > args.left_mb or held > args.held_mb or blocks > 0.5)


if __name__ == "__main__":
    sys.exit(main())
