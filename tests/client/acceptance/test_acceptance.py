"""The acceptance run: green on a good engine, and each criterion can fail."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from engine.client.acceptance import judge as acceptance
from engine.client.acceptance.__main__ import main
from engine.client.acceptance.judge import accept, over_http, report
from engine.client.acceptance.plan import INFERENCE_SCHEMA, TASKS, Plan, inference_request
from engine.client.providers.fallback import judge
from tests.client.providers.test_fallback import MODEL, StandIn
from tests.serve.fakes import FakeEngine, Server, document

GOOD = {"name": "add", "parameters": [], "returns": "int", "body": "return a + b"}
FEW = {"tasks": TASKS[:4], "at_once": 3}
NUMBERS = itertools.count()


def answer(**changes):
    base = {
        "request_id": f"req-{next(NUMBERS)}",
        "created": time.time(),
        "raw_text": json.dumps(GOOD),
        "gpu_seconds": 1.0,
        "device": "NVIDIA A100-SXM4-80GB",
    }
    return {**base, **changes}


def judged(ask, **plan):
    criteria = asyncio.run(accept(ask, Plan(**{**FEW, **plan})))
    return {line.name: line for line in criteria}


async def good(_):
    return answer()


@pytest.fixture
def stand_in():
    running = StandIn()
    running.document = GOOD
    yield running
    running.server.shutdown()


def test_all_six_pass_on_a_good_engine(stand_in, tmp_path, capsys):
    fallback = (MODEL, {"api_key": "k", "base_url": stand_in.url})
    criteria = judged(good, fallback=fallback)
    required = ("responds", "constrains", "valid", "warm latency", "cost warm", "fallback")
    told = {name: line.passed for name, line in criteria.items()}
    assert told == {**dict.fromkeys(required, True), "cost with idle and start-up": None}
    out = tmp_path / "report.json"
    assert report(list(criteria.values()), out) == 0
    assert len(json.loads(out.read_text())["criteria"]) == 7
    assert "pass" in capsys.readouterr().out


def test_the_full_run_sends_one_then_twenty_then_ten_and_never_the_same_twice():
    prompts, running, most = [], 0, 0

    async def ask(request):
        nonlocal running, most
        prompts.append(request["prompt"])
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return answer()

    asyncio.run(accept(ask, Plan()))
    assert len(prompts) == 31
    assert len(set(prompts)) == 31
    assert most == 10


def failing(name, ask, **plan):
    criteria = judged(ask, **plan)
    assert criteria[name].passed is False, criteria[name]
    assert report(list(criteria.values()), None) == 1


def test_an_error_fails_responds():
    async def ask(_):
        return {"error": "down"}

    failing("responds", ask)


def test_an_exception_fails_responds():
    async def ask(_):
        raise TimeoutError("silent")

    failing("responds", ask)


def test_repeated_answers_fail_responds():
    async def ask(_):
        return answer(request_id="req-same")

    failing("responds", ask)


def test_answers_made_before_the_run_fail_responds():
    async def ask(_):
        return answer(created=time.time() - 3600)

    failing("responds", ask)


@pytest.mark.parametrize("text", ['{"name": "Not Snake"}', '{"name": ', "", json.dumps(GOOD)[:-1] + ', "body": ""}'])
def test_an_invalid_document_fails_constrains_and_valid_whatever_the_engine_claims(text):
    async def ask(_):
        return answer(raw_text=text, valid=True)

    failing("constrains", ask)
    failing("valid", ask)


def test_a_value_that_is_not_what_the_text_says_fails_valid():
    async def ask(_):
        return answer(ir_json={**GOOD, "name": "other"})

    failing("valid", ask)


@pytest.mark.parametrize(
    "rubbish", [[], "document", None, answer(created="today"), {"created": [], "gpu_seconds": "1"}]
)
def test_an_answer_of_another_form_is_a_criterion_not_met_and_no_exception(rubbish):
    async def ask(_):
        return rubbish

    failing("responds", ask)


def test_where_nobody_answers_the_test_request_no_further_one_is_sent():
    asked = []

    async def ask(request):
        asked.append(request)
        raise ConnectionError("no container starts")

    criteria = judged(ask)
    assert criteria["responds"].measured == "0 of 1; first error: ConnectionError: no container starts"
    assert [name for name, line in criteria.items() if line.passed is False] == ["responds", "constrains", "valid"]
    assert len(asked) == 1


def test_slowness_fails_latency_unless_it_is_not_judged(monkeypatch):
    monkeypatch.setattr(acceptance, "WARM_LATENCY_S", 0.01)

    async def slow(_, **changes):
        await asyncio.sleep(0.02)
        return answer(**changes)

    failing("warm latency", slow)
    assert judged(lambda _: slow(_, device="cpu"))["warm latency"].passed is None


def test_the_warm_cost_is_required_and_what_idle_and_start_add_is_told():
    async def dear(_):
        return answer(gpu_seconds=10.0)

    async def unmeasured(_):
        return answer(gpu_seconds=0.0)

    failing("cost warm", dear)
    failing("cost warm", unmeasured)
    failing("cost warm", good, beside_gpu_usd_per_s=0.002)
    failing("cost warm", some(good, unmeasured))
    criteria = judged(good, scaledown_s=3000.0)
    assert criteria["cost warm"].passed is True
    assert criteria["cost with idle and start-up"].measured.startswith("$0.26")
    assert report(list(criteria.values()), None) == 0


def some(*asks):
    """Each answers in turn."""
    turn = itertools.cycle(asks)
    return lambda request: next(turn)(request)


def test_what_failed_makes_the_others_neither_cheaper_nor_quicker(monkeypatch):
    monkeypatch.setattr(acceptance, "WARM_LATENCY_S", 0.02)

    async def dear_and_slow(_):
        await asyncio.sleep(0.03)
        return answer(gpu_seconds=3.5)

    async def refused(_):
        return {"error": "at once"}

    for name in ("cost warm", "warm latency"):
        failing(name, some(dear_and_slow, refused))


@pytest.mark.parametrize("devices", [["cpu"], ["NVIDIA GeForce RTX 9090"], ["NVIDIA L4", "cpu"], [None]])
def test_speed_and_cost_are_not_judged_where_an_answer_came_from_a_device_without_a_price(devices):
    turn = itertools.cycle(devices)

    async def ask(_):
        return answer(device=next(turn), gpu_seconds=100.0)

    criteria = judged(ask)
    unjudged = ("warm latency", "cost warm", "cost with idle and start-up", "fallback")
    assert [criteria[name].passed for name in unjudged] == [None] * 4
    assert report(list(criteria.values()), None) == 0


def test_a_fallback_that_does_not_answer_fails(stand_in):
    stand_in.code = 400
    failing("fallback", good, fallback=(MODEL, {"api_key": "k", "base_url": stand_in.url}))


def test_over_http_against_the_real_app():
    engine = FakeEngine(lambda request: document(request, text=json.dumps(GOOD), value=GOOD))
    with Server(engine) as server:
        criteria = judged(over_http(server.url + "/generate"))
    assert [criteria[name].passed for name in ("responds", "constrains", "valid")] == [True] * 3
    refusing = FakeEngine(lambda request: document(request, status="dead_end", valid=False))
    with Server(refusing) as server:
        assert judged(over_http(server.url + "/generate"))["responds"].measured.startswith(
            "0 of 8; first error: no token"
        )


class Remote:
    """A deployed class: `info.remote()` and `generate.remote.aio(...)`."""

    def __init__(self):
        self.info = self.generate = self.remote = self

    def __call__(self):
        return {"load_s": {"weights": 20.0, "graphs": 10.0}}

    async def aio(self, **_):
        return answer()


def verdicts(out):
    return {line["name"]: line["passed"] for line in json.loads(out.read_text())["criteria"]}


def test_a_deployment_is_judged_by_function_calls_and_told_its_start_up(capsys, tmp_path):
    out = tmp_path / "report.json"
    code = acceptance.judge_deployment(Remote(), Plan(scaledown_s=100.0), out)
    told = {line["name"]: line for line in json.loads(out.read_text())["criteria"]}
    assert told["responds"]["passed"] is True
    up_s = int(told["cost with idle and start-up"]["measured"].split("up ")[1].split()[0])
    assert 130 <= up_s < 180
    assert code == 0
    capsys.readouterr()


def test_a_deployment_whose_container_does_not_start_is_judged_all_the_same(capsys, tmp_path):
    class Broken(Remote):
        def __call__(self):
            raise RuntimeError("the weights are not there")

        async def aio(self, **_):
            self()

    assert acceptance.judge_deployment(Broken(), Plan(), tmp_path / "report.json") == 1
    assert "the weights are not there" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_one_line_after_the_table(capsys, tmp_path):
    with pytest.raises(SystemExit, match="cannot be written: No such file"):
        acceptance.judge_deployment(Remote(), Plan(), tmp_path / "nowhere" / "report.json")
    assert "warm latency" in capsys.readouterr().out


def on_a_gpu(**changes):
    """An engine that says it is an A100 and how long it was busy."""
    facts = {"text": json.dumps(GOOD), "value": GOOD, "device": "NVIDIA A100-SXM4-80GB", **changes}
    return FakeEngine(lambda request: document(request, **facts))


@pytest.mark.parametrize(
    ("engine", "limit_s", "missed"),
    [
        (on_a_gpu(gpu_seconds=1.5), 3.0, []),
        (on_a_gpu(gpu_seconds=3.5), 3.0, ["cost warm"]),
        (on_a_gpu(gpu_seconds=1.5), 0.0, ["warm latency"]),
    ],
    ids=["passed", "too dear", "too slow"],
)
def test_an_engine_that_reports_gpu_seconds_is_judged_by_speed_and_cost(
    capsys, tmp_path, monkeypatch, engine, limit_s, missed
):
    monkeypatch.setattr(acceptance, "WARM_LATENCY_S", limit_s)
    out = tmp_path / "report.json"
    with Server(engine) as server:
        code = main([server.url + "/generate", "--out", str(out)])
    told = verdicts(out)
    assert [name for name in ("warm latency", "cost warm") if told[name] is True] == [
        name for name in ("warm latency", "cost warm") if name not in missed
    ]
    assert [name for name, passed in told.items() if passed is False] == missed
    assert code == (1 if missed else 0)
    assert len(engine.requests) == 31
    capsys.readouterr()


def test_the_command_runs_against_a_service_and_says_what_this_machine_cannot_judge(capsys, tmp_path):
    engine = FakeEngine(lambda request: document(request, text=json.dumps(GOOD), value=GOOD))
    out = tmp_path / "report.json"
    with Server(engine) as server:
        assert main([server.url + "/generate", "--out", str(out)]) == 0
    assert verdicts(out) == {
        "responds": True,
        "constrains": True,
        "valid": True,
        "warm latency": None,
        "cost warm": None,
        "cost with idle and start-up": None,
        "fallback": None,
    }
    assert capsys.readouterr().out.count("not judged") == 4
    assert len(engine.requests) == 31


def test_the_test_request_is_its_own_schema():
    assert inference_request()["schema"] is INFERENCE_SCHEMA
    assert judge(INFERENCE_SCHEMA, GOOD) is None
    assert judge(INFERENCE_SCHEMA, {**GOOD, "extra": 1})
    assert judge(INFERENCE_SCHEMA, {**GOOD, "body": "x" * 200}) is None
    assert judge(INFERENCE_SCHEMA, {**GOOD, "body": "x" * 201})
