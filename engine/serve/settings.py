"""Settings of the service, frozen; the only place of `serve` that reads the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from engine.config import Count, Seconds
from engine.errors import RequestError
from engine.fields import Range, check_fields, read_fields

Patience = Annotated[float, Range(0)]
"""Seconds; 0 waits for nothing."""
VARIABLES = {
    "max_concurrent_per_key": "MASKLOOP_MAX_CONCURRENT_PER_KEY",
    "ir_schema": "MASKLOOP_IR_SCHEMA",
    "prices": "MASKLOOP_PRICES",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """What one service allows. Seconds and bytes; None means no limit."""

    api_keys: Sequence[str] = ()
    served_model_name: str | None = None
    """The name in `/v1/models`; None: the engine's own."""
    max_body_bytes: Count = 6 << 20
    """Above the engine's prompt and schema limits together."""
    max_connections: Count = 2_048
    max_headerless: Count = 256
    """Connections without a complete header at once; one more, and the oldest is closed."""
    header_timeout_s: Seconds = 10.0
    """A connection that has not sent a complete header by then is closed."""
    body_timeout_s: Seconds = 30.0
    """A client that has not sent its body by then gets 408."""
    send_timeout_s: Seconds = 60.0
    """A client that reads nothing for this long is dropped."""
    deadline_s: Seconds = 280.0
    """Given to requests that name none: the document is closed by then, inside Modal's function time-out of 300 s."""
    answer_grace_s: Patience = 30.0
    """How long after the deadline an engine may stay silent before the service answers 500 for it."""
    max_concurrent_per_key: Count | None = None
    max_checks: Count = 64
    """Checks at once; where they are all taken, a key with less than its share is still let in."""
    drain_s: Patience = 30.0
    """After a stop signal, what still runs after this long is cancelled and answered 503."""
    wedged_after_s: Patience = 60.0
    """Work in flight and no step for this long: not ready, and the watchdog acts."""
    admission_threads: Count = 1
    """Of one key, beside one that is kept for other keys; what keys ask beyond that waits its turn. They share one
    interpreter with the decode thread and the event loop, which wait for each of them, one after the other, whenever
    they have given it up."""
    batch_width: Count = 32
    """How many requests of all `generate_batch` calls are in the engine at once: less than its queue holds."""
    ir_schema: Path | None = None
    """The schema `generate_ir` takes when the caller sends none; None: the bundled `lift_ir`."""
    prices: Path | None = None
    """A JSON price file that replaces the built-in one."""

    def __post_init__(self) -> None:
        check_fields(self, lambda name: VARIABLES.get(name, name))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **changes: Any) -> ServeSettings:
        """Keys from `MASKLOOP_API_KEYS`, the rest by `VARIABLES`; `changes` come on top of them."""
        env = os.environ if environ is None else environ
        keys = tuple(key.strip() for key in env.get("MASKLOOP_API_KEYS", "").split(",") if key.strip())
        return cls(**{"api_keys": keys, **read_fields(cls, env, VARIABLES), **changes})

    def without_keys(self) -> ServeSettings:
        """The same settings for a place where someone else keeps the door."""
        return replace(self, api_keys=())


def json_file(path: Path, *, param: str) -> Any:
    """What a settings file holds. RequestError names the variable and the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{param}: the file {path} cannot be used: {error}", param=param) from None
