"""What a recorded run did, step by step: view writes one self-contained page, chrome the trace-event format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from engine.cli.main import OK
from engine.errors import RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("view", "chrome"))
    parser.add_argument("trace", metavar="FILE", help="written by generate --trace")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help="out.html, or out.json for chrome")


def run(args: argparse.Namespace) -> int:
    from engine.trace.chrome import chrome_trace
    from engine.trace.reader import read_trace
    from engine.trace.viewer import write_viewer

    trace = read_trace(args.trace)
    try:
        if args.action == "view":
            write_viewer(trace, args.out)
        else:
            args.out.write_text(json.dumps(chrome_trace(trace)), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--out {args.out}: {error.strerror}", param="out") from None
    print(args.out)
    return OK
