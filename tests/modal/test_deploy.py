"""What `modal deploy modal_app.py` sends, as the plane received it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import modal
import pytest

from engine.serve.modal.deployment import HEALTH_PACKAGES, PACKAGES
from tests.modal.conftest import HEALTH, Deploy
from tests.modal.control_plane.environments import canonical
from tests.modal.control_plane.launcher import HERE
from tests.modal.control_plane.plane import PATIENCE_S, Plane
from tests.modal.control_plane.web import PROXY_TOKEN
from tests.modal.deployed import images


def test_health_answers_from_an_image_of_its_own_packages_without_an_engine(plane: Plane, deploy: Deploy) -> None:
    deploy("quiet")
    told = modal.Function.from_name("quiet", "state", client=plane.client).remote()
    assert (told["state"], told["status"]) == ("cold", "healthy")
    assert plane.function("quiet", "Engine.*").containers == []


def test_an_app_that_is_not_there_is_not_found(plane: Plane) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        plane.cls("nowhere").info.remote()


@pytest.mark.skipif(not HEALTH.site_packages.exists() and "CI" not in os.environ, reason="`make setup` has not run")
def test_the_health_image_is_run_with_its_own_packages_alone() -> None:
    assert HEALTH.distributions.keys() == HEALTH.closure([*HEALTH_PACKAGES, "modal"])


@pytest.mark.parametrize("packages", [HEALTH_PACKAGES, ("uvicorn",)])
def test_the_import_filter_lets_through_the_closure_and_nothing_else(packages: tuple[str, ...], tmp_path: Path) -> None:
    names = HERE.closure(packages)
    folder = HERE.link(names, tmp_path, HERE.site_packages)
    code = "import importlib.metadata as m; print(*sorted(d.metadata['Name'] for d in m.distributions(path=[{!r}])))"
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code.format(str(folder))], capture_output=True, text=True, check=True
    )
    assert {canonical(name) for name in found.stdout.split()} == names
    assert "pytest" not in names
    assert not list(folder.glob("pytest*"))


def test_a_stranger_costs_nothing_behind_modals_proxy_auth(plane: Plane, deploy: Deploy, tmp_path: Path) -> None:
    deploy("guarded", MASKLOOP_AUTH="proxy")
    engine, health = (plane.function("guarded", tag) for tag in ("Engine.*", "health"))
    for url in (engine.web_urls["web"] + "/generate", health.web_urls[""]):
        assert httpx.post(url, json={"prompt": "x"}).status_code == 401
    assert engine.containers == health.containers == []
    absent = {"MASKLOOP_MODAL_APP": "absent", "MASKLOOP_AUTH": "none"}
    judge = ["run", "-q", "modal_app.py::acceptance", "--out", str(tmp_path / "report.json"), "--url"]
    done = plane.cli(*judge, engine.web_urls["web"] + "/generate", **absent)
    assert done.returncode == 1
    (responds,) = [line for line in done.stdout.splitlines() if line.startswith("responds")]
    assert "0 of 31; first error: HTTP 401: modal-http: missing or wrong proxy token" in responds
    assert not any(app.containers_seen for app in plane.apps.values() if app.name == "absent")
    assert engine.containers == health.containers == []
    told = httpx.get(health.web_urls[""], headers=PROXY_TOKEN, timeout=PATIENCE_S)
    assert (told.status_code, told.json()["state"]) == (200, "cold")
    assert engine.containers == []


def test_modal_is_told_gpu_volumes_limits_doors_and_labels_of_the_contract(plane: Plane) -> None:
    printed = plane.deploy(MASKLOOP_MODAL_APP="plain")
    engine, health = (plane.function("plain", tag).definition for tag in ("Engine.*", "health"))
    assert engine.resources.gpu_config.gpu_type == "A100-80GB"
    mounts = {mount.mount_path: mount.volume_id for mount in engine.volume_mounts}
    assert mounts == {"/weights": "vo-maskloop-weights", "/cache": "vo-maskloop-cache"}
    assert (engine.timeout_secs, engine.startup_timeout_secs, engine.task_idle_timeout_secs) == (300, 1200, 120)
    assert (engine.max_concurrent_inputs, engine.concurrency_limit) == (8 + 64 + 32, 2)
    assert (engine.retry_policy.retries, list(engine.secret_ids), engine.checkpointing_enabled) == (0, [], False)
    methods = {"generate", "generate_ir", "generate_batch", "stream", "check", "info", "warmup", "web"}
    assert set(engine.method_definitions) == methods
    web = engine.method_definitions["web"].webhook_config
    assert (web.requested_suffix, web.requires_proxy_auth) == ("maskloop-generate", True)
    assert (health.webhook_config.requested_suffix, health.webhook_config.requires_proxy_auth) == (
        "maskloop-health",
        True,
    )
    for light in (health, plane.function("plain", "state").definition):
        assert (light.resources.gpu_config.gpu_type, list(light.volume_mounts)) == ("", [])
    assert health.max_concurrent_inputs == 100
    assert "--maskloop-generate.modal.run" in printed
    assert "--maskloop-health.modal.run" in printed
    assert "largest possible bill a day: $" in printed
    assert "WARNING" not in printed


def test_settings_reach_modal_and_a_stranger_is_named_where_nobody_keeps_the_door(plane: Plane) -> None:
    changes = {"GPU": "L40S", "TIMEOUT": "200", "CONCURRENT_INPUTS": "4", "LABEL_PREFIX": "", "SNAPSHOT": "cpu"}
    settings = {f"MASKLOOP_{name}": value for name, value in {**changes, "MODAL_APP": "changed"}.items()}
    with pytest.raises(RuntimeError, match="Secret"):
        plane.deploy(**settings, MASKLOOP_AUTH="bearer")
    made = plane.cli("secret", "create", "maskloop", "MASKLOOP_API_KEYS=key")
    assert made.returncode == 0, made.stdout + made.stderr
    try:
        plane.deploy(**settings, MASKLOOP_AUTH="bearer")
    finally:
        del plane.uploads.secrets["maskloop"]
    engine, health = (plane.function("changed", tag).definition for tag in ("Engine.*", "health"))
    assert (engine.resources.gpu_config.gpu_type, engine.timeout_secs, engine.max_concurrent_inputs) == ("L40S", 200, 4)
    assert (list(engine.secret_ids), engine.checkpointing_enabled) == (["st-maskloop"], True)
    web = engine.method_definitions["web"].webhook_config
    assert (web.requested_suffix, web.requires_proxy_auth) == ("generate", False)
    assert (health.webhook_config.requested_suffix, health.webhook_config.requires_proxy_auth) == ("health", False)
    assert "WARNING: auth is none" in plane.deploy(**settings, MASKLOOP_AUTH="none")


def test_both_images_install_their_packages_under_the_constraints_that_are_in_them(
    plane: Plane, deploy: Deploy
) -> None:
    deploy("quiet")
    for tag, packages in (("Engine.*", PACKAGES), ("health", HEALTH_PACKAGES)):
        layers = images.read(plane.uploads, plane.function("quiet", tag).definition.image_id)
        assert layers.packages == set(packages)
        (install,) = [run for run in layers.runs if "pip install" in run and "upgrade" not in run]
        assert "--constraints /constraints.txt" in install
        assert [file.filename for file in layers.files] == ["/constraints.txt"]


def test_health_answers_200_even_where_the_platform_does_not(plane: Plane, deploy: Deploy) -> None:
    deploy("quiet")
    url = plane.function("quiet", "health").web_urls[""]
    plane.dict_fails = True
    try:
        for path in ("/", "/health"):
            told = httpx.get(url + path, timeout=PATIENCE_S)
            assert (told.status_code, told.json()["state"]) == (200, "unknown")
    finally:
        plane.dict_fails = False
