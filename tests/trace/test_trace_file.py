"""The trace file: what is written is read back, text can be left out, other files are refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import VERDICTS, records

from engine.errors import RequestError
from engine.trace import TraceWriter, chrome_trace, read_trace, summary
from engine.trace.format import NO_TOKEN
from engine.trace.statistics import exposed_share, step_time


def written(path, made, *, text=True):
    with TraceWriter(path, text=text, run={"model": "m"}) as writer:
        writer.request("req-1", verdicts=VERDICTS, schema_hash="h")
        for record in made:
            writer(record)
        writer.result({"id": "req-1", "status": "complete", "valid": True, "text": "secret document"})
    return path.read_text(encoding="utf-8")


def rounded(record):
    times = {name: round(getattr(record, name), 1) for name in record.__dataclass_fields__ if name.endswith("_us")}
    return replace(record, **times)


def test_steps_come_back_as_they_were_written(tmp_path):
    made = records()
    written(tmp_path / "t.jsonl", made)
    trace = read_trace(tmp_path / "t.jsonl")
    assert [step.record for step in trace.steps] == [rounded(record) for record in made]
    assert trace.requests["req-1"]["verdicts"] == VERDICTS
    assert trace.results["req-1"]["status"] == "complete"
    at = [step.at_us for step in trace.steps]
    assert at == sorted(at)


def test_the_first_line_says_whether_the_file_holds_text(tmp_path):
    for text in (True, False):
        first = json.loads(written(tmp_path / "t.jsonl", records()[:3], text=text).splitlines()[0])
        assert first["maskloop_trace"] == 1
        assert first["holds_text"] is text
        assert first["notice"]


def test_without_text_no_word_of_document_or_schema_is_in_the_file(tmp_path):
    content = written(tmp_path / "t.jsonl", records(), text=False)
    words = ("merge", "intervals", "sorting", "token_id", "uniqueItems", "/properties", "secret")
    assert [word for word in words if word in content] == []
    trace = read_trace(tmp_path / "t.jsonl")
    assert {step.record.token_id for step in trace.steps} == {NO_TOKEN}
    assert trace.requests["req-1"]["verdict_counts"] == {"enforced": 2, "narrowed": 1, "checked": 1}


def test_a_result_brings_its_text_only_where_text_is_kept(tmp_path):
    assert "secret document" in written(tmp_path / "t.jsonl", records()[:2])
    assert "secret document" not in written(tmp_path / "t.jsonl", records()[:2], text=False)


def test_several_requests_share_a_writer(tmp_path):
    one, two = records(20), records(20, request_id="req-2")
    mixed = [record for pair in zip(one, two, strict=True) for record in pair]
    written(tmp_path / "t.jsonl", mixed)
    trace = read_trace(tmp_path / "t.jsonl")
    assert [step.record.request_id for step in trace.of("req-2")] == ["req-2"] * 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("{}\n", "not a maskloop trace"),
        ('{"maskloop_trace": 99}\n', "version 99"),
        ("nonsense\n", ":1 is not JSON"),
        ('{"maskloop_trace": 1}\n[1]\n', ":2 is not a JSON object"),
        ('{"maskloop_trace": 1}\n{"kind":"step","step":1}\n', "the step has no 'request_id'"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path, content, message):
    file = tmp_path / "t.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=message):
        read_trace(file)


def test_a_missing_file_is_a_typed_error(tmp_path):
    with pytest.raises(RequestError, match=r"none.jsonl: No such file"):
        read_trace(tmp_path / "none.jsonl")


def test_a_line_of_an_unknown_kind_is_skipped(tmp_path):
    written(tmp_path / "t.jsonl", records()[:2])
    with (tmp_path / "t.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind":"weather"}\n\n')
    assert len(read_trace(tmp_path / "t.jsonl").steps) == 2


def test_the_shares_of_a_summary_are_shares(tmp_path):
    written(tmp_path / "t.jsonl", records(400))
    trace = read_trace(tmp_path / "t.jsonl")
    made = [step.record for step in trace.steps]
    found = summary(trace.steps)
    assert 0 < found["exposed_share"] < 1
    assert found["forced_share"] == pytest.approx(sum(r.forced for r in made) / len(made), abs=1e-6)
    assert found["fill_us"]["p50"] <= found["fill_us"]["p99"] <= found["fill_us"]["max"]
    assert 0 < found["distribution"]["mass_mean"] <= 1
    assert found["distribution"]["log_mass_sum"] < 0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_rows_of_one_step_count_its_time_once():
    one = records(1)[0]
    rows = [replace(one, row=row, rows=4) for row in range(4)]
    assert exposed_share(rows) == pytest.approx(one.exposed_us / step_time(one), abs=1e-5)


def test_a_trace_without_statistics_has_no_distribution(tmp_path):
    written(tmp_path / "t.jsonl", records(10, stats=False))
    assert summary(read_trace(tmp_path / "t.jsonl").steps)["distribution"] is None
    assert summary([])["tokens"] == 0


def test_chrome_spans_lie_inside_their_step(tmp_path):
    written(tmp_path / "t.jsonl", records(30))
    trace = read_trace(tmp_path / "t.jsonl")
    events = chrome_trace(trace)["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {span["name"] for span in spans} == {"forward", "mask exposed", "sample", "fill", "copy", "accept"}
    for step in trace.steps:
        mine = [span for span in spans if span["args"]["step"] == step.record.step]
        begin, end = step.at_us - step_time(step.record), step.at_us
        assert all(span["ts"] >= begin - 0.2 for span in mine)
        assert all(span["ts"] + span["dur"] <= end + 0.5 for span in mine if span["name"] not in ("fill", "copy"))


@given(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_text_survives_the_file(tmp_path_factory, text, us):
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    text = text.encode("utf-8", "replace").decode("utf-8")
    made = replace(records(1)[0], text=text, fill_us=us)
    written(path, [made])
    assert read_trace(path).steps[0].record == rounded(made)
