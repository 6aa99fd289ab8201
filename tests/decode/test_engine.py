"""The engine's promises on a scripted model: every status, every constraint kind, neighbours unharmed."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import (
    BudgetTooSmall,
    Constraint,
    NotReady,
    PromptTooLong,
    QueueFull,
    Request,
    RequestError,
    Result,
    SamplingParams,
    SchemaInvalid,
)
from engine.grammar import Matcher
from tests.decode.fakes import EOS, SPECIAL, V, clock_of_steps, fake_engine, random_logits, wants

GREEDY = SamplingParams(temperature=0, max_tokens=200)
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True, params=[False, True], ids=["in step", "ahead"])
def launch_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds whether or not forwards are launched before the host has seen the token."""
    monkeypatch.setattr("tests.decode.fakes.LAUNCH_AHEAD", request.param)


def run(logits: Any, tmp_path: Path, request: Request, **settings: Any) -> Result:
    engine, _ = fake_engine(logits, tmp_path, **settings)
    with engine:
        return engine.generate(request)


def test_a_document_the_model_wants_comes_out_complete(tmp_path: Path) -> None:
    text = '{"name":"Ann é","age":7}'
    result = run(wants(text), tmp_path, Request(prompt="x", constraint=Constraint.json_schema(PERSON), sampling=GREEDY))
    assert (result.status, result.finish_reason, result.valid) == ("complete", "stop", True)
    assert result.text == text
    assert result.value == {"name": "Ann é", "age": 7}
    assert result.token_ids[-1] == EOS
    assert result.usage.completion_tokens == len(result.token_ids)
    plain = result.to_dict()
    assert "error" not in plain
    assert "samples" not in plain
    json.dumps(plain)


def test_a_runaway_string_is_closed_within_the_budget(tmp_path: Path) -> None:
    request = Request(
        prompt="x",
        constraint=Constraint.json_schema(PERSON),
        sampling=SamplingParams(temperature=0, max_tokens=40),
    )
    result = run(wants('{"name":"' + "a" * 500), tmp_path, request)
    assert (result.status, result.finish_reason, result.valid) == ("closed", "length", True)
    assert len(result.token_ids) <= 40
    assert result.value["name"].startswith("aaa")


def test_a_budget_under_the_shortest_document_is_refused_with_both_numbers(tmp_path: Path) -> None:
    request = Request(
        prompt="x", constraint=Constraint.json_schema(PERSON), sampling=SamplingParams(temperature=0, max_tokens=3)
    )
    with pytest.raises(BudgetTooSmall, match=r"allows 3 tokens.*needs \d+"):
        run(wants("x"), tmp_path, request)


@pytest.mark.parametrize("kind", ["regex", "choice", "ebnf", "lark", "json_object", "structural_tag"])
def test_every_kind_constrains_a_model_that_wants_something_else(kind: str, tmp_path: Path) -> None:
    constraints = {
        "regex": Constraint.regex(r"[0-9]{3}-[a-f]{2}"),
        "choice": Constraint.choice(["yes", "no", "né"]),
        "ebnf": Constraint.ebnf('root ::= "a" [bc] "d"'),
        "lark": Constraint.lark('start: "x" /[0-9]/ "y"'),
        "json_object": Constraint.json_object(),
        "structural_tag": Constraint.structural_tag(
            {"type": "structural_tag", "format": {"type": "const_string", "value": "fixed"}}
        ),
    }
    request = Request(prompt="x", constraint=constraints[kind], sampling=SamplingParams(max_tokens=60, seed=3))
    result = run(random_logits(7), tmp_path, request)
    assert result.status in ("complete", "closed"), result
    assert result.valid
    if kind == "choice":
        assert result.text in ("yes", "no", "né")
    if kind == "structural_tag":
        assert result.text == "fixed"


def test_special_tokens_are_never_sampled_with_or_without_a_grammar(tmp_path: Path) -> None:
    def loves_specials(fed: Any) -> np.ndarray:
        row = np.zeros(V, dtype=np.float32)
        row[SPECIAL:] = 50.0
        row[ord("a")] = 5.0
        return row

    engine, _ = fake_engine(loves_specials, tmp_path)
    with engine:
        for constraint in (None, Constraint.json_schema({"type": "string"})):
            result = engine.generate(
                Request(prompt="x", constraint=constraint, sampling=SamplingParams(temperature=0, max_tokens=12))
            )
            assert all(token < SPECIAL for token in result.token_ids)
            assert "a" in result.text


