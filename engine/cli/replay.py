"""`trace replay FILE`: ask a recorded request again, with its seed, and compare the texts.

Same request, seed, engine and device give the same tokens; on another device or with other weights they may differ, and
the first difference is told. Knows traces and requests; not how tokens are drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from engine.cli import options
from engine.cli.engine_session import Progress, open_engine, wait_for
from engine.cli.main import FAILED, OK
from engine.errors import RequestError
from engine.request import Constraint, Request, SamplingParams

if TYPE_CHECKING:
    from engine.trace.format import Trace

_SHOWN = 40
_KEPT = ("prompt", "system", "template", "schema_in_prompt")


def described(request: Request, seed: int | None) -> dict[str, Any]:
    """All that decides the answer, as plain JSON types; `seed` is the one that was used."""
    asked = {name: getattr(request, name) for name in _KEPT}
    sampling = asdict(replace(request.sampling, seed=seed))
    constraint = None if request.constraint is None else asdict(request.constraint)
    return {**asked, "constraint": constraint, "sampling": sampling}


def replay(trace: Trace, args: argparse.Namespace) -> int:
    """Ask every request of the trace again; FAILED when one answer differs."""
    recorded = [(_request(line), trace.results.get(name, {})) for name, line in trace.requests.items()]
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


def _request(line: Mapping[str, Any]) -> Request:
    asked = line.get("asked")
    if not isinstance(asked, dict):
        raise RequestError("the trace does not hold its request (--trace-text off keeps figures only)", param="trace")
    constraint = None if asked["constraint"] is None else Constraint(**asked["constraint"])
    sampling = SamplingParams.from_mapping(asked["sampling"])
    return Request(**{name: asked[name] for name in _KEPT}, constraint=constraint, sampling=sampling)


def _difference(before: str, after: str) -> str | None:
    if before == after:
        return None
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return f"differs at character {at}: {before[at : at + _SHOWN]!r} became {after[at : at + _SHOWN]!r}"
