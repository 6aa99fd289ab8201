"""The Modal deployment through Modal's own inspection, without credentials; its container's life with fakes."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.config import PRODUCT_MODEL, PRODUCT_REVISION
from engine.errors import RequestError
from engine.serve import deployment as deployment_module
from engine.serve.deployment import Deployment
from engine.serve.modal_service import ModalService, engine_config, quantize_command, serve_settings
from engine.serve.remote_state import create_health_app, state_report
from tests.serve.fakes import DOCUMENT, FakeEngine

ROOT = Path(__file__).resolve().parents[1]
INSPECT = """
import json, warnings
warnings.simplefilter("ignore")
import modal
recorded = {"labels": [], "cls": {}, "pip": []}
def recording(function, keep):
    def record(*args, **kwargs):
        keep(args, kwargs)
        return function(*args, **kwargs)
    return record
modal.asgi_app = recording(modal.asgi_app, lambda _, kwargs: recorded["labels"].append(kwargs["label"]))
modal.App.cls = recording(modal.App.cls, lambda _, kwargs: recorded["cls"].update(
    {name: kwargs[name] for name in ("scaledown_window", "max_containers", "enable_memory_snapshot")}))
modal.Image.uv_pip_install = recording(modal.Image.uv_pip_install, lambda args, kwargs: recorded["pip"].append(
    [list(args[1:]), kwargs["extra_options"]]))
import modal_app
def told(info):
    web = info.web_info or (info.method_details or {}).get("web")
    return {"gpus": info.gpus, "cpu": info.cpu, "memory": info.memory_mib, "timeout": info.timeout,
            "startup": info.startup_timeout, "volumes": {path: mount.name for path, mount in info.volumes.items()},
            "secrets": len(info.secrets), "inputs": info.concurrency_info and info.concurrency_info.max_inputs,
            "retries": info.max_retries, "open": web and web.unauthenticated, "methods": info.method_names}
