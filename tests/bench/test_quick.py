"""`--quick` of every bench: it runs, its last line is the documented record, and its figures hold together."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bench.harness.record import non_finite

BENCH = Path(__file__).parents[2] / "bench"
HEAD = ("bench", "commit", "dirty", "date", "versions", "device", "configuration", "seeds", "repeats", "data_sha256")
HEAD += ("model_revision", "label")
Check = Callable[[dict[str, Any]], None]
QUICK: dict[str, tuple[list[str], Check]] = {}
"""Arguments and the check of a bench's figures, by name."""


def quick(*arguments: str) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        QUICK[check.__name__] = (["--quick", *arguments], check)
        return check

    return keep


@quick()
def soak(line: dict[str, Any]) -> None:
    assert line["requests"] == line["answered"] == sum(line["outcomes"].values()) > 0
    assert line["wrong"] == []
    assert line["left"] == {"requests": 0, "slots": 0, "samples": 0, "blocks": 0, "cache_bytes_over": 0}
    assert line["queue_p50_ms"] <= line["queue_p99_ms"]
    assert line["resident_mib"]["max"] >= line["resident_mib"]["end"]


@quick()
def sampling(line: dict[str, Any]) -> None:
    language, evidence = line["languages"][0], line["evidence"]
    assert 8 <= language["sequences"] <= 64
    assert 0.2 <= language["masked"] <= 0.6
    assert {"smc_8", "smc_8_share", "rejection", "rejection_share"} <= language.keys()
    assert 0 < evidence["truth"] < 1
    assert line["warned"] > 0.5


@quick()
def particles(line: dict[str, Any]) -> None:
    assert line["ratio"] == pytest.approx(line["particles_ms_a_step"] / line["rows_ms_a_step"], rel=0.01)
    assert 0 < line["resampling_p50_ms"] <= line["resampling_max_ms"]
    assert line["resamplings"] == 2
    assert line["blocks_held"] <= line["blocks_if_each_had_its_own"]


@quick("--files", "20", "--corpus", f"python={Path(json.__file__).parent}")
def syntax(line: dict[str, Any]) -> None:
    python = line["languages"]["python"]
    assert python.get("dead", 0) == python.get("not whole", 0) == 0
    assert python["files"] > 3
    assert python["prefixes"] > 30_000
    kinds = [name.removesuffix(": planted") for name in python if name.endswith(": planted")]
    assert len(kinds) == 4
    planted, found = (sum(python.get(f"{kind}: {what}", 0) for kind in kinds) for what in ("planted", "found"))
    assert found >= 0.9 * planted > 50
    assert {"python/expression", "python/body", "python/module"} == line["documents"].keys()
    for unit in line["documents"].values():
        assert unit["followed"]["ended"] + unit["free"]["ended"] > 0
        assert unit["followed"]["refused"] == 0
        assert 0 < unit["us"]["p50"] <= unit["us"]["p99"]
        assert unit["ratio"][0] == pytest.approx(
            (unit["tokens"]["followed"] + unit["taken_back"]) / unit["tokens"]["free"]
        )


@quick("--hostile")
def hostile(line: dict[str, Any]) -> None:
    assert line["wrong"] == 0
    assert set(line["left"].values()) == {0}
    assert {"mistakes", "deadlines"} == set(line["attacks"])
    for run in (*line["attacks"]["mistakes"], *line["attacks"]["deadlines"], line["together"]):
        assert run["statuses"]
        assert run["schemas"] > 0
        assert run["step_p50_ms"] >= 19.0
    assert line["idle"]["steps"] >= 60
    assert any(name.startswith("smuggling: 400") for name in line["together"]["statuses"])


@quick("--max-tokens", "90")
def lift(line: dict[str, Any]) -> None:
    assert line["documents"] == line["valid"] == sum(line["statuses"].values()) == 2
    assert 0 < line["forced_share"] < 1
    assert 0 <= line["mask_exposed_share"] < 1


@quick()
def random_walk(line: dict[str, Any]) -> None:
    assert line["levels"]["byte"].keys() <= {"schemas", "schemas refused", "ok", "checked"}
    assert line["levels"]["byte"]["ok"] >= 150


