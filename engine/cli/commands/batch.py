"""Many requests from a file of JSON lines, one result a line as they finish.

A line holds {"id", "prompt" or "messages", "schema" (or "regex", "ebnf", "lark", "choice", "structural_tag",
"json_object"), and any sampling field}. With --out an interrupted run goes on where it stopped: ids that the file
holds already are skipped, those that failed too unless --retry-failed is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any

from engine.cli.arguments import options
from engine.cli.arguments.inputs import read_lines
from engine.cli.sessions.engine_session import open_engine
from engine.cli.sessions.result_file import ResultFile
from engine.cli.terminal import FAILED, OK, Progress, say
from engine.errors import EngineError, RequestError
from engine.request import SUCCESSES, Request, Result

if TYPE_CHECKING:
    from engine.decode.engine import Engine

Line = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("requests", metavar="IN.jsonl", help="one request a line; - for stdin")
    parser.add_argument("--out", metavar="OUT.jsonl", help="one result a line; default stdout")
    parser.add_argument("--retry-failed", action="store_true", help="run what failed in OUT.jsonl again")
    parser.add_argument("--on", choices=("local", "modal"), default="local", help="where it runs (default local)")
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    options.add_engine(parser)


def run(args: argparse.Namespace) -> int:
    if args.retry_failed and args.out is None:
        raise RequestError("--retry-failed needs --out with the results of an earlier run", param="retry_failed")
    lines = read_requests(args.requests)
    progress = Progress(quiet=args.quiet)
    with ResultFile(args.out) as out:
        left = [line for line in lines if _is_open(out.statuses.get(line["id"]), retry=args.retry_failed)]
        if len(left) < len(lines):
            progress.line(f"{len(lines) - len(left)} of {len(lines)} are in {args.out} already")
        if left:
            results = on_modal(left) if args.on == "modal" else on_this_machine(left, args, progress)
            for count, result in enumerate(results, 1):
                out.write(result)
                progress.line(f"{count}/{len(left)} {result['id']}: {result['status']}{_reason(result)}")
        failed = [line["id"] for line in lines if out.statuses.get(line["id"]) not in SUCCESSES]
    if failed:
        shown = f"{', '.join(failed[:10])}{' ...' if failed[10:] else ''}"
        again = "; --retry-failed runs them again" if args.out else ""
        say(f"maskloop: {len(failed)} of {len(lines)} failed: {shown}{again}")
    return FAILED if failed else OK


def _is_open(status: str | None, *, retry: bool) -> bool:
    return status is None or (retry and status not in SUCCESSES)


def _reason(result: Line) -> str:
    message = (result.get("error") or {}).get("message")
    return f" ({' '.join(message.split())})" if message else ""


def read_requests(name: str) -> list[Line]:
    """The lines, each an object with an id of its own (`line-N` where it has none)."""
    lines: list[Line] = []
    seen: dict[str, int] = {}
    for number, value in read_lines(name, param="requests"):
        if not isinstance(value, dict):
            raise RequestError(f"{name}, line {number}: a request is a JSON object", param="requests")
        given = value.setdefault("id", f"line-{number}")
        if not isinstance(given, str) or not given:
            raise RequestError(f"{name}, line {number}: id must be a non-empty string", param="id")
        if given in seen:
            raise RequestError(f"{name}: lines {seen[given]} and {number} have the same id {given!r}", param="id")
        seen[given] = number
        lines.append(value)
    if not lines:
        raise RequestError(f"{name}: holds no request", param="requests")
    return lines


def on_this_machine(lines: list[Line], args: argparse.Namespace, progress: Progress) -> Iterator[Line]:
    """Results as they finish; what is wrong with one line is that line's result and nobody else's."""
    ready: list[Request] = []
    for line in lines:
        try:
            ready.append(Request.from_mapping(line))
        except EngineError as error:
            yield refused(line["id"], error)
    if not ready:
        return
    with open_engine(options.engine_config(args, ready), progress) as engine:
        yield from _as_finished(engine, ready)


def _as_finished(engine: Engine, requests: list[Request]) -> Iterator[Line]:
    window = max(1, min(engine.config.limits.queue, 2 * engine.config.max_batch))
    waiting = iter(requests)
    flying: dict[Future[Result], str] = {}
    more = True
    while more or flying:
        while more and len(flying) < window:
            request = next(waiting, None)
            more = request is not None
            if request is not None:
                try:
                    flying[engine.submit(request)] = request.id
                except EngineError as error:
                    yield refused(request.id, error)
        done, _ = wait(flying, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            yield _settled(flying.pop(future), future)


def _settled(request_id: str, future: Future[Result]) -> Line:
    try:
        return future.result().to_dict()
    except EngineError as error:
        return refused(request_id, error)


def refused(request_id: str, error: EngineError) -> Line:
    """The result of a request that was not admitted."""
    return Result(id=request_id, status="error", finish_reason="error", error=error.to_dict()).to_dict()


def on_modal(lines: list[Line]) -> Iterator[Line]:
    """Results of a deployed engine, through its own map over inputs."""
    from engine.client.batch import run_batch

    yield from run_batch(lines)
