"""What importing the client costs: httpx and the standard library."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "xgrammar", "modal", "anthropic", "jsonschema_rs", "fastapi", "pydantic", "numpy")


def test_importing_the_client_imports_nothing_heavy():
    code = f"import sys, engine.client; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_service_imports_no_torch():
    code = "import sys, engine.serve.server.run, engine.serve.lift.functions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
