"""Forced runs ride along with steps that are launched ahead, and change nothing of what is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import Constraint, Request, SamplingParams
from engine.decode.step.drafts import Drafts
from engine.interfaces import FROM_DEVICE, RowInput
from engine.model.cpu.cpu_runner import CpuRunner
from tests.decode.fakes import EOS, TOKENS, ByteTokenizer, Logits, V, fake_engine, random_logits, wants

MEMBERS = {"name": {"type": "string"}, "kind": {"enum": ["a", "b"]}, "list": {"type": "array"}, "rest": {}}
CONSTRAINT = Constraint.json_schema({"type": "object", "properties": MEMBERS, "required": list(MEMBERS)})
TEXT = '{"name":"the in","kind":"b","list":["x",[]],"rest":null}'
GREEDY = Request(prompt="p", constraint=CONSTRAINT, sampling=SamplingParams(temperature=0.0, max_tokens=90))


def wants_tokens(text: str) -> Logits:
    """Logits that spell `text` in the tokens of its encoding."""
    ids = [*ByteTokenizer().encode(text), EOS]

    def logits_of(fed: Sequence[int]) -> np.ndarray:
        data = b"".join(TOKENS[token] or b"" for token in fed)
        written, at = data[data.rfind(b"[assistant]") + len(b"[assistant]") :], 0
        while written:
            written, at = written[len(TOKENS[ids[at]] or b"") :], at + 1
        row = np.full(V, -5.0, dtype=np.float32)
        row[ids[at] if at < len(ids) else EOS] = 10.0
        return row

    return logits_of


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[RowInput]:
    """The rows of all steps."""
    rows: list[RowInput] = []
    forward = CpuRunner.forward

    def noted(runner: CpuRunner, given: Sequence[RowInput]) -> None:
        rows.extend(given)
        forward(runner, given)

    monkeypatch.setattr(CpuRunner, "forward", noted)
    return rows


def test_no_step_waits_for_the_host_where_drafts_hold(fed: list[RowInput], tmp_path: Path) -> None:
    engine, _ = fake_engine(wants_tokens(TEXT), tmp_path, launch_ahead=True)
    with engine:
        engine.generate(GREEDY)  # a draft ends before a mask that is new
        fed.clear()
        result = engine.generate(GREEDY)
    prefill, *steps = fed
    assert (result.text, result.usage.forced_tokens > 10) == (TEXT, True)
    assert all(row.tokens[0] == FROM_DEVICE for row in steps)
    drafted = sum(len(row.tokens) - 1 for row in steps) + prefill.logits - 1
    assert drafted == result.usage.forced_tokens, "and what is drafted is kept"
    assert any(len(row.tokens) > 1 for row in steps)


@pytest.mark.parametrize("logits_of", [wants_tokens(TEXT), wants(TEXT), *map(random_logits, range(6))])
def test_whatever_of_a_draft_holds_the_tokens_are_those_of_single_steps(
    logits_of: Logits, fed: list[RowInput], tmp_path: Path
) -> None:
    found = []
    for forced, ahead in (("off", False), ("verify", False), ("verify", True)):
        fed.clear()
        engine, _ = fake_engine(logits_of, tmp_path, forced_runs=forced, launch_ahead=ahead)
        with engine:
            found.append(engine.generate(GREEDY).token_ids)
    assert found[0] == found[1] == found[2]
    positions = [range(row.position, row.position + len(row.tokens)) for row in fed]
    assert all(later.start <= earlier.stop for earlier, later in pairwise(positions))


@pytest.mark.parametrize(
    ("run", "drafted"),
    [('{"name":"', '{"name":"'), ('":[', '":'), ('":', ""), ('name":', "name"), ('ind":"b","', 'ind":"b","'), ("", "")],
)
def test_the_last_token_of_a_run_is_drafted_where_it_opens_a_string(run: str, drafted: str) -> None:
    tokenizer: Any = ByteTokenizer()
    matcher = SimpleNamespace(forced=run.encode)
    sampling = SimpleNamespace(repetition_penalty=1.0)
    job = SimpleNamespace(request=SimpleNamespace(sampling=sampling))
    sample: Any = SimpleNamespace(matcher=matcher, remaining=50, job=job, conditional=None)
    assert tokenizer.decode(Drafts(tokenizer).propose(sample)) == drafted
