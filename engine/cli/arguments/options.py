"""Options that several commands share, and the engine's types they stand for.

Knows option names and help texts. Ranges and contradictions are the engine types' own business.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from engine.cli.arguments.inputs import parse_json, read_schema, read_text
from engine.config import EMBEDDED_MODEL, QUANTIZATIONS, EngineConfig, default_cache_dir
from engine.constraint import Draft
from engine.errors import ConstraintError, RequestError
from engine.judge import refuse_unreadable
from engine.request import Constraint, Request, SamplingParams

ENGINE_FIELDS = (
    "model", "revision", "quantization", "device", "tokenizer", "max_batch", "max_sequence", "cache_dir", "threads",
    "cpu_dtype", "kv_cache",
)  # fmt: skip
SAMPLING_OPTIONS = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "n", "method", "particles",
    "ess",
)  # fmt: skip


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Options of `EngineConfig`; what is not given keeps the config's own default."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--model",
        metavar="M",
        help=f"{EMBEDDED_MODEL} (default), a hub name, a folder, a .gguf file, random:CONFIG.json",
    )
    group.add_argument("--revision", help="commit of a hub model (default: the pinned one, where we pin it)")
    group.add_argument("--quantization", metavar="Q", choices=QUANTIZATIONS, help=", ".join(QUANTIZATIONS))
    group.add_argument("--device", help="auto (default), cpu, cuda, cuda:N")
    add_tokenizer(group)
    group.add_argument("--max-batch", type=int, metavar="N", help="rows decoded together (default 8, or all particles)")
    group.add_argument("--max-sequence", type=int, metavar="N", help="tokens of prompt and answer (default 8192)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads of the forward (default: torch chooses)")
    group.add_argument("--cpu-dtype", choices=("float32", "bfloat16"), help="number format on a CPU (default float32)")
    group.add_argument("--kv-cache", choices=("fp16", "fp8"), help="keys and values in 16 bits (default) or 8")
    add_cache_dir(group)


def add_tokenizer(parser: Any) -> None:
    parser.add_argument(
        "--tokenizer", metavar="DIR_OR_FILE", help="folder or tokenizer.json instead of the model's own"
    )


def add_cache_dir(parser: Any) -> None:
    default = str(default_cache_dir()).replace("%", "%%")  # argparse fills in help texts
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help=f"default {default}")


def add_conformance(parser: Any) -> None:
    told = "tight (default): keys in schema order, no undeclared ones; spec: whatever the specification allows"
    parser.add_argument("--conformance", choices=("tight", "spec"), default="tight", help=told)


def add_draft(parser: Any) -> None:
    parser.add_argument(
        "--draft",
        type=lambda text: int(text) if text.isdecimal() else text,
        choices=get_args(Draft),
        help="draft of a schema without $schema (default 2020-12)",
    )


def add_contents(parser: Any) -> None:
    told = "do not enforce contentEncoding and contentMediaType"
    parser.add_argument("--no-contents", dest="contents", action="store_false", help=told)


def engine_config(args: argparse.Namespace, requests: Iterable[Request] = ()) -> EngineConfig:
    """The config these options describe, with rows for the particles of these requests where none were asked for.
    RequestError too where its cache folder is something else, or unreadable."""
    given = {name: getattr(args, name, None) for name in ENGINE_FIELDS}
    config = EngineConfig.from_mapping({name: value for name, value in given.items() if value is not None})
    if given["max_batch"] is None:
        params = (request.sampling for request in requests)
        rows = max((each.particles for each in params if each.method == "smc"), default=0)
        config = replace(config, max_batch=max(config.max_batch, rows))
    try:
        next(config.cache_folder.iterdir(), None)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RequestError(
            f"cache folder {config.cache_folder}: {error.strerror}; name another with --cache-dir or MASKLOOP_CACHE",
            param="cache_dir",
        ) from None
    return config


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Options of `SamplingParams`."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-tokens", type=int, metavar="N", help="default: what the context leaves")
    group.add_argument("--temperature", type=float, metavar="T", help="default 1; 0 is greedy")
    group.add_argument("--top-p", type=float, metavar="P", help="default 1: all tokens")
    group.add_argument("--top-k", type=int, metavar="K", help="default 0: all tokens")
    group.add_argument("--min-p", type=float, metavar="P", help="default 0: all tokens")
    group.add_argument("--repetition-penalty", type=float, metavar="R", help="default 1: none")
    group.add_argument("--seed", type=int, metavar="S", help="default: drawn and reported")
    group.add_argument("--n", type=int, metavar="N", help="samples of the same prompt (see --report)")
    told = "mask (default): legal tokens; smc, rejection: the model's own distribution of valid texts"
    group.add_argument("--method", choices=("mask", "smc", "rejection"), help=told)
    group.add_argument("--particles", type=int, metavar="N", help="of smc: texts side by side (default 32)")
    group.add_argument("--ess", type=float, metavar="P", help="of smc: when they are resampled (default 0.5)")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="ends free text; may be repeated")


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    """The sampling these options describe."""
    given = {name: getattr(args, name) for name in SAMPLING_OPTIONS}
    named = {name: value for name, value in given.items() if value is not None}
    return SamplingParams.from_mapping({**named, "stop": tuple(args.stop)})


def add_kinds(parser: Any) -> None:
    """Constraints that are not JSON as a whole."""
    parser.add_argument("--regex", metavar="PATTERN", help="ECMA-262, the whole text")
    parser.add_argument("--ebnf", metavar="FILE", help="an EBNF grammar with a rule root")
    parser.add_argument("--lark", metavar="FILE", help="a Lark grammar with a rule start")
    parser.add_argument("--choice", action="append", metavar="TEXT", help="repeated: one of these texts")
    parser.add_argument("--structural-tag", metavar="FILE", help="free text with constrained parts")


def add_constraint(parser: argparse.ArgumentParser) -> None:
    """What the answer must be; none of them: free text."""
    group = parser.add_argument_group("constraint (at most one; none: free text)")
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--schema", metavar="FILE", help="a JSON Schema, or the name of a bundled one")
    add_kinds(kinds)
    kinds.add_argument("--json-object", action="store_true", help="any JSON object")
    told = "between JSON's tokens: compact (default) none, flexible as the model likes"
    group.add_argument("--whitespace", choices=("compact", "flexible"), default="compact", help=told)
    add_conformance(group)
    add_draft(group)
    add_contents(group)
    group.add_argument("--require-enforced", action="store_true", help="refuse a schema that is not enforced entirely")


def constraint(args: argparse.Namespace, *, told: type[ConstraintError] = ConstraintError) -> Constraint | None:
    """The constraint these options describe. Errors of class `told` in it are raised here, before a model is loaded."""
    names = ("regex", "choice", "json_object")
    given: dict[str, Any] = {name: getattr(args, name, None) for name in names}
    for name in ("ebnf", "lark", "structural_tag"):
        file: str | None = getattr(args, name)
        given[name] = None if file is None else read_text(file, param=name)
    if args.structural_tag is not None:
        tag = parse_json(given["structural_tag"], where=args.structural_tag, param="structural_tag")
        given["structural_tag"] = tag
    if args.schema is not None:
        given["schema"] = read_schema(args.schema)
    made = Constraint.from_mapping({**given, **_schema_options(args)})
    if made is not None:
        _look_over(made, args.schema or args.ebnf or args.lark or args.structural_tag, told)
    return made


def _schema_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options that are not at their defaults: what was asked for must apply."""
    defaults = {"whitespace": "compact", "conformance": "tight", "require_enforced": False}
    defaults |= {"draft": None, "contents": True}
    given = {name: getattr(args, name, default) for name, default in defaults.items()}
    return {name: value for name, value in given.items() if value != defaults[name]}


def schema_constraint(name: str, args: argparse.Namespace) -> Constraint:
    """The constraint of a schema file or bundled name."""
    made = Constraint.json_schema(read_schema(name), **_schema_options(args))
    _look_over(made, name, ConstraintError)
    return made


def _look_over(made: Constraint, file: str | None, told: type[ConstraintError]) -> None:
    try:
        refuse_unreadable(made)
    except told as error:
        message = f"{file}: {error.message}" if file else error.message
        raise type(error)(message, param=error.param, pointer=error.pointer) from None
    except ConstraintError:
        pass  # whoever compiles it tells it
