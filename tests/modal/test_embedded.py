"""The trial that docs/deploy.md offers: the embedded model, asked by the entry point that calls the deployed app."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.harness.models import embedded_tokenizer
from engine.client.acceptance.plan import INFERENCE_SCHEMA
from engine.client.providers.fallback import judge
from tests.modal.control_plane.plane import Plane

TRIAL = {"MASKLOOP_MODEL": "smollm2-135m", "MASKLOOP_QUANTIZATION": "bf16", "MASKLOOP_MODAL_APP": "trial"}


def test_test_inference_asks_the_deployed_app_and_prints_a_valid_document(plane: Plane) -> None:
    absent = plane.cli("run", "modal_app.py::test_inference", **TRIAL)
    assert absent.returncode == 1
    assert "modal deploy" in absent.stdout + absent.stderr
    plane.deploy(**TRIAL)
    fill_cache(plane)
    done = plane.cli("run", "modal_app.py::test_inference", **TRIAL)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    assert judge(INFERENCE_SCHEMA, answer["ir_json"]) is None
    assert (answer["model"], answer["valid"], answer["finish_reason"]) == ("smollm2-135m", True, "stop")
    (container,) = plane.function("trial", "Engine.*").containers
    assert container.succeeded
    assert [app.name for app in plane.apps.values() if app.containers_seen and "trial" in app.name] == ["trial"]


def fill_cache(plane: Plane) -> None:
    """The converted model onto the cache Volume, as an earlier container left it: converting takes 20 s of CPU."""
    converted = Path(embedded_tokenizer())
    place = plane.uploads.volume("maskloop-cache") / "models" / converted.name
    if not place.exists():
        shutil.copytree(converted, place)
