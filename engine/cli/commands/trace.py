"""What a recorded run did: view writes a page, chrome the trace-event format, replay asks again and compares."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from engine.cli.arguments import options
from engine.cli.terminal import OK
from engine.errors import RequestError

SUFFIXES = {"view": ".html", "chrome": ".chrome.json"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("view", "chrome", "replay"))
    parser.add_argument("trace", metavar="FILE", help="written by generate --trace")
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help="default: FILE.html, FILE.chrome.json")
    parser.add_argument("--quiet", action="store_true", help="replay: no progress on stderr")
    options.add_engine(parser)


def run(args: argparse.Namespace) -> int:
    from engine.trace.chrome import chrome_trace
    from engine.trace.reader import read_trace
    from engine.trace.viewer import write_viewer

    if args.action == "replay" and args.out is not None:
        raise RequestError("replay takes no --out: it writes no file", param="out")
    trace = read_trace(args.trace)
    if args.action == "replay":
        from engine.cli.commands.trace_replay import replay

        return replay(trace, args)
    out = args.out or Path(f"{args.trace}{SUFFIXES[args.action]}")
    try:
        if args.action == "view":
            write_viewer(trace, out)
        else:
            out.write_text(json.dumps(chrome_trace(trace)), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--out {out}: {error.strerror}", param="out") from None
    print(out)
    return OK
