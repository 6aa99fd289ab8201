"""Another card's code beside one's own: what is told of tokens, kernels and times."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.decode import compared
from bench.decode.__main__ import main
from bench.decode.compared import Compared, Side
from bench.decode.other_card import CARDS


def test_rows_first_differences_are_told_with_their_gap() -> None:
    steps = [
        Compared([5, 6], [5, 6], [0.0, 0.0], [1e-3, 2e-3]),
        Compared([5, 6], [5, 7], [0.0, 4e-4], [1e-3, 3e-3]),
        Compared([5, 6], [4, 8], [0.25, 9.0], [1e-3, 4e-3]),
    ]
    assert compared._summed(steps) == {
        "tokens": 6, "equal": 3, "rows": 2, "rows_equal": 0, "far": 1, "error_p50": 2e-3, "error_max": 4e-3,
        "apart": [{"row": 1, "token": 1, "gap": 4e-4}, {"row": 0, "token": 2, "gap": 0.25}],
    }  # fmt: skip


class Card:
    def compiled(self) -> dict[str, list[str]]:
        return {"strips_kernel": [""]}


def event(name: str, us: float, shared: int) -> dict[str, Any]:
    sizes = {"grid": [216, 2, 1], "block": [128, 1, 1], "registers per thread": 144, "shared memory": shared}
    return {"name": name, "dur": us, "args": sizes}


def test_every_kernel_is_listed_with_what_the_other_card_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event("strips_kernel", 3.0, 69632), event("nvjet", 8.0, 200_000), event("strips_kernel", 5.0, 69632)]
    monkeypatch.setattr(compared, "_profiled", lambda *_: events)
    side: Any = Side("sm_80", None, None)  # type: ignore[arg-type]  # nothing of it is run
    ours, library = compared._launches(side, [], Card(), {"step": "batch 1"})  # type: ignore[arg-type]
    assert (ours["code"], ours["calls"], ours["us"], ours["A100"]) == ("sm_80", 2, 4.0, 2)
    assert ours["waves"] == 432 / (CARDS[80].multiprocessors * 2)
    assert (library["code"], library["A100"], library["waves"]) == ("library", 0, "-")
    events[:] = [event("strips_kernel", 3.0, 164 * 1024)]
    with pytest.raises(AssertionError, match="no room on an A100"):
        compared._launches(side, [], Card(), {})  # type: ignore[arg-type]


def test_what_an_a100_would_take_lies_between_bounds() -> None:
    rows = [{"us": 3.0, "calls": 2, "code": "sm_80"}, {"us": 2.0, "calls": 1, "code": "library"}]
    step = compared._computed(rows, 4.0, 4_200_000_000, {"ceiling_tb_s": 4.2})
    assert step == {"library_ms": 1.0, "ms": 4.0, "a100_least": 5.35, "a100_most": 9.41}
    prefill = compared._computed(rows, 4.0, 0, {"ceiling_tb_s": 4.2})
    assert (prefill["a100_least"], prefill["a100_most"]) == (8.32, 10.23)


def test_quick_compares_a_tiny_model_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--as", "sm_80"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["bench"] == "decode_as"
    assert [(row["step"], row["tokens"]) for row in line["identical"]] == [
        ("prefill 16", 1), ("batch 1", 3), ("batch 2", 6)
    ]  # fmt: skip
    assert all(row["equal"] == row["tokens"] and row["error_max"] == 0 for row in line["identical"])
    assert {(row["step"], row["code"]) for row in line["times"]} >= {("batch 2", "own"), ("batch 2", "sm_80")}
