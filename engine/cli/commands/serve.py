"""HTTP on one machine: LIFT's contract and OpenAI's. It listens at once, while the model loads.

Without MASKLOOP_API_KEYS only loopback hosts are served, unless --insecure insists.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.cli.arguments import options
from engine.cli.sessions.engine_session import require_local
from engine.cli.terminal import Progress, say
from engine.config import EngineConfig, checks_by_name
from engine.errors import RequestError
from engine.serve.allocator import take_python_too

if TYPE_CHECKING:
    from engine.decode.engine import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="default 8000")
    parser.add_argument("--served-model-name", metavar="NAME", help="the name in /v1/models; default the model's own")
    parser.add_argument("--insecure", action="store_true", help="serve strangers without keys")
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="NAME=MODULE:FUNCTION",
        help="a check that requests may name; may be repeated, and adds to MASKLOOP_CHECKS",
    )
    options.add_engine(parser)


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.port <= 65535:
        raise RequestError(f"--port must be between 0 and 65535, got {args.port}", param="port")
    config = _with_checks(options.engine_config(args), args.check)
    take_python_too()
    from engine.checks.service import CheckService
    from engine.model.files.source import resolve
    from engine.serve.server.run import refuse_open_host, refuse_taken_port, serve
    from engine.serve.settings import ServeSettings

    require_local()  # a missing extra or a wrong name is said now, not by the first request
    resolve(config.model, config.revision)
    with CheckService(config.limits, config.checks) as checks:
        checks.start()
    settings = ServeSettings.from_env(served_model_name=args.served_model_name)
    refuse_open_host(args.host, settings, insecure=args.insecure)
    refuse_taken_port(args.host, args.port)
    say(f"maskloop: http://{args.host}:{args.port}/ready answers 200 once {config.model} is loaded")
    say(f"maskloop: Ctrl-C stops once what runs is answered, within {settings.drain_s:.0f} s; twice, at once")
    return serve(lambda: _load(config), host=args.host, port=args.port, insecure=args.insecure, settings=settings)


def _with_checks(config: EngineConfig, given: list[str]) -> EngineConfig:
    return replace(config, checks={**config.checks, **checks_by_name(",".join(given), "--check")})


def _load(config: EngineConfig) -> Engine:
    from engine import Engine

    progress = Progress()
    engine = Engine(config, progress=progress.phase)
    progress.end_phase()
    engine.grammars.start()
    return engine
