"""Texts from the model's own distribution, through the engine's loop: laws, endings, refusals, determinism."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bench.sampling.languages import HIDDEN, LETTERS, Language, Walks, distance, exact_distances, law_of, twelve
from bench.sampling.small_model import SmallEngine
from engine.config import Limits
from engine.constraint import Check
from engine.decode.core.engine_core import EngineCore
from engine.errors import RequestError
from engine.judge import Judgement
from engine.judge.service import Verdict
from engine.request import Constraint, Request, Result, SamplingParams
from tests.checks import functions
from tests.decode.fakes import fake_engine, random_logits, wants
from tests.decode.requests.test_checks import eventually, gone, running_check

FIRST = twelve()[0]
WALKS = Walks()
LANGUAGES = (FIRST, WALKS.language, HIDDEN)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallEngine]:
    with SmallEngine(LANGUAGES, tmp_path_factory.mktemp("grammars"), rows=32) as engine:
        yield engine


def choice(language: Language) -> Constraint:
    return Constraint.choice(list(language.texts))


def one(engine: SmallEngine, *, prompt: str = LETTERS[0], seed: int = 0, **given: object) -> Result:
    params = SamplingParams.from_mapping({"seed": seed, "max_tokens": 16, **given})
    return engine.generate(Request(prompt=prompt, template="raw", constraint=choice(FIRST), sampling=params))


@pytest.mark.parametrize(("method", "runs", "share"), [("smc", 60, 0.25), ("rejection", 800, 0.15)])
def test_the_law_of_a_text_comes_near_the_conditional_one(
    engine: SmallEngine, method: str, runs: int, share: float
) -> None:
    params = SamplingParams.from_mapping({"method": method, "max_tokens": 16, "temperature": FIRST.temperature})
    results = engine.draw(0, choice(FIRST), range(runs), params)
    assert {result.status for result in results} == {"complete"}
    found = distance(law_of([result.token_ids for result in results]), FIRST.truth)
    noise = exact_distances(FIRST.truth, runs, 200, seed=1)
    slack = 3 * statistics.pstdev(noise)
    assert found - statistics.mean(noise) <= share * distance(FIRST.masked, FIRST.truth) + slack
    assert distance(FIRST.masked, FIRST.truth) > share * distance(FIRST.masked, FIRST.truth) + slack


def test_the_evidence_is_unbiased_and_the_inverse_of_rejections(engine: SmallEngine) -> None:
    pattern = Constraint.regex(WALKS.pattern)
    params = SamplingParams(method="smc", particles=8, max_tokens=16)
    found = [math.exp(result.log_evidence or 0) for result in engine.draw(1, pattern, range(200), params)]
    error = statistics.stdev(found) / math.sqrt(len(found))
    assert statistics.mean(found) == pytest.approx(WALKS.evidence(), abs=3 * error)
    assert error < 0.05 * WALKS.evidence()
    trials = engine.draw(0, choice(FIRST), range(400), SamplingParams(method="rejection", max_tokens=16))
    inverse = [math.exp(-(result.log_evidence or 0)) for result in trials]
    free = Language(FIRST.texts, FIRST.model).evidence
    error = statistics.stdev(inverse) / math.sqrt(len(inverse))
    assert statistics.mean(inverse) == pytest.approx(1 / free, abs=3 * error)


def test_mass_behind_a_rare_beginning_is_warned_of(engine: SmallEngine) -> None:
    results = engine.draw(2, choice(HIDDEN), range(20), SamplingParams(method="smc", max_tokens=8))
    assert all(result.warnings for result in results)
    assert sum("a beginning of probability below 1/32" in " ".join(result.warnings) for result in results) >= 15
    calm = engine.draw(1, Constraint.regex(WALKS.pattern), range(5), SamplingParams(method="smc", max_tokens=16))
    assert [result.warnings for result in calm] == [()] * 5


@pytest.mark.parametrize("given", [{"method": "smc", "particles": 8, "n": 3}, {"method": "rejection", "n": 2}])
def test_a_seed_gives_the_same_texts_whatever_runs_beside(engine: SmallEngine, given: dict[str, object]) -> None:
    alone = one(engine, seed=5, **given)
    params = SamplingParams.from_mapping({"seed": 5, "max_tokens": 16, **given})
    request = Request(prompt=LETTERS[0], template="raw", constraint=choice(FIRST), sampling=params)
    noise = [engine.submit(Request(prompt=LETTERS[1], template="raw", constraint=choice(FIRST))) for _ in range(9)]
    beside = engine.submit(request, owner="other").result()
    assert [s.token_ids for s in alone.samples] == [s.token_ids for s in beside.samples]
    assert alone.seed == beside.seed == 5
    assert alone.log_evidence == pytest.approx(beside.log_evidence)
    assert all(future.result().ok for future in noise)


def test_launching_ahead_changes_no_particle(tmp_path: Path) -> None:
    """Resampled at nearly every token, dead ends among them: who is copied draws from its parent's logits in flight."""
    found = []
    for ahead in (False, True):
        with SmallEngine(LANGUAGES, tmp_path, rows=64, ahead=ahead) as engine:
            asked = SamplingParams(method="smc", particles=16, ess=1.0, n=16, max_tokens=16)
            results = engine.draw(0, choice(FIRST), range(12), asked)
            results += engine.draw(2, choice(HIDDEN), range(4), asked)
            found.append([(r.status, r.token_ids, r.log_evidence, r.resamplings) for x in results for r in x.samples])
    assert found[0] == found[1]
    assert max(resamplings or 0 for *_, resamplings in found[0]) > 1


