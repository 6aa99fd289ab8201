"""`trace replay FILE`: ask a recorded request again, with its seed, and compare the texts.

Same request, seed, engine and device give the same tokens; on another device or with other weights they may differ, and
the first difference is told.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.cli.arguments import options
from engine.cli.sessions.engine_session import open_engine, wait_for
from engine.cli.sessions.trace_output import request_of
from engine.cli.terminal import FAILED, OK, Progress
from engine.errors import RequestError

if TYPE_CHECKING:
    from engine.trace.format import Trace

_SHOWN = 40


def replay(trace: Trace, args: argparse.Namespace) -> int:
    """Ask every request of the trace again; FAILED when one answer differs."""
    recorded = [(request_of(line), trace.results.get(name, {})) for name, line in trace.requests.items()]
    if not recorded:
        raise RequestError("the trace holds no request", param="trace")
    args.model = args.model or trace.header.get("run", {}).get("model")
    same = True
    with open_engine(options.engine_config(args), Progress(quiet=args.quiet)) as engine:
        for request, result in recorded:
            again = wait_for(engine.submit(request))
            difference = _difference(str(result.get("text", "")), again.text)
            same = same and difference is None
            print(f"identical: {len(again.text)} characters, {again.status}" if difference is None else difference)
    return OK if same else FAILED


def _difference(before: str, after: str) -> str | None:
    if before == after:
        return None
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return f"differs at character {at}: {before[at : at + _SHOWN]!r} became {after[at : at + _SHOWN]!r}"
