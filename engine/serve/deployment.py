"""The settings of one Modal deployment, read from the environment once and baked into the image.

Knows names, defaults and what they can cost. Does not import modal: `modal_app.py` hands these values to it. The same
environment is read again inside the container, so that both sides define the same app.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.config import PRODUCT_MODEL, PRODUCT_REVISION, QUANTIZATIONS
from engine.errors import RequestError
from engine.serve.heap import PYTHON_TOO
from engine.serve.prices import LISTED

AUTHS = ("proxy", "bearer", "none")
SNAPSHOTS = ("off", "cpu", "gpu")
PREFIX = "MASKLOOP_"
DAY_S = 86_400
PYTHON_VERSION = "3.12"
PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "fastapi",
    "gguf",
    "regex",
    "httpx",
    "jsonschema-rs",
    "matplotlib",
    "numpy",
    "prometheus_client",
    "torch",
    "transformers",
    "triton",
    "uvicorn",
    "xgrammar",
)
"""What the GPU image installs, at the versions of constraints.txt: the extras `gpu` and `serve`, and the plots."""
HEALTH_PACKAGES = ("fastapi", "httpx", "jsonschema-rs")
SMOKE_TEST = "python -c 'import bitsandbytes, fastapi, prometheus_client, torch, transformers, triton, xgrammar'"
"""Run while the image is built: a package that cannot be imported fails the build, not the first request."""
RAM_GIB = 32
CPU_CORES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """`MASKLOOP_<FIELD>` sets a field; unset or empty is the default."""

    modal_app: str = "maskloop"
    label_prefix: str = "maskloop-"
    auth: str = "proxy"
    """Who may call over HTTP: `proxy` Modal's tokens, `bearer` keys of the Secret `maskloop`, `none` anyone."""
    gpu: str = "A100-80GB"
    model: str = PRODUCT_MODEL
    revision: str = PRODUCT_REVISION
    quantization: str = "nf4"
    max_sequence: int = 8192
    max_batch: int = 8
    concurrent_inputs: int = 10
    timeout: int = 300
    startup_timeout: int = 1200
    scaledown_window: int = 120
    max_containers: int = 2
    snapshot: str = "off"

    def __post_init__(self) -> None:
        for name, allowed in (("auth", AUTHS), ("snapshot", SNAPSHOTS), ("quantization", QUANTIZATIONS)):
            if getattr(self, name) not in allowed:
                raise RequestError(
                    f"{PREFIX}{name.upper()} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}",
                    param=name,
                )
        for field in fields(self):
            if field.type == "int" and getattr(self, field.name) < 1:
                raise RequestError(f"{PREFIX}{field.name.upper()} must be at least 1", param=field.name)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Deployment:
        """RequestError names the variable at fault."""
        env = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            text = env.get(name, "").strip()
            if not text:
                continue
            if field.type == "int" and not text.isdecimal():
                raise RequestError(f"{name} must be a whole number, got {text!r}", param=field.name)
            given[field.name] = int(text) if field.type == "int" else text
        return cls(**given)

    def to_env(self) -> dict[str, str]:
        """The variables that make `from_env` give this deployment again."""
        return {PREFIX + field.name.upper(): str(getattr(self, field.name)) for field in fields(self)}

    def container_env(self, weights: str, cache: str) -> dict[str, str]:
        """The environment of the image: these settings, and caches on the volumes."""
        places = {"HF_HOME": f"{weights}/hf", "MASKLOOP_CACHE": cache, "TRITON_CACHE_DIR": f"{cache}/triton"}
        return {**self.to_env(), **places, **PYTHON_TOO}

    @property
    def identity(self) -> dict[str, str]:
        """What the health function says of the model without asking the engine."""
        return {"model": self.model, "revision": self.revision, "quantization": self.quantization}

    @property
    def checkpoint(self) -> str:
        """Folder of the quantised checkpoint below the weights volume."""
        return f"{self.model.replace('/', '--')}-{self.revision[:12]}-{self.quantization}"

    @property
    def container_usd_per_s(self) -> float:
        """List price of one container: GPU, cores and memory. An unknown GPU is priced as the dearest known."""
        gpu = LISTED.per_second(self.gpu) or max(LISTED.gpu.values())
        return gpu + CPU_CORES * LISTED.cpu_core + RAM_GIB * LISTED.memory_gib

    def announcement(self) -> str:
        """What deploying prints: the URLs, who may call them, and what the worst day costs."""
        day = self.container_usd_per_s * DAY_S * self.max_containers
        lines = [
            f"generate: https://<workspace>--{self.label_prefix}generate.modal.run (auth: {self.auth})",
            f"health:   https://<workspace>--{self.label_prefix}health.modal.run (CPU only)",
            f"largest possible bill a day: ${day:.2f} ({self.max_containers} x {self.gpu} without a pause,"
            f" list prices of {LISTED.as_of})",
        ]
        if self.auth == "none":
            hour = self.container_usd_per_s * 3600 * self.max_containers
            lines.append(f"WARNING: auth is none: a stranger can spend ${hour:.2f} an hour")
        return "\n".join(lines)