def test_samples_of_one_system_say_so(engine: SmallEngine) -> None:
    result = one(engine, method="smc", particles=8, n=3)
    plain = result.to_dict()
    assert len(result.samples) == len(plain["samples"]) == 3
    assert "one system of 8 particles" in plain["warnings"][-1]
    assert {"log_evidence", "log_weight", "effective_samples", "resamplings"} <= plain.keys()
    assert "log_evidence" not in one(engine).to_dict()


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_rows_that_cannot_all_be_held_take_turns_and_come_to_the_same(ahead: bool, tmp_path: Path) -> None:
    """Two owners share the slots: particles are put back, and fed again."""
    with SmallEngine(LANGUAGES, tmp_path, rows=8, ahead=ahead) as engine:
        params = SamplingParams(method="smc", particles=8, seed=3, max_tokens=16)
        request = Request(prompt=LETTERS[0], template="raw", constraint=choice(FIRST), sampling=params)
        alone = engine.generate(request)
        plain = Request(prompt=LETTERS[1], template="raw", constraint=Constraint.regex("[wxyz]{12,14}"))
        futures = [
            engine.submit(plain if number % 2 else Request(**_fields(request, number)), owner=str(number % 3))
            for number in range(12)
        ]
        results = [future.result(timeout=60) for future in futures]
        assert {result.status for result in results[::2]} == {"complete"}
        assert {result.token_ids for result in results[::2]} == {alone.token_ids}
        assert all(result.ok for result in results)
        core = engine._thread._core
        assert isinstance(core, EngineCore)
        assert not core._scheduler
        assert core._runner.blocks.free == 8


def _fields(request: Request, number: int) -> dict[str, object]:
    names = ("prompt", "template", "constraint", "sampling")
    return {**{name: getattr(request, name) for name in names}, "id": f"system-{number}"}


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_a_text_that_does_not_end_in_time_has_no_weight(engine: SmallEngine, method: str) -> None:
    for seed in range(20):
        result = one(engine, method=method, max_tokens=2, seed=seed)
        assert result.status in ("complete", "dead_end")
        assert len(result.token_ids) == 2 or result.status == "dead_end"
    long = Request(
        prompt=LETTERS[1], template="raw", constraint=Constraint.regex("[wxyz]{2,9}a?"),
        sampling=SamplingParams(method=method, max_tokens=3, seed=1, particles=32),  # type: ignore[arg-type]
    )  # fmt: skip
    result = engine.generate(long)
    assert result.status in ("complete", "dead_end")
    assert result.error is None or "max_tokens" in result.error["message"]


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_a_text_that_fails_a_checked_keyword_has_no_weight(tmp_path: Path, method: str) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3}
    schema |= {"not": {"contains": {"const": 1}, "uniqueItems": True}}
    engine, _ = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=16)
    with engine:
        assert "checked" in {verdict["verdict"] for verdict in engine.check(schema)["verdicts"]}
        constraint = Constraint.json_schema(schema)
        params = SamplingParams.from_mapping(
            {"method": method, "max_tokens": 12, **({"particles": 16} if method == "smc" else {})}
        )
        for seed in range(5):
            sampling = SamplingParams(**{**{f: getattr(params, f) for f in params.__slots__}, "seed": seed})
            result = engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling))
            assert (result.status, result.valid) in (("complete", True), ("dead_end", False))


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_a_text_that_the_judge_refuses_has_no_weight_whatever_the_grammar_holds(tmp_path: Path, method: str) -> None:
    """Grammar and judge are written apart: where they disagree it is the judge's word."""
    engine, _ = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=8)
    with engine:
        judging = engine._thread._core._judging  # type: ignore[union-attr]
        submit = judging._service.submit

        def strict(constraint: Constraint, texts: Sequence[bytes], **given: object) -> Future[Verdict]:
            refused = [text for text in texts if text.startswith(b"a")]
            if not refused:
                return submit(constraint, texts, **given)  # type: ignore[arg-type, no-any-return]
            answer = Future[Verdict]()
            answer.set_result(Verdict((Judgement(False, "not this one"),), 0.0))
            return answer

        judging._service.submit = strict  # type: ignore[method-assign]
        given = {"method": method, "max_tokens": 4, **({"particles": 8} if method == "smc" else {})}
        constraint = Constraint.choice(["a", "b", "c"])
        for seed in range(5):
            params = SamplingParams.from_mapping({**given, "seed": seed})
            result = engine.generate(Request(prompt="x", constraint=constraint, sampling=params))
            assert (result.status, result.text[:1]) in [("complete", "b"), ("complete", "c"), ("dead_end", "")], result