@quick()
def task_quality(line: dict[str, Any]) -> None:
    arms = {(arm["template"], arm["schema_in_prompt"]): arm for arm in line["arms"]}
    assert set(arms) == {("raw", False), ("raw", True), ("chat", False), ("chat", True)}
    first = arms["raw", False]
    for arm in arms.values():
        assert arm["valid"] == [1, 1, 1]
        for name in ("name", "parameters", "types", "returns", "all"):
            assert arm[f"{name}_gain"][0] == pytest.approx(arm[name][0] - first[name][0])
        assert arm["all"][0] <= min(arm[name][0] for name in ("name", "parameters", "types", "returns"))


@quick()
def thinking(line: dict[str, Any]) -> None:
    at_once, marker, thinks = line["arms"]
    assert at_once["thought"] == marker["thought"] == [0, 0, 0]
    assert 0 < thinks["thought"][0] <= 20
    for arm in line["arms"]:
        assert arm["cost"][0] > 0
        assert arm["cost_gain"][0] == pytest.approx(arm["cost"][0] - marker["cost"][0])
        # A model of random weights finds no legal token likelier than another, with or without a text before.
        assert 4 < arm["cost_a_token"][0] < 8


@quick()
def lift_asgi(line: dict[str, Any]) -> None:
    assert line["requests"] >= line["documents"] == len(line["document_tokens"]) > 0
    assert 0 < line["p50_s"] <= line["p99_s"] <= line["max_s"]
    assert 0 < line["mean_s"] <= line["max_s"]


@quick()
def layers_against_hf(line: dict[str, Any]) -> None:
    assert line["within_bound"]
    assert len(line["residual_error"]) == len(line["residual_error_bf16"]) == line["layers"]
    assert 0 < line["logits_error"] < line["logits_error_bf16"]


@quick()
def load(line: dict[str, Any]) -> None:
    assert line["ok"] == line["requests"] > 0
    assert line["valid_share"] == 1
    assert 0 < line["p50_s"] <= line["p99_s"]
    assert [level["clients"] for level in line["levels"]] == [1, 2]


@quick()
def decode(line: dict[str, Any]) -> None:
    told = [(run["batch"], run["prompt_tokens"], run["constrained"]) for run in line["runs"]]
    assert sorted(told) == list(product((1, 2), (8, 40), (False, True)))
    for run in line["runs"]:
        assert run["tokens_per_s"] == pytest.approx(run["batch"] / run["ms_per_step"] * 1e3, rel=0.02, abs=0.06)
        rate = run["bytes_per_step"] / (run["ms_per_step"] * 1e-3)
        assert run["ceiling_share"] == pytest.approx(rate / (line["ceiling_tb_s"] * 1e12), abs=0.01)
    for way in line["back"]:
        assert way["ms_spread"][0] <= way["ms_a_row"] <= way["ms_spread"][1]
    assert [(way["batch"], way["tokens_back"]) for way in line["back"]] == [(1, 3), (2, 3)]


@quick()
def damage(line: dict[str, Any]) -> None:
    assert sum(line["alarms"].values()) == line["collateral"] == 0
    assert sum(line["sound"].values()) >= 400
    for name, found in line["found"].items():
        assert all(hits in (3, None) for hits in line["against"][name].values()), name
        assert all(found[kind] == 3 for kind in found if "permuted" not in kind), name  # made experts may share nothing


def module_of(name: str) -> Any:
    """A bench is a file or a folder with a `__main__`."""
    if (BENCH / name).is_dir():
        return importlib.import_module(f"bench.{name}.__main__")
    return importlib.import_module(f"bench.{name}")


@pytest.mark.parametrize("name", QUICK)
def test_quick_ends_with_a_record_whose_figures_hold_together(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, check = QUICK[name]
    assert module_of("soak" if name == "hostile" else name).main(arguments) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["bench"] == name
    assert [key for key in HEAD if key not in line] == []
    assert non_finite(line) is None
    check(line)


def test_every_bench_with_a_quick_form_is_run_by_a_test() -> None:
    files = {path.stem: path for path in BENCH.glob("*.py")}
    files |= {path.parent.name: path for path in BENCH.glob("*/__main__.py")}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    benches = {name for name, text in texts.items() if re.search(r'Options\("\w+", __doc__, ', text)}
    assert len(benches) > 10
    elsewhere = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    found = {name for name in benches if re.search(rf'\b{name}\.main\(\["--quick"', elsewhere)}
    assert benches - found - QUICK.keys() == set()
