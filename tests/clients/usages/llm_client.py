"""The `llm` command, with a model of its extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import BASE_URL, MODEL, main, usage

HOME = Path(tempfile.mkdtemp(prefix="llm-"))
(HOME / "extra-openai-models.yaml").write_text(
    f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {BASE_URL}\n  api_key_name: ours\n"
    "  supports_schema: true\n  supports_tools: true\n"
)
(HOME / "keys.json").write_text('{"ours": "none"}')


def llm(*arguments: str) -> str:
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "llm"), *arguments],
        env={**os.environ, "LLM_USER_PATH": str(HOME)}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-400:]
    return ran.stdout


@usage("prompt")
def prompt() -> None:
    assert llm("-m", "ours", "-o", "max_tokens", "10", "Name a city").strip()


@usage("prompt, --no-stream")
def no_stream() -> None:
    assert llm("-m", "ours", "--no-stream", "-o", "max_tokens", "10", "Name a city").strip()


@usage("prompt, --schema")
def schema() -> None:
    text = llm("-m", "ours", "--schema", "size int", "-o", "max_tokens", "100", "How large is Rome?")
    assert isinstance(json.loads(text)["size"], int)


main()