def test_rejection_ends_after_as_many_tokens_as_the_limit_says(tmp_path: Path) -> None:
    limits = Limits(proposed_tokens=300)
    engine, network = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=8, limits=limits)
    with engine:
        params = SamplingParams(method="rejection", seed=1, max_tokens=200)
        result = engine.generate(Request(prompt="x", constraint=Constraint.regex("(a{9}|b{9}){4}"), sampling=params))
    assert result.status == "dead_end"
    assert "limits.proposed_tokens" in (result.error or {})["message"]
    assert network.forwards < 400


def test_what_is_saved_of_a_particle_is_dropped_where_a_copy_cannot_be_loaded(tmp_path: Path) -> None:
    params = SamplingParams(method="smc", particles=8, ess=1.0, seed=3, max_tokens=16)
    with SmallEngine(LANGUAGES, tmp_path, rows=8) as engine:
        runner = engine._thread._core._runner  # type: ignore[union-attr]
        load, saved, save = runner.load_prefix, [], runner.save_prefix
        request = Request(prompt=LETTERS[0], template="raw", constraint=choice(FIRST), sampling=params)

        def failing(*_: object) -> None:
            raise MemoryError("no memory for it")

        def keeping(*args: Any) -> Any:
            saved.append(save(*args))
            return saved[-1]

        runner.load_prefix, runner.save_prefix = failing, keeping
        failed = engine.generate(request)
        runner.load_prefix, runner.save_prefix = load, save
        assert failed.status == "error"
        assert saved
        assert engine.generate(request).status == "complete"
        assert runner.blocks.free == 8


SHORT_LISTS = {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 1, "maxItems": 3}


def checked(check: Check, method: str, *, schema: object = SHORT_LISTS, **given: object) -> Request:
    """Its check is asked about each item."""
    params = {"max_tokens": 12, **({"particles": 8} if method == "smc" else {}), "method": method, **given}
    constraint = Constraint.json_schema(schema, checks={"/*": check})
    return Request(prompt="x", constraint=constraint, sampling=SamplingParams.from_mapping(params))


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_a_text_that_fails_a_check_of_the_callers_has_no_weight(tmp_path: Path, method: str) -> None:
    engine, _ = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=8)
    with engine:
        for check in (functions.odd, lambda value, document: functions.odd(value, document)):
            results = [engine.generate(checked(check, method, seed=seed, n=2)) for seed in range(6)]
            assert all((result.status, result.valid) in (("complete", True), ("dead_end", False)) for result in results)
            valid = [sample for result in results for sample in result.samples if sample.valid]
            assert len(valid) >= len(results)
            assert all(item % 2 for sample in valid for item in sample.value)
        wrong = engine.generate(checked(lambda value, document: "never", "smc", seed=1))
        assert (wrong.status, wrong.valid, wrong.log_evidence) == ("dead_end", False, None)


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_a_stream_brings_no_text_that_was_not_drawn(tmp_path: Path, method: str) -> None:
    engine, _ = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=8)
    with engine:
        *pieces, result = engine.stream(checked(functions.odd, method, seed=1))
        assert isinstance(result, Result)
        assert (result.status, pieces) == ("complete", [result.text])
        one_item = {**SHORT_LISTS, "maxItems": 1}
        *pieces, result = engine.stream(checked(lambda value, document: "never", method, schema=one_item, max_tokens=4))
        assert isinstance(result, Result)
        assert (result.status, pieces, result.text, result.token_ids) == ("dead_end", [], "", ())


@pytest.mark.parametrize("method", ["smc", "rejection"])
@pytest.mark.parametrize(
    ("check", "kind"), [(functions.raises, "CheckFailed"), (functions.number, "CheckFailed"),
                        (functions.leaves, "CheckFailed"), (functions.sleeps, "CheckTimeout")],
)  # fmt: skip
def test_a_check_without_an_answer_ends_all_rows(tmp_path: Path, method: str, check: Check, kind: str) -> None:
    engine, _ = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=8)
    with engine:
        result = engine.generate(checked(check, method, n=2))
        assert [sample.status for sample in result.samples] == ["error", "error"]
        assert {(sample.error or {})["type"] for sample in result.samples} == {kind}
        assert {(sample.error or {})["pointer"] for sample in result.samples} == {"/0"}
        assert engine.generate(Request(prompt="x", sampling=SamplingParams(max_tokens=2))).ok


