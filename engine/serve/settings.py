"""Settings of the service, frozen; the only place of `serve` that reads the environment.

Knows names, defaults and ranges. Does not know the engine's own settings (`engine.config`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import RequestError

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """What one service allows. Seconds and bytes; None means no limit."""

    api_keys: tuple[str, ...] = ()
    served_model_name: str | None = None
    """The name in `/v1/models`; None: the engine's own."""
    max_body_bytes: int = 6 * MIB
    """Above the engine's prompt and schema limits together."""
    max_connections: int = 2_048
    max_headerless: int = 256
    """Connections without a complete header at once; one more, and the oldest is closed."""
    header_timeout_s: float = 10.0
    """A connection that has not sent a complete header by then is closed."""
    body_timeout_s: float = 30.0
    """A client that has not sent its body by then gets 408."""
    send_timeout_s: float = 60.0
    """A client that reads nothing for this long is dropped."""
    deadline_s: float = 280.0
    """Given to requests that name none: the document is closed by then, inside Modal's function time-out of 300 s."""
    answer_grace_s: float = 30.0
    """How long after the deadline an engine may stay silent before the service answers 500 for it."""
    max_concurrent_per_key: int | None = None
    max_checks: int = 64
    """Checks at once; where they are all taken, a key with less than its share is still let in."""
    drain_s: float = 30.0
    """After a stop signal, what still runs after this long is cancelled and answered 503."""
    wedged_after_s: float = 60.0
    """Work in flight and no step for this long: not ready, and the watchdog acts."""
    admission_threads: int = 32
    batch_width: int = 32
    """How many requests of all `generate_batch` calls are in the engine at once: less than its queue holds."""
    ir_schema: Path | None = None
    """The schema `generate_ir` takes when the caller sends none; None: the bundled `lift_ir`."""
    prices: Path | None = None
    """A JSON price file that replaces the built-in one."""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise RequestError(f"{name} must be above 0, got {getattr(self, name)}", param=name)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **changes: Any) -> ServeSettings:
        """Keys from `MASKLOOP_API_KEYS`, limits from `MASKLOOP_MAX_CONCURRENT_PER_KEY`, files from the rest."""
        env = os.environ if environ is None else environ
        keys = tuple(key.strip() for key in env.get("MASKLOOP_API_KEYS", "").split(",") if key.strip())
        limit = env.get("MASKLOOP_MAX_CONCURRENT_PER_KEY")
        base = cls(
            api_keys=keys,
            max_concurrent_per_key=_positive("MASKLOOP_MAX_CONCURRENT_PER_KEY", limit) if limit else None,
            ir_schema=Path(env["MASKLOOP_IR_SCHEMA"]) if env.get("MASKLOOP_IR_SCHEMA") else None,
            prices=Path(env["MASKLOOP_PRICES"]) if env.get("MASKLOOP_PRICES") else None,
        )
        return replace(base, **changes)

    def without_keys(self) -> ServeSettings:
        """The same settings for a place where someone else keeps the door."""
        return replace(self, api_keys=())


_POSITIVE = (
    "max_body_bytes", "max_connections", "max_headerless", "max_checks", "header_timeout_s", "body_timeout_s",
    "send_timeout_s", "deadline_s", "admission_threads",
)  # fmt: skip


def json_file(path: Path, *, param: str) -> Any:
    """What a settings file holds. RequestError names the variable and the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{param}: the file {path} cannot be used: {error}", param=param) from None


def _positive(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise RequestError(f"{name} must be a whole number above 0, got {text!r}", param=name)
    return int(text)