functions = modal_app.app.registered_functions
print(json.dumps({**recorded, **{name: told(functions[name].info()) for name in functions}}))
"""


def inspect(**environment):
    """What Modal would be told, in a fresh process with these settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MASKLOOP_", "MODAL_"))}
    done = subprocess.run(
        [sys.executable, "-c", INSPECT],
        cwd=ROOT,
        env={**env, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def told():
    return inspect()


def test_the_engine_class_has_the_gpu_volumes_limits_and_concurrency_of_the_contract(told):
    engine = told["Engine.*"]
    assert engine["gpus"] == [["A100-80GB", 1]]
    assert engine["volumes"] == {"/cache": "maskloop-cache", "/weights": "maskloop-weights"}
    assert told["cls"] == {"scaledown_window": 120, "max_containers": 2, "enable_memory_snapshot": False}
    assert (engine["timeout"], engine["startup"], engine["inputs"]) == (300, 1200, 10)
    assert not engine["retries"]
    assert engine["secrets"] == 0
    methods = {"generate", "generate_ir", "generate_batch", "stream", "check", "info", "warmup", "web"}
    assert set(engine["methods"]) == methods


def test_the_health_function_has_no_gpu_and_takes_many_inputs(told):
    for name in ("health", "state"):
        assert told[name]["gpus"] in ([], None)
        assert told[name]["volumes"] == {}
    assert told["health"]["inputs"] == 100


def test_the_default_door_is_modals_proxy_auth(told):
    assert (told["Engine.*"]["open"], told["health"]["open"]) == (False, False)


def test_the_two_labels_are_the_pair_that_lifts_client_derives(told):
    assert told["labels"] == ["maskloop-generate", "maskloop-health"]
    assert inspect(MASKLOOP_LABEL_PREFIX="lift-")["labels"] == ["lift-generate", "lift-health"]


def test_every_package_is_installed_under_the_constraints(told):
    for packages, options in told["pip"]:
        assert packages
        assert options == "--constraints /constraints.txt"
    assert "torch" in told["pip"][0][0]
    assert "torch" not in told["pip"][1][0]


def test_settings_reach_modal(told):
    other = inspect(MASKLOOP_AUTH="bearer", MASKLOOP_GPU="L40S", MASKLOOP_TIMEOUT="200", MASKLOOP_CONCURRENT_INPUTS="4")
    engine = other["Engine.*"]
    assert engine["gpus"] == [["L40S", 1]]
    assert (engine["timeout"], engine["inputs"], engine["secrets"]) == (200, 4, 1)
    assert (engine["open"], other["health"]["open"]) == (True, True)
    assert told["Engine.*"]["gpus"] != engine["gpus"]


@pytest.mark.parametrize("snapshot", ["cpu", "gpu"])
def test_snapshots_are_an_option_that_modal_accepts(snapshot):
    assert inspect(MASKLOOP_SNAPSHOT=snapshot)["Engine.*"]["gpus"] == [["A100-80GB", 1]]


def test_it_is_thin_and_imports_quickly_without_torch_or_credentials():
    assert len((ROOT / "modal_app.py").read_text().splitlines()) <= 200
    code = (
        "import sys, time; cpu = time.process_time; start = cpu(); import modal; library = cpu() - start;"
        "start = cpu(); import modal_app; print((cpu() - start) / library, 'torch' in sys.modules)"
    )
    env = {**os.environ, "MODAL_CONFIG_PATH": os.devnull, "MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    # As a share of what Modal's own library costs (0.5 s of CPU on an idle core): machines differ, the share does not.
    shares = [float(run.stdout.split()[0]) for run in runs]
    assert min(shares) < 0.7, shares
    assert all(run.stdout.split()[1] == "False" for run in runs)


def test_labels_urls_and_the_bill_are_announced_at_deploy_only():
    code = "import sys; sys.argv = {argv!r}; import modal_app"
    outs = {}
    for argv in (["modal", "deploy"], ["modal", "run"]):
        env = {**os.environ, "MASKLOOP_AUTH": "none"}
        script = code.format(argv=argv)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        outs[argv[1]] = done.stdout
    assert outs["run"] == ""
    assert "--maskloop-generate.modal.run" in outs["deploy"]
    assert "--maskloop-health.modal.run" in outs["deploy"]
    assert "largest possible bill a day: $" in outs["deploy"]
    assert "WARNING: auth is none" in outs["deploy"]


def test_the_image_installs_the_extras_at_the_versions_of_the_constraints():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = extras["optional-dependencies"]
    wanted = [*extras["dependencies"], *optional["local"], *optional["gpu"], *optional["serve"]]
    names = {_name(requirement) for requirement in wanted} - {"maskloop"} | {"matplotlib"}
    assert {_name(package) for package in deployment_module.PACKAGES} == names
    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert names <= pinned
    assert {_name(package) for package in deployment_module.HEALTH_PACKAGES} <= names


def _name(requirement):
    text = requirement
    for mark in "[><=;~! ":
        text = text.split(mark)[0]
    return text.strip().lower().replace("_", "-")


def test_the_container_reads_back_the_settings_it_was_deployed_with():
    chosen = Deployment.from_env({"MASKLOOP_GPU": "H100", "MASKLOOP_MAX_SEQUENCE": "32768", "MASKLOOP_AUTH": "bearer"})
    assert Deployment.from_env(chosen.container_env("/weights", "/cache")) == chosen
    assert Deployment.from_env({}) == Deployment()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MASKLOOP_AUTH", "open"),
        ("MASKLOOP_QUANTIZATION", "q4"),
        ("MASKLOOP_TIMEOUT", "5m"),
        ("MASKLOOP_TIMEOUT", "0"),
        ("MASKLOOP_SNAPSHOT", "yes"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name, value):
    with pytest.raises(RequestError, match=name):
        Deployment.from_env({name: value})


def test_the_checkpoint_on_the_volume_is_loaded_and_quantize_writes_exactly_it(tmp_path):
    deployment = Deployment()
    config = engine_config(deployment, tmp_path)
    assert (config.model, config.revision, config.quantization) == (PRODUCT_MODEL, PRODUCT_REVISION, "nf4")
    command = quantize_command(deployment, "nf4", str(tmp_path))
    folder = Path(command[command.index("--out") + 1])
    folder.mkdir()
    config = engine_config(deployment, tmp_path)
    assert (config.model, config.quantization, config.max_sequence) == (str(folder), None, 8192)
    assert command[:2] == ["quantize", PRODUCT_MODEL]
    from engine.cli import quantize

    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    parsed = parser.parse_args(command[1:])
    assert (parsed.model, parsed.to, str(parsed.out)) == (PRODUCT_MODEL, "nf4", str(folder))


def test_keys_count_only_where_keys_are_the_door(monkeypatch):
    monkeypatch.setenv("MASKLOOP_API_KEYS", "k")
    assert serve_settings(Deployment(auth="bearer")).api_keys == ("k",)
    assert serve_settings(Deployment(auth="proxy")).api_keys == ()
    assert serve_settings(Deployment(timeout=300)).deadline_s < 300


def test_a_containers_life_is_told_to_the_health_function(tmp_path):
    states, engine = {}, FakeEngine()
    seen = []

    def factory(config):
        seen.append(states["engine"]["state"])
        return engine

    service = ModalService(Deployment(), str(tmp_path), states, factory=factory, on_wedged=lambda: None)
    service.load()
    service.load()
    assert seen == ["loading"]
    assert len(engine.warmed) == 6
    assert (states["engine"]["state"], states["engine"]["model"]) == ("ready", "fake")
    answer = asyncio.run(service.functions.generate("x", {"type": "object"}))
    assert answer["ir_json"] == DOCUMENT
    assert service.app().state.service is service.service
    service.stop()
    assert states["engine"]["state"] == "cold"
    assert engine.calls[-1] == "close"


@pytest.mark.parametrize(
    ("containers", "told", "state"),
    [
        (0, {"state": "ready"}, "cold"),
        (1, {"state": "ready"}, "ready"),
        (1, {}, "loading"),
        (2, {"state": "loading"}, "loading"),
    ],
)
def test_the_state_is_what_runs_not_what_was_last_said(containers, told, state):
    report = state_report(containers, told, {"model": "m"})
    assert (report["state"], report["status"], report["model"]) == (state, "healthy", "m")


@pytest.mark.parametrize("path", ["/", "/health"])
def test_the_health_app_answers_200_even_when_the_platform_does_not(path):
    import httpx

    async def broken():
        raise TimeoutError

    async def read():
        return {"status": "healthy", "state": "cold"}

    async def ask(source):
        transport = httpx.ASGITransport(app=create_health_app(source))
        async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
            return await client.get(path)

    good, bad = asyncio.run(ask(read)), asyncio.run(ask(broken))
    assert (good.status_code, good.json()["state"]) == (200, "cold")
    assert (bad.status_code, bad.json()["state"]) == (200, "unknown")


def test_the_entry_points_run_modules_that_exist_with_arguments_they_take(monkeypatch, tmp_path):
    modal_app = importlib.import_module("modal_app")
    asked = []
    remote = type("Remote", (), {"remote": staticmethod(lambda *arguments: asked.append(arguments))})
    monkeypatch.setattr(modal_app, "run_module", remote)
    modal_app.quantize(to="int8")
    modal_app.quantization_study(arguments="--limit 2")
    (cli, quantize), (bench, study) = asked
    assert (cli, quantize[0], quantize[quantize.index("--to") + 1]) == ("engine.cli.main", "quantize", "int8")
    assert callable(importlib.import_module(cli).main)
    assert importlib.util.find_spec(bench) is not None  # importing it would import torch
    assert study[0] == PRODUCT_MODEL
    assert study[-2:] == ["--limit", "2"]


def test_a_module_that_fails_fails_the_function(monkeypatch):
    modal_app = importlib.import_module("modal_app")
    committed = []
    monkeypatch.setattr(modal_app, "weights", type("V", (), {"commit": staticmethod(lambda: committed.append(1))}))
    with pytest.raises(RuntimeError, match="exit code 2"):
        modal_app.run_module.local("engine.cli.main", ["no-such-command"])
    modal_app.run_module.local("bench.cost", ["--quick"])
    assert committed == [1, 1]


def test_the_deployed_health_app_answers_even_where_modal_cannot_be_asked(monkeypatch):
    import httpx

    monkeypatch.setenv("MODAL_TOKEN_ID", "")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "")
    modal_app = importlib.import_module("modal_app")

    async def ask():
        transport = httpx.ASGITransport(app=modal_app.health.local())
        async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["state"]) == (200, "unknown")


def test_test_inference_runs_here_and_prints_a_valid_document(capsys, monkeypatch):
    from engine.client.acceptance_plan import INFERENCE_SCHEMA
    from engine.client.fallback import judge
    from engine.serve import modal_service

    good = {"name": "add", "parameters": [{"name": "a", "type": "int"}], "returns": "int", "body": "return a + b"}

    def script(request):
        from tests.serve.fakes import document

        return document(request, text=json.dumps(good), value=good)

    answered = modal_service.answer_here
    monkeypatch.setattr(modal_service, "answer_here", lambda request: answered(request, lambda _: FakeEngine(script)))
    modal_app = importlib.import_module("modal_app")
    with pytest.raises(SystemExit) as exit_code:
        modal_app.test_inference(local=True)
    printed = capsys.readouterr().out
    answer = json.loads(printed[printed.index("{") :])
    assert exit_code.value.code == 0
    assert judge(INFERENCE_SCHEMA, answer["ir_json"]) is None