@pytest.mark.parametrize("method", ["smc", "rejection"])
@pytest.mark.parametrize("ended_by", ["cancel", "close"])
def test_a_check_that_runs_ends_with_its_rows(tmp_path: Path, method: str, ended_by: str) -> None:
    engine, _ = fake_engine(random_logits(2, 2.0), tmp_path, max_batch=8, limits=Limits(check_s=60.0))
    with engine:
        schema = {"const": [str(tmp_path / "pid")]}
        future = engine.submit(request := checked(functions.told, method, schema=schema, max_tokens=200))
        pid = running_check(tmp_path)
        if ended_by == "cancel":
            engine.cancel(request.id)
        else:
            engine.close(drain=False)
        assert future.result(30).status == "cancelled"
        eventually(lambda: gone(pid))


@pytest.mark.parametrize("method", ["mask", "smc", "rejection"])
def test_many_values_may_be_asked_about_at_the_end(tmp_path: Path, method: str) -> None:
    """By a function without a name: its answers are there as soon as they are asked for."""
    engine, _ = fake_engine(wants(text := f"[{','.join(['1'] * 500)}]"), tmp_path, limits=Limits(retries=0))
    params = {"temperature": 0} if method == "mask" else {"particles": 1} if method == "smc" else {}
    with engine:
        schema = {"type": "array", "items": {"type": "integer"}}
        request = checked(lambda value, document: None, method, schema=schema, **{"max_tokens": 1500, **params})
        result = engine.generate(request)
    assert (result.status, result.text) == ("complete", text), result.error


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_a_deadline_and_a_cancellation_end_all_rows(tmp_path: Path, method: str) -> None:
    engine, network = fake_engine(random_logits(1, 2.0), tmp_path, max_batch=8)
    with engine:
        sampling = SamplingParams.from_mapping(
            {"method": method, "n": 2, **({"particles": 8} if method == "smc" else {})}
        )
        constraint = Constraint.regex("[a-z]{1500,1600}")
        late = engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling, deadline_s=0.3))
        assert [sample.status for sample in late.samples] == ["timeout", "timeout"]
        future = engine.submit(Request(prompt="x", constraint=constraint, sampling=sampling, id="stopped"))
        while network.forwards < 50:
            pass
        assert engine.cancel("stopped")
        assert [sample.status for sample in future.result().samples] == ["cancelled", "cancelled"]
        assert engine.generate(Request(prompt="x", sampling=SamplingParams(max_tokens=2))).ok


def test_the_mass_of_a_masked_text_is_the_sum_of_the_legal_shares(engine: SmallEngine) -> None:
    for temperature in (1.0, 0.7):
        result = one(engine, temperature=temperature, logprobs=0, seed=4)
        language = Language(FIRST.texts, FIRST.model, temperature)
        expected = language.truth[result.token_ids] * language.evidence / language.masked[result.token_ids]
        assert result.log_mass == pytest.approx(math.log(expected), abs=1e-5)
    assert one(engine).log_mass is None


@pytest.mark.parametrize(("field", "given"), [
    ("top_p", {"top_p": 0.9}), ("top_k", {"top_k": 3}), ("min_p", {"min_p": 0.1}),
    ("repetition_penalty", {"repetition_penalty": 1.1}), ("stop", {"stop": "x"}), ("temperature", {"temperature": 0}),
])  # fmt: skip
@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_what_changes_the_target_is_refused_by_name(method: str, field: str, given: dict[str, object]) -> None:
    with pytest.raises(RequestError) as raised:
        SamplingParams.from_mapping({"method": method, **given})
    assert raised.value.param == field


def test_what_a_method_has_no_use_for_is_refused_by_name(engine: SmallEngine) -> None:
    for field, given in [
        ("particles", {"particles": 8}), ("ess", {"ess": 0.1, "method": "rejection"}), ("method", {"method": "magic"}),
        ("n", {"n": 9, "particles": 8, "method": "smc"}), ("logprobs", {"logprobs": 1, "method": "rejection"}),
        ("ess", {"ess": 1.1, "method": "smc"}), ("particles", {"particles": 0, "method": "smc"}),
    ]:  # fmt: skip
        with pytest.raises(RequestError) as raised:
            SamplingParams.from_mapping(given)
        assert raised.value.param == field
    with pytest.raises(RequestError, match="needs a constraint"):
        Request(prompt="x", sampling=SamplingParams(method="rejection"))
    with pytest.raises(RequestError, match="decodes 32 rows together"):
        one(engine, method="smc", particles=33)
