"""One prompt in, one document out. The document goes to stdout, everything about it to stderr."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from engine.cli.arguments import options
from engine.cli.arguments.inputs import compact, read_text
from engine.cli.sessions.engine_session import open_engine, wait_for
from engine.cli.sessions.trace_output import TraceOutput, open_trace
from engine.cli.terminal import FAILED, OK, Progress, say
from engine.decode.requests.prompt import refuse_oversized
from engine.errors import RequestError
from engine.interfaces import StepRecord
from engine.request import SUCCESSES, Request, Result

if TYPE_CHECKING:
    from engine.decode.engine import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="one message of a user")
    prompt.add_argument("--prompt-file", metavar="F", help="the prompt is this file's text")
    parser.add_argument("stdin", nargs="?", metavar="-", help="the prompt is read from stdin")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--template", choices=("chat", "raw"), default="chat", help="raw sends the prompt untouched")
    parser.add_argument("--schema-in-prompt", action="store_true", help="show the schema to the model")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="the document is closed by then")
    parser.add_argument("--report", action="store_true", help="print the whole result as one JSON object")
    parser.add_argument("--show-prompt", action="store_true", help="print the prompt's tokens as text on stderr")
    parser.add_argument("--trace", metavar="FILE", help="write one JSON line a step (maskloop trace view shows it)")
    parser.add_argument("--trace-text", choices=("on", "off"), default="on", help="off: figures only")
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    options.add_constraint(parser)
    options.add_sampling(parser)
    options.add_engine(parser)


def run(args: argparse.Namespace) -> int:
    request = build_request(args)
    config = options.engine_config(args, [request])
    refuse_oversized(request, max_bytes=config.limits.prompt_bytes)  # before seconds are spent on a model
    progress = Progress(quiet=args.quiet)
    with open_trace(args.trace, text=args.trace_text == "on") as trace, open_engine(config, progress) as engine:
        if args.show_prompt:
            say(prompt_text(engine, request))
        result = _decode(engine, request, progress, trace)
    progress.line(summary(result))
    return deliver(result, report=args.report)


def build_request(args: argparse.Namespace) -> Request:
    """The request these arguments describe; RequestError when they describe none."""
    if args.stdin not in (None, "-"):
        raise RequestError(f"{args.stdin!r} is not an option; a prompt is given with --prompt", param="prompt")
    named = [name for name in ("prompt", "prompt_file", "stdin") if getattr(args, name) is not None]
    if len(named) != 1:
        raise RequestError("give exactly one of --prompt TEXT, --prompt-file F and -", param="prompt")
    if args.prompt is not None:
        prompt = args.prompt
    else:
        prompt = read_text(args.prompt_file or "-", param="prompt")
    return Request(
        prompt=prompt,
        system=args.system,
        template=args.template,
        schema_in_prompt=args.schema_in_prompt,
        constraint=options.constraint(args),
        sampling=options.sampling_params(args),
        deadline_s=args.deadline,
    )


def prompt_text(engine: Engine, request: Request) -> str:
    """What the model reads, special tokens shown."""
    from engine.decode.requests.prompt import encode_prompt

    ids = encode_prompt(
        request,
        engine.tokenizer,
        max_sequence=engine.loaded.runner.max_sequence,
        max_bytes=engine.config.limits.prompt_bytes,
    )
    special = {token_id: text for text, token_id in engine.tokenizer.special_tokens.items()}
    return "".join(special.get(i) or engine.tokenizer.decode([i]) for i in ids)


def _decode(engine: Engine, request: Request, progress: Progress, trace: TraceOutput | None) -> Result:
    progress.phase("compiling the grammar and reading the prompt" if request.constraint else "reading the prompt")
    if trace:
        trace.begin(engine)

    def step(record: StepRecord) -> None:
        first = progress.first_token_s is None
        progress.token()
        if first and request.sampling.max_tokens is None:
            progress.line("no --max-tokens: the text ends where the model or the context ends it, maybe after minutes")
        if trace:
            trace(record)

    watched = step if trace or request.sampling.method == "mask" else None  # other methods have no steps to tell
    result = wait_for(engine.submit(request, trace=watched, stats=trace is not None))
    progress.end_phase()
    if trace:
        trace.end(engine, request, result)
    return result


def summary(result: Result) -> str:
    """Tokens per second and what the mask cost of the decoding time."""
    times, tokens = result.timings_ms, result.usage.completion_tokens
    seconds = times.decode / 1e3
    rate = f"{tokens / seconds:.1f} tokens/s" if seconds > 0 else "no decode step"
    told = f"{result.status}: {tokens} tokens in {seconds:.2f} s, {rate}"
    if result.usage.forced_tokens:
        told += f" ({result.usage.forced_tokens} forced by the grammar)"
    if times.decode and times.mask_fill:
        share = 100 * times.mask_exposed / times.decode
        told += f"; masks: {times.mask_fill:.1f} ms to fill, {times.mask_exposed:.1f} ms of waiting and applying"
        told += f" = {share:.2f} % of that time"
    return told


def deliver(result: Result, *, report: bool) -> int:
    """The document, or the result as JSON; nothing on stdout for a failure, whose reason is one line on stderr."""
    if result.status not in SUCCESSES:
        reason = (result.error or {}).get("message") or "no document"
        pointer = (result.error or {}).get("pointer")
        say(f"maskloop: {result.status}: {' '.join(str(reason).split())}" + (f" (at {pointer})" if pointer else ""))
        return FAILED
    if report:
        text = compact(result.to_dict())
    else:
        text = "\n".join(sample.text for sample in result.samples) if result.samples else result.text
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
    return OK