def test_free_text_ends_by_stop_token_budget_or_stop_string(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants("hello STOP world"), tmp_path)
    with engine:
        whole = engine.generate(Request(prompt="x", sampling=GREEDY))
        cut = engine.generate(Request(prompt="x", sampling=SamplingParams(temperature=0, max_tokens=4)))
        stopped = engine.generate(Request(prompt="x", sampling=SamplingParams(temperature=0, stop=("STOP",))))
    assert (whole.status, whole.text) == ("complete", "hello STOP world")
    assert (cut.status, cut.finish_reason, cut.text) == ("length", "length", "hell")
    assert (stopped.status, stopped.text) == ("complete", "hello ")


def test_stop_beside_a_grammar_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="stop"):
        Request(prompt="x", constraint=Constraint.json_object(), sampling=SamplingParams(stop=("a",)))


def test_a_deadline_closes_what_has_begun_and_times_out_what_has_not(tmp_path: Path) -> None:
    engine, network = fake_engine(wants('{"name":"' + "a" * 500), tmp_path)
    with engine:
        constraint = Constraint.json_schema(PERSON)
        engine.warmup([constraint])
        with clock_of_steps(network):
            begun = engine.generate(Request(prompt="x", constraint=constraint, sampling=GREEDY, deadline_s=0.5))
            free = engine.generate(Request(prompt="x", sampling=GREEDY, deadline_s=0.2))
        never = engine.generate(Request(prompt="x", constraint=constraint, sampling=GREEDY, deadline_s=1e-9))
    assert begun.status == "closed"
    assert begun.valid
    assert free.status == "timeout"
    assert free.error
    assert never.status == "timeout"
    assert not never.token_ids


def test_what_is_finished_now_is_judged_before_it_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, begun, finished = wants('{"name":"' + "a" * 500), threading.Event(), threading.Event()

    def logits(fed: Any) -> np.ndarray:
        if len(fed) > 30:
            begun.set()
            assert finished.wait(60)
        return script(fed)

    def late(*args: Any, **kwargs: Any) -> Future[Any]:
        """The judge answers when the engine has looked for its answer more than once."""
        answer: Future[Any] = Future()
        threading.Timer(0.3, answer.set_result, (judge(*args, **kwargs).result(120),)).start()
        return answer

    engine, network = fake_engine(logits, tmp_path)
    constraint = Constraint.json_schema(PERSON)
    with engine, clock_of_steps(network):
        engine.warmup([constraint])
        judge = engine.judge.submit
        monkeypatch.setattr(engine.judge, "submit", late)
        future = engine.submit(Request(prompt="x", constraint=constraint, sampling=GREEDY))
        assert begun.wait(60)
        engine.finish_now()
        finished.set()
        result = future.result(120)
    assert (result.status, result.valid) == ("closed", True)
    assert result.usage.completion_tokens < 40, "it was ended then"


def test_cancelling_by_id_gives_a_result_and_cancelling_the_future_frees_the_slot(tmp_path: Path) -> None:
    def slow(fed: Any) -> np.ndarray:
        time.sleep(0.01)
        return wants("a" * 5000)(fed)

    engine, _ = fake_engine(slow, tmp_path, max_batch=1)
    with engine:
        first = engine.submit(Request(prompt="x", id="one", sampling=SamplingParams(temperature=0, max_tokens=1500)))
        time.sleep(0.1)
        assert engine.cancel("one")
        assert not engine.cancel("nobody")
        assert first.result(120).status == "cancelled"
        second = engine.submit(Request(prompt="x", sampling=SamplingParams(temperature=0, max_tokens=1500)))
        time.sleep(0.1)
        assert second.cancel()
        third = engine.submit(Request(prompt="x", sampling=SamplingParams(temperature=0, max_tokens=5)))
        assert third.result(120).status == "length"


def test_a_schema_that_cannot_be_used_raises_and_its_neighbours_go_on(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants('{"name":"A","age":1}'), tmp_path)
    with engine:
        good = Request(prompt="x", constraint=Constraint.json_schema(PERSON), sampling=GREEDY)
        bad = Request(prompt="x", constraint=Constraint.ebnf("root ::= nowhere"), sampling=GREEDY)
        with pytest.raises(SchemaInvalid):
            engine.generate(bad)
        results = engine.generate_batch([good, bad, good])
    assert [r.status for r in results] == ["complete", "error", "complete"]
    assert results[1].error
    assert results[1].error["type"] == "SchemaInvalid"


