"""One engine in its own process: what hangs, dies or raises costs one case, and the next one runs."""

from __future__ import annotations

from bench.conformance.engine_process import EngineProcess, Settings
from bench.datasets.cases import Case, Instance


def test_an_engine_that_hangs_or_dies_costs_one_case_and_the_next_one_runs():
    easy = Case("easy", {"type": "integer"}, (Instance("yes", True), Instance("no", False)))
    settings = Settings("bytes", repeats=1, compile_limit_s=0.3, walk_limit_s=0.3)
    engine = EngineProcess("tests.bench.conformance.scripted_engine", settings)
    try:
        found = {name: engine.run(Case(name, {"act": name}, easy.tests)) for name in ("hang", "die", "refuse", "raise")}
        stuck = engine.run(Case("stuck", {"act": "stuck"}, easy.tests))
        after = engine.run(easy)
    finally:
        engine.close()
    assert {name: (one.compiled, one.crashed) for name, one in found.items()} == {
        "hang": (False, True),
        "die": (False, True),
        "refuse": (False, False),
        "raise": (False, True),
    }
    assert "passed 0.3 s" in found["hang"].reason
    assert "exit code 3" in found["die"].reason
    assert found["refuse"].reason == "not today"
    assert found["raise"].reason == "KeyError: 'raise'"
    assert (stuck.compiled, [walk.accepted for walk in stuck.walks]) == (True, [None, None])
    assert (after.compiled, [walk.accepted for walk in after.walks]) == (True, [True, False])
