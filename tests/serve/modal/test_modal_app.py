"""The Modal deployment's settings and its container's life with fakes; deployed and run for real in tests/modal."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine.config import NEXT_MODEL, PINNED, PRODUCT_MODEL, PRODUCT_REVISION
from engine.errors import ModelError, RequestError
from engine.model.files import source
from engine.serve.modal import deployment as deployment_module
from engine.serve.modal.checkpoint_job import CheckpointJob
from engine.serve.modal.container import ModalService, engine_config
from engine.serve.modal.deployment import Deployment
from engine.serve.modal.remote_state import create_health_app, state_report
from engine.serve.prices import LISTED
from tests.serve.fakes import DOCUMENT, FakeEngine

ROOT = Path(__file__).resolve().parents[3]


def test_a_bad_setting_ends_the_deployment_with_one_line():
    env = {**os.environ, "MASKLOOP_SNAPSHOT": "gpu"}
    done = subprocess.run([sys.executable, "-c", "import modal_app"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "maskloop: MASKLOOP_SNAPSHOT=gpu is refused until a run on Modal has shown it to work; use off or cpu\n"
    )


def test_a_snapshot_holds_the_heavy_imports_and_has_asked_for_no_gpu():
    code = (
        "import sys, torch; asked = []; torch.cuda.is_available = lambda: asked.append(1) or False\n"
        "from engine.decode.imports import import_all\nimport_all()\n"
        "print({'torch', 'transformers', 'xgrammar'} <= set(sys.modules), asked)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_it_is_thin_and_imports_quickly_without_torch_or_credentials():
    assert len((ROOT / "modal_app.py").read_text().splitlines()) <= 280
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


def test_the_revision_is_the_one_named_or_the_pinned_one_of_a_pinned_model_or_none(monkeypatch):
    monkeypatch.setattr(source, "_ask_hub", lambda *_: None)
    assert Deployment.from_env({}).revision == PRODUCT_REVISION
    assert Deployment.from_env({"MASKLOOP_REVISION": ""}).revision == ""
    other = Deployment.from_env({"MASKLOOP_MODEL": "org/other"})
    assert (other.revision, other.checkpoint) == ("", "org--other-nf4")
    assert Deployment.from_env({"MASKLOOP_MODEL": "org/other", "MASKLOOP_REVISION": "abc"}).revision == "abc"
    for deployment in (other, Deployment(revision="")):
        assert Deployment.from_env(deployment.container_env("/w", "/c")) == deployment
        assert source.resolve(deployment.model, engine_config(deployment, Path("/nowhere")).revision).revision is None


def test_a_model_has_defaults_of_its_own_and_what_is_set_wins():
    chosen = Deployment.from_env({"MASKLOOP_MODEL": NEXT_MODEL})
    assert (chosen.gpu, chosen.quantization, chosen.max_sequence) == ("A100-80GB", "nf4", 32_768)
    assert chosen.checkpoint == f"Qwen--Qwen3-Coder-Next-{PINNED[NEXT_MODEL][:12]}-nf4"
    assert Deployment.from_env(chosen.container_env("/weights", "/cache")) == chosen
    assert engine_config(chosen, Path("/nowhere")).max_sequence == 32_768
    told = Deployment.from_env({"MASKLOOP_MODEL": NEXT_MODEL, "MASKLOOP_MAX_SEQUENCE": "4096", "MASKLOOP_GPU": "H200"})
    assert (told.gpu, told.max_sequence) == ("H200", 4096)


def test_an_empty_variable_is_unset_but_for_a_prefix_and_a_revision():
    empty = dict.fromkeys(Deployment().to_env(), "")
    assert Deployment.from_env(empty) == Deployment(label_prefix="", revision="")


def test_every_documented_variable_of_a_service_or_a_deployment_reaches_the_container():
    documents = [ROOT / ".env.example", ROOT / "SECURITY.md", ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    documented = {name for path in documents for name in re.findall(r"MASKLOOP_[A-Z_]*[A-Z]", path.read_text())}
    callers = {"MASKLOOP_API_KEY", "MASKLOOP_PROXY_KEY", "MASKLOOP_PROXY_SECRET"}
    secret, benches = {"MASKLOOP_API_KEYS"}, {"MASKLOOP_DATA"}
    assert documented - callers - secret - benches <= Deployment().container_env("/weights", "/cache").keys()


def test_checks_reach_the_container_with_their_modules():
    text = "one=json:loads, two=engine.checks.lift:distances, three=json.tool:main"
    deployment = Deployment.from_env({"MASKLOOP_CHECKS": text})
    deployment.check_files()
    assert deployment.check_packages == ("json",), "our own is in every image"
    assert deployment.container_env("/weights", "/cache")["MASKLOOP_CHECKS"] == text
    for wrong in ("one", "one=json"):
        with pytest.raises(RequestError, match="MASKLOOP_CHECKS"):
            Deployment.from_env({"MASKLOOP_CHECKS": wrong})
    with pytest.raises(RequestError, match="there is no module 'nowhere' here"):
        Deployment.from_env({"MASKLOOP_CHECKS": "one=nowhere.at:all"}).check_files()


def test_files_of_the_settings_are_uploaded_and_their_variables_name_the_place(tmp_path):
    schema, prices = tmp_path / "ir.json", tmp_path / "prices.json"
    schema.write_text('{"type": "object"}')
    prices.write_text(json.dumps({**asdict(LISTED), "as_of": "2027-01-01", "gpu": {"A100-80GB": 0.5}}))
    named = {"MASKLOOP_IR_SCHEMA": str(schema), "MASKLOOP_PRICES": str(prices), "MASKLOOP_MAX_CONCURRENT_PER_KEY": "3"}
    deployment = Deployment.from_env(named)
    deployment.check_files()
    container = deployment.container_env("/weights", "/cache")
    places = deployment.uploads()
    assert {path for path, _ in places.values()} == {str(schema), str(prices)}
    assert (container["MASKLOOP_IR_SCHEMA"], container["MASKLOOP_PRICES"]) == (
        places["ir_schema"][1], places["prices"][1],
    )  # fmt: skip
    assert Deployment.from_env(container).uploads() == {name: (place, place) for name, (_, place) in places.items()}
    assert deployment.serve_settings().max_concurrent_per_key is None  # this process is not the container
    assert container["MASKLOOP_MAX_CONCURRENT_PER_KEY"] == "3"
    assert "list prices of 2027-01-01" in deployment.announcement()
    prices.write_text("{}")
    with pytest.raises(RequestError, match="price file"):
        deployment.check_files()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MASKLOOP_AUTH", "open"),
        ("MASKLOOP_QUANTIZATION", "q4"),
        ("MASKLOOP_TIMEOUT", "5m"),
        ("MASKLOOP_TIMEOUT", "0"),
        ("MASKLOOP_SNAPSHOT", "yes"),
        ("MASKLOOP_SNAPSHOT", "gpu"),
        ("MASKLOOP_MAX_CONCURRENT_PER_KEY", "many"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name, value):
    with pytest.raises(RequestError, match=name):
        Deployment.from_env({name: value})


def test_the_checkpoint_on_the_volume_is_loaded_and_quantize_writes_exactly_it(tmp_path):
    deployment = Deployment()
    config = engine_config(deployment, tmp_path)
    assert (config.model, config.revision, config.quantization) == (PRODUCT_MODEL, PRODUCT_REVISION, "nf4")
    job = CheckpointJob(deployment, "nf4", str(tmp_path))
    command = job.command
    assert (job.from_hub, job.done) == (True, False)
    folder = Path(command[command.index("--out") + 1])
    folder.mkdir()
    config = engine_config(deployment, tmp_path)
    assert (config.model, config.quantization, config.max_sequence) == (str(folder), None, 8192)
    assert command[:2] == ["quantize", PRODUCT_MODEL]
    from engine.cli.commands import quantize

    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    parsed = parser.parse_args(command[1:])
    assert (parsed.model, parsed.to, str(parsed.out)) == (PRODUCT_MODEL, "nf4", str(folder))
    for local in ("smollm2-135m", "random:/weights/tiny/config.json", "/weights/folder"):
        assert not CheckpointJob(Deployment(model=local), "nf4", str(tmp_path)).from_hub


def test_only_what_repeating_may_mend_is_repeated(tmp_path):
    job = CheckpointJob(Deployment(), "nf4", str(tmp_path))
    assert [job.outcome(code) for code in (0, 2)] == [0, 2]  # done, and a mistake of the user's
    with pytest.raises(RuntimeError, match="exit code 1"):
        job.outcome(1)


def test_keys_count_only_where_keys_are_the_door(monkeypatch):
    monkeypatch.setenv("MASKLOOP_API_KEYS", "k")
    assert Deployment(auth="bearer").serve_settings().api_keys == ("k",)
    assert Deployment(auth="proxy").serve_settings().api_keys == ()
    assert Deployment(timeout=300).serve_settings().deadline_s < 300


class FailingDict(dict):
    """A mapping of a platform that is out of order."""

    def __setitem__(self, name, value):
        raise ConnectionError("no route to the platform")

    pop = items = __setitem__


@pytest.mark.parametrize("entries", [{}, FailingDict()], ids=["written", "failing"])
def test_a_containers_life_is_told_to_the_health_function_and_does_not_depend_on_it(tmp_path, capsys, entries):
    engine, told = FakeEngine(), {}
    engine.info = lambda: {"model": "/weights/x", "device": "cpu", "load_s": {"weights": 1.0}, "in_flight": 7}

    def state():
        return state_report(entries.values(), {"model": "m", "gpu": "A100"})

    def factory(config):
        wait_for(lambda: isinstance(entries, FailingDict) or state()["state"] == "loading")
        return engine

    service = ModalService(Deployment(), str(tmp_path), entries, factory=factory, on_wedged=lambda: None)
    service.load()
    assert len(engine.warmed) == 6
    if not isinstance(entries, FailingDict):
        wait_for(lambda: state()["state"] == "ready")
        told = state()
        assert (told["model"], told["gpu"], told["in_flight"], told["containers"]) == ("m", "cpu", 0, {"ready": 1})
    answer = asyncio.run(service.functions.generate("x", {"type": "object"}))
    assert answer["ir_json"] == DOCUMENT
    with TestClient(service.app()) as client:  # the ASGI life cycle begins and ends, as Modal runs it
        assert client.get("/health").json()["gpu"] == "cpu"
    service.stop()
    assert engine.calls[-1] == "close"
    assert entries == {}
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert events.count("loaded") == 1


def test_a_start_that_fails_leaves_no_entry_and_says_why(tmp_path):
    entries = {}

    def factory(config):
        raise ModelError("no such model")

    service = ModalService(Deployment(), str(tmp_path), entries, factory=factory, on_wedged=lambda: None)
    with pytest.raises(ModelError, match="no such model"):
        service.load()
    assert entries == {}


def entry(state, age_s=0.0, **facts):
    return {"state": state, "at": time.time() - age_s, "in_flight": 2, **facts}


@pytest.mark.parametrize(
    ("entries", "state", "containers"),
    [
        ([], "cold", {}),
        ([("ready", 31)], "cold", {}),
        ([("ready", 31), ("loading", 0)], "loading", {"loading": 1}),
        ([("loading", 0), ("ready", 25), ("ready", 0)], "ready", {"loading": 1, "ready": 2}),
        ([("ready", 0), ("draining", 0)], "ready", {"ready": 1, "cold": 1}),
        ([("failed", 0)], "cold", {"cold": 1}),
    ],
)
def test_the_state_is_the_sum_of_the_containers_that_still_tell_theirs(entries, state, containers):
    rubbish = [{"state": "ready", "since": 1.0}, "rubbish", None]
    report = state_report([*(entry(*told) for told in entries), *rubbish], {"model": "m", "gpu": "A100-80GB"})
    assert (report["state"], report["containers"]) == (state, containers)
    assert report["in_flight"] == 2 * sum(containers.values())
    lift = {name: report[name] for name in ("status", "model", "gpu", "backend")}
    assert lift == {"status": "healthy", "model": "m", "gpu": "A100-80GB", "backend": "maskloop"}


def test_entries_of_containers_that_died_long_ago_are_removed_by_the_next(tmp_path):
    entries = {"dead": entry("ready", age_s=4000), "engine": {"state": "ready"}, "other": entry("ready")}
    service = ModalService(Deployment(), str(tmp_path), entries, factory=lambda _: FakeEngine(), on_wedged=print)
    service.load()
    wait_for(lambda: len(entries) == 2)
    service.stop()
    assert list(entries) == ["other"]


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


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


def test_the_study_runs_a_module_that_exists_with_arguments_it_takes(monkeypatch):
    modal_app = importlib.import_module("modal_app")
    asked = []
    remote = type("Remote", (), {"remote": staticmethod(lambda *arguments: asked.append(arguments) or 0)})
    monkeypatch.setattr(modal_app, "run_module", remote)
    with pytest.raises(SystemExit) as ended:
        modal_app.quantization_study(arguments="--limit 2")
    ((bench, study),) = asked
    assert ended.value.code == 0
    assert importlib.util.find_spec(bench) is not None  # importing it would import torch
    assert study[0] == PRODUCT_MODEL
    assert study[-2:] == ["--limit", "2"]


def test_what_a_module_wrote_is_kept_and_its_exit_code_returned(monkeypatch):
    modal_app = importlib.import_module("modal_app")
    volume = type("V", (), {"reload": lambda _: called.append("reload"), "commit": lambda _: called.append("commit")})
    called = []
    monkeypatch.setattr(modal_app, "weights", volume())
    assert modal_app.run_module.local("engine.cli", ["no-such-command"]) == 2
    assert modal_app.run_module.local("bench.cost", ["--quick"]) == 0
    assert called == ["reload", "commit"] * 2


def test_test_inference_runs_here_and_prints_a_valid_document(capsys, monkeypatch):
    from engine.client.acceptance.plan import INFERENCE_SCHEMA
    from engine.client.providers.fallback import judge
    from engine.serve.modal import container as modal_service

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
