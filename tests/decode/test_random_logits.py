"""Whatever the model wants, the result is valid or has an honest status. Adversary: logits that are seeded noise."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import BudgetTooSmall, Constraint, NotReady, Request, SamplingParams, SchemaRefused, Usage
from engine.decode.engine import Engine
from engine.decode.requests.judge import GRACE_S
from engine.decode.requests.outcome import Identity, failed_result
from engine.errors import JudgingLimit
from tests.decode.adversarial_runs import is_wrong, outcome, outcomes, run
from tests.decode.fakes import ByteTokenizer, clock_of_steps, fake_engine, random_logits

HONEST = {"complete", "closed", "invalid", "dead_end"}

leaf = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 4},
        {"type": "string", "pattern": "^[a-z_]+$"},
        {"type": "integer", "minimum": -3, "maximum": 250},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["a", 1, None, "é\n"]},
        {"const": {"k": [1, 2]}},
    ]
)


def objects(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["a", "name", "ключ", 'q"q', "x y"])
    return st.dictionaries(names, parts, min_size=1, max_size=3).flatmap(
        lambda members: st.sets(st.sampled_from(sorted(members))).map(
            lambda needed: {
                "type": "object",
                "properties": members,
                "required": sorted(needed),
                "additionalProperties": False,
            }
        )
    )


schemas = st.recursive(
    leaf,
    lambda parts: st.one_of(
        objects(parts),
        parts.map(lambda part: {"type": "array", "items": part, "maxItems": 3}),
        st.lists(parts, min_size=1, max_size=2).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made, _ = fake_engine(random_logits(11), tmp_path_factory.mktemp("cache"))
    with made:
        yield made


def assert_honest(engine: Engine, schema: Any, max_tokens: int, seed: int, temperature: float) -> str:
    params = SamplingParams(max_tokens=max_tokens, seed=seed, temperature=temperature)
    request = Request(prompt=f"seed {seed}", constraint=Constraint.json_schema(schema), sampling=params)
    try:
        result = engine.generate(request)
    except (BudgetTooSmall, SchemaRefused) as error:
        return error.type
    assert result.status in HONEST, result
    assert len(result.token_ids) <= max_tokens
    if result.status in ("complete", "closed"):
        assert result.valid
        value = json.loads(result.text)
        assert value == result.value
        jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())
    if result.status == "invalid":
        assert result.verdicts
        assert result.verdicts["checked"]
        assert result.error
    return result.status


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schema=schemas,
    max_tokens=st.integers(2, 120),
    seed=st.integers(0, 1 << 32),
    temperature=st.sampled_from([0.0, 0.9, 2.0]),
)
def test_any_schema_any_budget(
    engine: Engine, schema: dict[str, Any], max_tokens: int, seed: int, temperature: float
) -> None:
    assert_honest(engine, schema, max_tokens, seed, temperature)


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_adversaries_of_several_owners_with_deadlines_budgets_and_samples(ahead: bool, tmp_path: Path) -> None:
    """`python -m tests.decode.adversarial_runs` makes 1,000 of these; MASKLOOP_RUNS asks for more here too."""
    runs = int(os.environ.get("MASKLOOP_RUNS", "60"))
    made = list(outcomes(range(runs), tmp_path, launch_ahead=ahead))
    counts = Counter(name for _, name in made)
    assert not [(run.number, name) for run, name in made if is_wrong(name)]
    assert counts["complete"]
    assert counts["closed"]
    assert counts["nothing left"] == 1


def test_adversaries_write_valid_documents_into_strings(tmp_path: Path) -> None:
    """`python -m tests.decode.adversarial_runs --in-strings` makes as many as are asked for."""
    made = list(outcomes(range(0, 378, 27), tmp_path, in_strings=True))
    assert not [(run.number, name) for run, name in made if is_wrong(name)]
    counts = Counter(name for _, name in made)
    assert counts["closed"] + counts["complete"] > 7
    assert not counts["invalid"]


def test_what_is_wrong_with_a_result_is_seen() -> None:
    wrong, asked = failed_result("0", NotReady("no"), Identity("fake", "fp32", "0", "cpu")), run(0)
    valid = replace(wrong, status="complete", valid=True, text="{}", error=None)
    assert is_wrong(outcome(wrong, asked))
    assert is_wrong(outcome(valid, asked)), "a second validator says otherwise"
    assert is_wrong(outcome(replace(valid, valid=False), asked))
    assert is_wrong(outcome(replace(valid, status="length"), asked)), "never with a constraint"
    assert is_wrong(outcome(replace(valid, usage=Usage(completion_tokens=500)), asked))


def test_a_document_may_go_unjudged_only_where_the_judge_had_its_time_behind_the_deadline() -> None:
    given_up = failed_result("0", JudgingLimit("given up", param="deadline_s"), Identity("fake", "fp32", "0", "cpu"))
    asked, patient = run(0), run(0)
    asked.request = replace(asked.request, deadline_s=0.5)
    patient.request = replace(patient.request, deadline_s=None)
    for made in (asked, patient):
        made.ended_s = 0.5 + GRACE_S
    assert not is_wrong(outcome(given_up, asked))
    assert is_wrong(outcome(given_up, patient)), "it had no deadline"
    other = failed_result("0", NotReady("no"), Identity("fake", "fp32", "0", "cpu"))
    assert is_wrong(outcome(other, asked)), "another error"
    over = failed_result("0", JudgingLimit("2 s of CPU", param="json_schema"), Identity("fake", "fp32", "0", "cpu"))
    assert is_wrong(outcome(over, asked)), "the judge took too long by itself"
    asked.ended_s = 0.49 + GRACE_S
    assert is_wrong(outcome(given_up, asked)), "too early"


def test_the_fake_tokenizer_is_lossless() -> None:
    text = '{"in": "é 日本 true"}'
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_documents_that_went_back_are_ended_at_the_deadline_or_the_budget(tmp_path: Path) -> None:
    """Endings that began with a banned token were an error; each of these goes back over equal items."""
    pair = {"type": "object", "properties": {"k": {"type": "integer", "minimum": 0, "maximum": 1}}, "required": ["k"]}
    items = {**pair, "additionalProperties": False}
    schema = {"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": True, "items": items}
    schema["contains"] = pair  # beside which items are not compared before they are judged
    engine, network = fake_engine(random_logits(5), tmp_path)
    constraint = Constraint.json_schema(schema, conformance="spec")
    with engine, clock_of_steps(network, most_s=GRACE_S):  # all deadlines pass, and the judge has the time it needs
        engine.warmup([constraint])
        futures = []
        for seed in range(24):
            params = SamplingParams(seed=seed, n=3, max_tokens=24 + seed if seed % 2 else 400)
            deadline_s = None if seed % 2 else 0.05 + seed / 400
            futures.append(
                engine.submit(Request(prompt="x", constraint=constraint, sampling=params, deadline_s=deadline_s))
            )
        statuses = Counter(sample.status for future in futures for sample in future.result(120).samples)
    assert set(statuses) <= {"complete", "closed", "invalid", "timeout"}
    assert statuses["complete"] + statuses["closed"]
