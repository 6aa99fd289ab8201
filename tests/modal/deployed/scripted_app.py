"""Somebody else's deployment of the class, without an engine: what acceptance must tell apart, said by a script.

An A100 that is too dear, or lies, cannot be had here. `max_tokens`, which acceptance passes on, chooses the script.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import modal

app = modal.App("scripted")
GOOD, DEAR, LIAR, ECHO, BROKEN = range(1, 6)
DOCUMENT = {"name": "add", "parameters": [], "returns": "int", "body": "return a + b"}
GPU_S = 1.5
"""A document's."""
NUMBERS = itertools.count()


@app.cls(image=modal.Image.debian_slim(python_version="3.12"), max_containers=1)
@modal.concurrent(max_inputs=20)
class Engine:
    @modal.method()
    async def info(self) -> dict[str, Any]:
        return {"load_s": {"weights": 20.0, "kernels": 5.0}}

    @modal.method()
    async def generate(self, prompt: str, schema: Any, max_tokens: int, temperature: float) -> dict[str, Any]:
        if max_tokens == BROKEN:
            raise RuntimeError("no engine here")
        document = {**DOCUMENT, "parameters": "none"} if max_tokens == LIAR and temperature > 0 else DOCUMENT
        return {
            "status": "complete",
            "valid": True,
            "request_id": "req" if max_tokens == ECHO else f"req-{next(NUMBERS)}",
            "created": time.time(),
            "raw_text": json.dumps(document),
            "ir_json": document,
            "gpu_seconds": 3.5 if max_tokens == DEAR else GPU_S,
            "device": "NVIDIA A100-SXM4-80GB",
        }