def test_a_listener_that_raises_fails_its_own_row_only(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants("hello"), tmp_path)

    def broken(sample: int, text: str) -> None:
        raise OSError("gone")

    with engine:
        bad = engine.submit(Request(prompt="x", sampling=GREEDY), on_text=broken)
        good = engine.submit(Request(prompt="x", sampling=GREEDY))
        assert bad.result(120).status == "error"
        assert good.result(120).text == "hello"


def test_a_device_failure_is_an_error_status_and_the_engine_lives(tmp_path: Path) -> None:
    broken = threading.Event()

    def logits(fed: Any) -> np.ndarray:
        if broken.is_set():
            raise RuntimeError("device lost")
        return wants("hello")(fed)

    engine, _ = fake_engine(logits, tmp_path)
    with engine:
        broken.set()
        failed = engine.generate(Request(prompt="x", sampling=GREEDY))
        broken.clear()
        assert failed.status == "error"
        assert "device lost" in (failed.error or {})["message"]
        assert engine.generate(Request(prompt="x", sampling=GREEDY)).status == "complete"


def test_wrong_prompts_and_a_full_queue_are_refused_at_once(tmp_path: Path) -> None:
    from engine import EngineConfig, Limits

    assert EngineConfig(limits=Limits(queue=1)).limits.queue == 1

    def slow(fed: Any) -> np.ndarray:
        time.sleep(0.01)
        return wants("a" * 5000)(fed)

    engine, _ = fake_engine(slow, tmp_path, max_batch=1, limits=Limits(queue=1), max_sequence=256)
    with engine:
        with pytest.raises(PromptTooLong, match="256"):
            engine.submit(Request(prompt="x" * 300))
        waiting = [engine.submit(Request(prompt="x", sampling=GREEDY)) for _ in range(2)]
        with pytest.raises(QueueFull):
            engine.submit(Request(prompt="x", sampling=GREEDY))
        for future in waiting:
            future.cancel()
    with pytest.raises(NotReady):
        engine.submit(Request(prompt="x"))


def test_seeds_repeat_and_samples_use_seed_plus_index(tmp_path: Path) -> None:
    engine, network = fake_engine(random_logits(1, scale=1.0), tmp_path)
    params = SamplingParams(max_tokens=12, seed=5, n=3)
    with engine:
        together = engine.generate(Request(prompt="tell me a long story, please", sampling=params))
        alone = [
            engine.generate(
                Request(prompt="tell me a long story, please", sampling=SamplingParams(max_tokens=12, seed=s))
            )
            for s in (5, 6, 7)
        ]
        drawn = engine.generate(Request(prompt="x", sampling=SamplingParams(max_tokens=5)))
        again = engine.generate(Request(prompt="x", sampling=SamplingParams(max_tokens=5, seed=drawn.seed)))
    assert [s.token_ids for s in together.samples] == [r.token_ids for r in alone]
    assert len({s.token_ids for s in together.samples}) == 3
    assert together.usage.completion_tokens == sum(len(s.token_ids) for s in together.samples)
    assert network.copied > 0, "siblings should reuse the prompt's cache"
    assert again.token_ids == drawn.token_ids


@pytest.mark.parametrize("extreme", [
    {"temperature": 5e-324, "top_p": 0.9}, {"repetition_penalty": 5e-324, "min_p": 0.1}, {"top_p": 5e-324},
    {"temperature": 5e-324, "repetition_penalty": 5e-324, "top_k": 5, "logprobs": 2}, {"temperature": 100, "min_p": 1},
    {"temperature": 5e-324, "method": "smc", "particles": 4},
])  # fmt: skip
def test_no_setting_of_the_sampler_is_too_small_or_too_large(extreme: dict[str, Any], tmp_path: Path) -> None:
    sampling = SamplingParams(max_tokens=30, seed=1, **extreme)
    request = Request(prompt="xyz", constraint=Constraint.regex("[a-z]{3}[0-9]?"), sampling=sampling)
    assert run(random_logits(3), tmp_path, request).valid


