"""The load bench and the cost bench: figures that add up, against the real app with a scripted engine."""

from __future__ import annotations

import json

import pytest

from bench import cost, load
from bench.cost import DAY_S, day, days, play
from tests.serve.fakes import FakeEngine, Server, document

GOOD = {"name": "add", "parameters": [], "returns": "int", "body": "return a + b"}


def script(request):
    return document(request, text=json.dumps(GOOD), value=GOOD)


def run(capsys, arguments):
    code = load.main(arguments)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_every_level_is_reported_with_latency_throughput_and_validity(capsys, tmp_path):
    with Server(FakeEngine(script, delay_s=0.05)) as server:
        code, line = run(
            capsys,
            [
                server.url + "/generate",
                "--clients",
                "1,4",
                "--requests",
                "2",
                "--usd-per-s",
                "0.001",
                "--out",
                str(tmp_path),
            ],
        )
    assert code == 0
    assert [level["clients"] for level in line["levels"]] == [1, 4]
    for level in line["levels"]:
        assert level["requests"] == level["ok"] == 2 * level["clients"]
        assert 0.05 <= level["p50_s"] <= level["p99_s"]
        assert level["valid_share"] == 1.0
        assert level["tokens_per_s"] > 0
        assert level["cost_per_document_usd"] > 0
    assert line["bench"] == "load"
    assert {name: line[name] for name in line["levels"][-1]} == line["levels"][-1]
    assert json.loads((tmp_path / "load.jsonl").read_text())["levels"] == line["levels"]


def test_arrivals_do_not_wait_for_answers_and_latency_counts_from_when_a_request_was_due(capsys):
    # one client every 50 ms at a service that takes 300 ms: an open loop overlaps its own requests
    with Server(FakeEngine(script, delay_s=0.3)) as server:
        _, line = run(capsys, [server.url + "/generate", "--clients", "1", "--requests", "8", "--period", "0.05"])
    level = line["levels"][0]
    assert level["ok"] == 8
    assert level["documents_per_s"] > 1.5 / 0.3


def test_an_invalid_document_and_a_refusal_are_counted_not_hidden(capsys):
    def bad(request):
        return document(request, text="{}", value={})

    with Server(FakeEngine(bad)) as server:
        code, line = run(capsys, [server.url + "/generate", "--clients", "1", "--requests", "2"])
    assert code == 1
    assert line["levels"][0]["valid_share"] == 0.0

    def dead(request):
        return document(request, status="dead_end", valid=False)

    with Server(FakeEngine(dead)) as server:
        code, line = run(capsys, [server.url + "/generate", "--clients", "1", "--requests", "2", "--period", "0.1"])
    assert code == 1
    assert (line["levels"][0]["ok"], line["levels"][0]["p50_s"]) == (0, None)


def test_a_url_is_needed():
    with pytest.raises(SystemExit):
        load.parse([])


@pytest.mark.parametrize(
    ("batches", "busy", "window", "load_s", "starts", "up"),
    [
        (1, 3, 20, 60, 1, 83),
        (2, 3, 20, 60, 2, 166),
        (DAY_S // 10, 3, 20, 60, 1, DAY_S - 10 + 23),
        (1000, 3, 120, 60, 1, DAY_S - 86.4 + 123),
        (1000, 3, 20, 60, 1000, 83_000),
    ],
)
def test_a_day_is_played_through(batches, busy, window, load_s, starts, up):
    found_starts, found_up = play(batches, busy, window, load_s)
    assert found_starts == starts
    assert found_up == pytest.approx(up, abs=1)


def test_a_window_longer_than_the_gap_never_closes_and_idle_is_never_below_work():
    cell = day(1000, 1, 120, service_s=3, load_s=60, usd_per_s=0.001)
    assert not cell.closes
    assert cell.day_usd == pytest.approx(86.4)
    for cell in days(service_s=3, load_s=60, usd_per_s=0.001):
        assert cell.day_usd >= cell.work_usd
        assert cell.day_usd <= 86.4 + 1e-9
    with pytest.raises(ValueError, match="one container"):
        day(100_000, 1, 20, service_s=3, load_s=60, usd_per_s=0.001)


def test_the_cost_bench_ends_with_its_record(capsys):
    assert cost.main(["--quick"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["bench"], line["label"], len(line["cells"])) == ("cost", "computed", 24)
