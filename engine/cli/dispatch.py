"""From arguments to an exit code. Knows the names of the subcommands and what each kind of error costs."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from engine.cli.terminal import BAD_INPUT, FAILED, INTERRUPTED, OK, exit_code, one_line, say
from engine.errors import EngineError, missing_extra

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

COMMANDS = {
    "generate": "one prompt, one document",
    "batch": "a file of requests, one a line",
    "check": "what the engine can enforce of a schema, keyword by keyword",
    "accepts": "whether a schema's grammar accepts documents",
    "models": "the models that can be named",
    "quantize": "write a model as an engine checkpoint in 4 or 8 bits",
    "serve": "HTTP: LIFT's contract and OpenAI's",
    "cache": "compiled grammars and converted models on disk",
    "trace": "what a recorded run did, step by step",
    "usage": "sum up the request log of a service",
}
EXTRA_OF = {
    **dict.fromkeys(("torch", "transformers", "xgrammar", "numpy", "accelerate", "gguf", "tokenizers"), "local"),
    **dict.fromkeys(("bitsandbytes", "triton"), "gpu"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "pydantic"), "serve"),
    "modal": "modal",
    "anthropic": "anthropic",
}
"""The extra that brings a package, for packages whose absence is the user's to mend."""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no guessing of shortened options."""

    def __init__(self, *args: object, **settings: object) -> None:
        settings["allow_abbrev"] = False
        super().__init__(*args, **settings)  # type: ignore[arg-type]  # argparse's own many keywords

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """argparse's own ignores a reader that has left."""
        (file or sys.stdout).write(self.format_help())

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(BAD_INPUT)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code. Never raises for a user's mistake.

    A closed pipe (`| head`) is FAILED and silence, whichever stream it is.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # started without it: `>&-`
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - open until the process ends
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
    except OSError as error:
        if error.errno != errno.EPIPE:
            say(f"maskloop: {_place(error)}{error.strerror or error}")
        code = FAILED
    except UnicodeEncodeError as error:
        say(f"maskloop: the output cannot be written as {error.encoding}; set PYTHONIOENCODING=utf-8")
        code = FAILED
    return code if _delivered() else FAILED


def _run(argv: list[str]) -> int:
    try:
        Path.cwd()
    except FileNotFoundError:  # libraries that look for it end the process
        say("maskloop: the folder that this runs in has been removed; change to another")
        return FAILED
    try:
        return _dispatch(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK
    except KeyboardInterrupt:
        say("maskloop: interrupted")
        return INTERRUPTED
    except EngineError as error:
        say(f"maskloop: {one_line(error)}")
        return exit_code(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        say(f"maskloop: {one_line(missing_extra(package, EXTRA_OF[package]))}")
        return BAD_INPUT


def _place(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else ""


def _delivered() -> bool:
    """Whether everything written has been taken. Python flushes once more at exit: a stream that fails goes nowhere."""
    delivered = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if delivered and error.errno != errno.EPIPE:
                say(f"maskloop: the output could not be written: {error.strerror}")
            delivered = False
    return delivered


def _dispatch(argv: list[str]) -> int:
    parser = Parser(prog="maskloop", description="A language model's output that obeys a schema.", add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("command", nargs="?")
    head, rest = _split(argv)
    args = parser.parse_args(head)
    if args.version:
        return _version()
    if args.help or args.command is None:
        print(_overview())
        return OK if args.help else BAD_INPUT
    if args.command not in COMMANDS:
        parser.error(f"there is no command {args.command!r}; there are: {', '.join(COMMANDS)}")
    command = importlib.import_module(f"engine.cli.commands.{args.command}")
    own = Parser(
        prog=f"maskloop {args.command}", description=command.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    command.add_arguments(own)
    chosen, unknown = own.parse_known_args(rest)
    if unknown:
        own.error(f"unrecognized arguments: {' '.join(unknown)}")
    code: int = command.run(chosen)
    return code


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands up to the command's name, and what stands after it."""
    for index, word in enumerate(argv):
        if not word.startswith("-"):
            return argv[: index + 1], argv[index + 1 :]
    return argv, []


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items())
    return (
        "usage: maskloop COMMAND ...\n\nA language model's output that obeys a schema.\n\n"
        f"{rows}\n\nmaskloop COMMAND --help tells what a command takes, maskloop --version what is installed."
    )


def _version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    from engine import __version__

    print(f"maskloop {__version__}")
    for package in ("xgrammar", "torch", "transformers"):
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
    return OK