def test_streamed_pieces_join_to_the_text(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants('{"name":"é日本","age":12}'), tmp_path)
    with engine:
        request = Request(prompt="x", constraint=Constraint.json_schema(PERSON), sampling=GREEDY)
        *pieces, result = engine.stream(request)
    assert isinstance(result, Result)
    assert "".join(str(piece) for piece in pieces) == result.text == '{"name":"é日本","age":12}'


def test_logprobs_are_reported_raw_and_constrained(tmp_path: Path) -> None:
    request = Request(
        prompt="x",
        constraint=Constraint.choice(["yes", "no"]),
        sampling=SamplingParams(temperature=0, max_tokens=10, logprobs=2),
    )
    result = run(random_logits(3), tmp_path, request)
    assert result.logprobs
    assert len(result.logprobs) == len(result.token_ids)
    first = result.logprobs[0]
    assert first["raw"] < first["constrained"] <= 0.0
    assert abs(sum(np.exp(t["constrained"]) for t in first["top"]) - 1.0) < 1e-6
    assert result.mean_logprob is not None


def test_forced_runs_save_forwards_and_change_nothing(tmp_path: Path) -> None:
    request = Request(prompt="x", constraint=Constraint.json_schema(PERSON), sampling=GREEDY)
    texts, forwards = [], []
    for mode in ("off", "verify"):
        engine, network = fake_engine(wants('{"name":"Ann","age":7}'), tmp_path, forced_runs=mode)
        with engine:
            result = engine.generate(request)
        texts.append(result.token_ids)
        forwards.append(network.forwards)
        assert (result.usage.forced_tokens > 0) == (mode == "verify")
    assert texts[0] == texts[1]
    assert forwards[1] < forwards[0]


def test_a_dead_end_is_a_status_not_a_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = fake_engine(wants("x"), tmp_path)
    constraint = Constraint.choice(["yes"])
    with engine:
        engine.warmup([constraint])
        fill = Matcher.fill

        def emptied(self: Matcher, mask: np.ndarray, row: int, **named: Any) -> int:
            fill(self, mask, row, **named)
            mask[row] = 0
            return 0

        monkeypatch.setattr(Matcher, "fill", emptied)
        dead = engine.submit(Request(prompt="x", constraint=constraint, sampling=GREEDY)).result(120)
        free = engine.generate(Request(prompt="x", sampling=GREEDY))
    assert dead.status == "dead_end"
    assert not dead.valid
    assert dead.error
    assert free.status == "complete"


def test_the_repetition_penalty_sees_prompt_and_output(tmp_path: Path) -> None:
    def favourite(fed: Any) -> np.ndarray:
        row = np.full(V, -10.0, dtype=np.float32)
        for rank, byte in enumerate(b"abcdef"):
            row[byte] = 6.0 - rank * 0.5
        return row

    params = SamplingParams(temperature=0, max_tokens=4, repetition_penalty=3.0)
    result = run(favourite, tmp_path, Request(prompt="a", sampling=params))
    assert result.text[0] == "b", "the prompt's letter is penalised (and [assistant] holds 'a')"
    assert len(set(result.text)) == 4


UNIQUE = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 2, "maxItems": 4,
          "contains": {"minimum": 0}}  # fmt: skip


def test_a_checked_keyword_takes_its_value_back_while_decoding(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants("[1,1,2]"), tmp_path)
    with engine:
        assert engine.check(UNIQUE)["verdicts"], "the keyword must be one the grammar cannot hold"
        request = Request(prompt="x", constraint=Constraint.json_schema(UNIQUE), sampling=GREEDY)
        *pieces, result = engine.stream(request)
    assert isinstance(result, Result)
    assert result.status in ("complete", "closed")
    assert len(set(result.value)) == len(result.value)
    assert "".join(str(piece) for piece in pieces) == result.text, "nothing that was taken back may have been streamed"


def test_without_retries_left_a_failed_checked_keyword_is_invalid_and_says_where(tmp_path: Path) -> None:
    from engine import Limits

    request = Request(prompt="x", constraint=Constraint.json_schema(UNIQUE), sampling=GREEDY)
    result = run(wants("[1,1,2]"), tmp_path, request, limits=Limits(retries=0))
    assert (result.status, result.valid, result.text) == ("invalid", False, "[1,1,2]")
    assert (result.error or {})["param"] == "uniqueItems"
