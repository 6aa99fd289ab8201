"""The cold start bench against the control plane: one container on the CPU, its parts added up."""

from __future__ import annotations

import json

import pytest

from bench.cold_start import __main__ as cold_start
from tests.modal.control_plane import roots

LOADED = {"event": "loaded", "ts": 110.0, "phases_s": {"weights": 4.0, "tokenizer": 1.0}}
PROBES = [
    {"part": "interpreter", "s": 0.0, "at": 100.5},
    {"part": "import modal", "s": 0.5, "at": 101.5},
    {"part": "import modal_app", "s": 0.1, "at": 102.1},
    {"part": "import torch", "s": 2.0, "at": 104.5},
    {"part": "driver lazy_init", "s": 1.5, "at": 107.0},
]


def test_the_parts_of_a_start_are_told_apart_and_add_up() -> None:
    lines = [*(f"probe {json.dumps(probe)}" for probe in PROBES), json.dumps(LOADED)]
    parts = cold_start.divide("\n".join(lines), began=100.0, answered=113.0, answer_s=0.5)
    assert sum(parts.values()) == pytest.approx(13.0)
    assert (parts["imports"], parts["driver"], parts["weights"]) == pytest.approx((2.6, 1.5, 2.5))
    assert (parts["schemas"], parts["first_answer"]) == pytest.approx((2.5, 0.5))


@pytest.mark.skipif(bool(roots.why_no_namespace()), reason="containers need a mount namespace")
def test_quick_starts_a_container_and_divides_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert cold_start.main(["--quick"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    (run,) = line["runs"]
    assert (line["bench"], line["namespace"], line["left_out"], run["cache"]) == ("cold_start", True, [], "cached")
    assert sum(run["parts"].values()) == pytest.approx(run["first_answer_s"], abs=0.05)
    assert min(run["parts"][part] for part in ("entry_point", "imports", "weights", "first_answer")) > 0
    assert run["ready_without_weights_s"] < run["ready_s"] < run["first_answer_s"]
