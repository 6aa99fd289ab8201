"""Compiling once, keeping what was compiled, surviving dead workers, full disks and damaged files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, Limits
from engine.errors import LimitExceeded, ModelError, NotReady, SchemaInvalid, SchemaRefused
from engine.grammar import CompiledGrammar, GrammarService, Vocabulary, sealed_files
from engine.grammar import service as service_module
from engine.grammar.compile.screen import heaviest, screen
from engine.grammar.endings.completion_table import CompletionTable
from engine.grammar.sealed_files import read_sealed, write_sealed
from engine.grammar.store import maker as maker_module
from engine.grammar.store.making import Making
from engine.grammar.vocabulary import vocabulary as vocabulary_module
from engine.request import Constraint
from tests.grammar.fakes import BOMB, byte_tokenizer

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer"}},
    "required": ["name"],
}
HEAVY = {"enum": [f"value {i}" for i in range(300)]}
LENGTHY = {"type": "string", "minLength": 12, "maxLength": 50}
"""Light enough for this process, and much dearer to compile than to load."""


def service_at(folder: Path, **limits: Any) -> GrammarService:
    return GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=folder, limits=Limits(**limits)))


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    """A worker with small limits, started once."""
    service = service_at(tmp_path_factory.mktemp("sandboxed"), compile_s=2.0)
    service.start()
    yield service
    service.close()


@pytest.fixture
def keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store even what compiles in a moment, so that small grammars reach the disk on any machine."""
    monkeypatch.setattr(maker_module, "_WORTH_STORING_S", 0.0)


def accepts(grammar: Any, value: Any) -> bool:
    return bool(grammar.accepts(json.dumps(value, separators=(",", ":")).encode()))


def test_many_callers_share_one_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_at(tmp_path)
    calls = []
    inner = service.sandbox.submit
    monkeypatch.setattr(service.sandbox, "submit", lambda *args: (calls.append(args), inner(*args))[1])
    with ThreadPoolExecutor(8) as pool:
        grammars = list(pool.map(lambda _: service.compile(Constraint.json_schema(PERSON)), range(16)))
    assert len(calls) == 1
    assert len({grammar.key for grammar in grammars}) == 1
    assert service.compile(Constraint.json_schema(PERSON)).source == "memory"
    service.close()


def test_a_compilation_has_an_owner_before_it_begins(
    byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that belonged to nobody had used nothing, and went before everybody."""
    owners, begin = list[Any](), maker_module.Maker.begin

    def seen(maker: maker_module.Maker, making: Making) -> None:
        owners.extend(making.owners)
        begin(maker, making)

    monkeypatch.setattr(maker_module.Maker, "begin", seen)
    byte_service.submit(Constraint.json_schema({"const": "somebody's"}), owner="somebody").result(60)
    assert owners == ["somebody"]


def test_a_memory_hit_costs_under_a_fifth_of_a_millisecond(byte_service: GrammarService) -> None:
    constraint = Constraint.json_schema(PERSON)
    byte_service.compile(constraint)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        byte_service.compile(constraint)
        times.append(time.perf_counter() - start)
    assert sorted(times)[len(times) // 2] < 2e-4


def test_require_enforced_is_each_callers_own(byte_service: GrammarService) -> None:
    schema = {
        "type": "array",
        "items": {"type": "string"},
        "uniqueItems": True,
        "contains": {"minLength": 1},
        "minItems": 2,
    }
    grammar = byte_service.compile(Constraint.json_schema(schema))
    assert any(verdict.verdict == "checked" for verdict in grammar.verdicts)
    with pytest.raises(SchemaRefused, match="uniqueItems"):
        byte_service.compile(Constraint.json_schema(schema, require_enforced=True))
    assert byte_service.compile(Constraint.json_schema(schema)).source == "memory"


def test_key_order_and_options_make_different_grammars(byte_service: GrammarService) -> None:
    first = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]}
    second = {"type": "object", "properties": {"b": {}, "a": {}}, "required": ["a", "b"]}
    keys = {
        byte_service.key(Constraint.json_schema(first)),
        byte_service.key(Constraint.json_schema(second)),
        byte_service.key(Constraint.json_schema(first, conformance="spec")),
        byte_service.key(Constraint.json_schema(first, whitespace="flexible")),
    }
    assert len(keys) == 4


def test_what_was_stored_under_another_limit_of_ambiguity_is_not_read(
    byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraint = Constraint.ebnf('root ::= "a" root | "b"')
    key = byte_service.key(constraint)
    monkeypatch.setattr("engine.grammar.service.MOST_BEGUN", 1)
    assert byte_service.key(constraint) != key


@pytest.mark.usefixtures("keep_everything")
def test_another_process_reads_what_this_one_compiled(tmp_path: Path) -> None:
    writer = service_at(tmp_path)
    written = writer.compile(Constraint.json_schema(LENGTHY))
    assert written.source == "compiled"
    writer.close()
    reader = service_at(tmp_path)
    read = reader.compile(Constraint.json_schema(LENGTHY))
    assert read.source == "disk"
    assert read.verdicts == written.verdicts
    assert read.min_tokens == written.min_tokens
    assert accepts(read, "x" * 12)
    assert not accepts(read, "x" * 11)
    (entry,) = reader.disk.entries()
    assert entry.kind == "json_schema"
    assert entry.load_ms > 0
    assert entry.compile_ms > 0
    assert reader.disk.clear() >= 2
    assert list(reader.disk.folder.iterdir()) == []
    reader.close()


@pytest.mark.usefixtures("keep_everything")
def test_the_shortest_document_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = service_at(tmp_path)
    written = writer.compile(Constraint.json_schema(LENGTHY))
    document = written.matcher().shortest_ending(0)
    writer.close()
    reader = service_at(tmp_path)
    monkeypatch.setattr(CompletionTable, "_improved", lambda *_: pytest.fail("searched again"))
    read = reader.compile(Constraint.json_schema(LENGTHY))
    assert read.source == "disk"
    assert read.matcher().shortest_ending(0) == document
    assert read.min_tokens == len(document) == written.min_tokens
    reader.close()


def test_what_many_ask_for_at_once_is_made_once(byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = byte_service._maker.compiler.compile(Constraint.json_schema(PERSON))
    fresh = CompiledGrammar(Constraint.json_schema(PERSON), "fresh", grammar, byte_service.vocabulary)
    made: list[CompletionTable] = []
    make = CompiledGrammar._completions

    def slowly(self: CompiledGrammar) -> CompletionTable | None:
        time.sleep(0.02)
        made.append(make(self))
        return made[-1]

    monkeypatch.setattr(CompiledGrammar, "_completions", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fresh.completions, range(4)))
    assert len(made) == 1
    assert all(completions is made[0] for completions in found)


@pytest.mark.usefixtures("keep_everything")
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "garbage"])
def test_a_damaged_file_is_never_used_and_healed(tmp_path: Path, damage: str) -> None:
    writer = service_at(tmp_path)
    writer.compile(Constraint.json_schema(LENGTHY))
    writer.close()
    for path in (tmp_path / "grammars").glob("*.*"):
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 0x10
        cut = content[: len(content) // 2]
        damaged = {"truncate": cut, "flip": bytes(flipped), "empty": b"", "garbage": os.urandom(500)}
        path.write_bytes(damaged[damage])
    reader = service_at(tmp_path)
    grammar = reader.compile(Constraint.json_schema(LENGTHY))
    assert grammar.source == "compiled"
    assert accepts(grammar, "\n" * 50)
    reader.close()
    again = service_at(tmp_path)
    assert again.compile(Constraint.json_schema(LENGTHY)).source == "disk"
    again.close()


@pytest.mark.usefixtures("keep_everything")
def test_what_was_stored_has_been_screened_under_the_same_limits(tmp_path: Path, monkeypatch: Any) -> None:
    screened: list[Constraint] = []
    for module in (service_module, maker_module):
        monkeypatch.setattr(module, "screen", lambda *args: screened.append(args[0]) or screen(*args))
    constraint = Constraint.json_schema(LENGTHY)
    sources = []
    for damage in (False, False, True):
        service = service_at(tmp_path)
        if damage:
            (path,) = service.disk.folder.glob("*.grammar")
            path.write_bytes(path.read_bytes()[:-1])
        sources.append(service.compile(constraint).source)
        service.close()
    assert (sources, len(screened)) == (["compiled", "disk", "compiled"], 2)
    strict = service_at(tmp_path, schema_nodes=1)
    with pytest.raises(LimitExceeded, match="schema_nodes = 1"):
        strict.compile(constraint)
    strict.close()


def test_what_compiles_in_a_moment_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = []
    for least_s in (1e6, 0.0):
        monkeypatch.setattr(maker_module, "_WORTH_STORING_S", least_s)
        service = service_at(tmp_path)
        service.compile(Constraint.json_schema(PERSON))
        service.flush()
        stored.append([entry.kind for entry in service.disk.entries()])
        service.close()
    assert stored == [[], ["json_schema"]]


def test_a_full_disk_fails_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.grammar.sealed_files.os.fsync", full)
    service = service_at(tmp_path)
    assert accepts(service.compile(Constraint.json_schema(PERSON)), {"name": "x"})
    service.flush()
    assert list(service.disk.folder.iterdir()) == []
    service.close()


def test_a_folder_that_cannot_be_written_fails_no_request(tmp_path: Path) -> None:
    (tmp_path / "grammars").write_text("a file where the folder should be")
    service = service_at(tmp_path)
    assert accepts(service.compile(Constraint.json_schema(PERSON)), {"name": "x"})
    service.close()


def test_a_process_killed_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "entry.bin"
    assert write_sealed(path, b"old" * 1000)
    script = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('files', sys.argv[2])\n"
        "files = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(files)\n"
        "while True: files.write_sealed(pathlib.Path(sys.argv[1]), b'new' * 300_000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(path), str(sealed_files.__file__)])
    try:
        deadline = time.monotonic() + 20
        while read_sealed(path) == b"old" * 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert read_sealed(path) == b"new" * 300_000


@pytest.mark.usefixtures("keep_everything")
def test_the_folder_stays_under_its_cap(tmp_path: Path) -> None:
    service = service_at(tmp_path)
    for number in range(5):
        service.compile(Constraint.json_schema({**LENGTHY, "title": str(number)}))
        service.flush()
        if number == 0:
            (first,) = service.disk.folder.glob("*.grammar")
            service.disk.limit_bytes = 5 * first.stat().st_size // 2
    assert 1 <= len(service.disk.entries()) <= 2
    assert sum(path.stat().st_size for path in service.disk.folder.glob("*.grammar")) <= service.disk.limit_bytes
    service.close()


@pytest.mark.slow
def test_limits_name_themselves_and_the_place(sandboxed: GrammarService) -> None:
    with pytest.raises(
        LimitExceeded, match=r"compile_s = 2 s.*patternProperties of 8 parts.*/properties/a/patternProperties"
    ) as caught:
        sandboxed.compile(Constraint.json_schema({"type": "object", "properties": {"a": BOMB}, "required": ["a"]}))
    assert caught.value.pointer == "/properties/a/patternProperties"
    assert accepts(sandboxed.compile(Constraint.json_schema(PERSON)), {"name": "x"})


def test_the_search_for_the_shortest_document_is_limited_too(sandboxed: GrammarService) -> None:
    unlike = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 3000}
    with pytest.raises(LimitExceeded, match="compile_s = 2 s"):
        sandboxed.compile(Constraint.json_schema(unlike))
    assert sandboxed.compile(Constraint.json_schema({**unlike, "minItems": 3})).least.nbytes == len("[0,1,2]")


def test_memory_is_limited_too(tmp_path: Path) -> None:
    service = service_at(tmp_path, compile_memory_bytes=16 << 20)
    with pytest.raises(LimitExceeded, match="compile_memory_bytes = 16777216"):
        service.compile(Constraint.json_schema({"type": "string", "pattern": "^(abcdefghij[xyz]?){3000}$"}))
    assert accepts(service.compile(Constraint.json_schema(HEAVY)), "value 9")
    service.close()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_worker_is_replaced_and_its_job_repeated(sandboxed: GrammarService, stop: int) -> None:
    sandboxed.compile(Constraint.json_schema({"enum": list(range(400))}))
    before = sandboxed.sandbox.pids
    for pid in before:
        os.kill(pid, stop)
    assert accepts(sandboxed.compile(Constraint.json_schema({"enum": list(range(500 + stop))})), 499)
    assert set(before).isdisjoint(sandboxed.sandbox.pids)


@pytest.mark.slow
def test_a_heavy_schema_does_not_hold_up_a_light_one(sandboxed: GrammarService) -> None:
    heavy = sandboxed.submit(Constraint.json_schema(BOMB))
    light = sandboxed.submit(Constraint.json_schema({"type": "boolean"}))
    assert accepts(light.result(timeout=60), True)
    assert not heavy.done()
    with pytest.raises(LimitExceeded):
        heavy.result(timeout=60)


@pytest.mark.parametrize("is_given_up", [False, True])
def test_closing_may_come_right_behind_a_result(byte_service: GrammarService, is_given_up: bool) -> None:
    grammar = byte_service.compile(Constraint.json_schema(PERSON))
    making = Making("key", Constraint.json_schema(PERSON))
    making.stop() if is_given_up else making.settle(grammar)
    for _ in range(2):  # the engine's end, and that of the lane in which it was made
        making.fail(NotReady("the engine has been closed"))
    assert making.future.cancelled() if is_given_up else making.future.result() is grammar


def test_a_closed_service_says_so(tmp_path: Path) -> None:
    service = service_at(tmp_path)
    service.close()
    with pytest.raises(NotReady):
        service.submit(Constraint.json_schema(PERSON))


@pytest.mark.parametrize(
    ("constraint", "error"),
    [
        (Constraint.ebnf('root ::= "a'), SchemaInvalid),
        (Constraint.ebnf('root ::= "a" root'), SchemaRefused),
        (Constraint.lark("start: x"), SchemaInvalid),
        (Constraint.regex("("), SchemaInvalid),
        (Constraint.regex("a^b"), SchemaRefused),
        (Constraint.structural_tag({"format": {"type": "nothing"}}), SchemaInvalid),
    ],
)
def test_other_constraints_fail_with_one_clean_line(
    byte_service: GrammarService, constraint: Constraint, error: type
) -> None:
    with pytest.raises(error) as caught:
        byte_service.compile(constraint)
    assert "\n" not in caught.value.message
    assert ".cc:" not in caught.value.message


def test_the_screen_refuses_what_is_too_large_and_names_what_is_heaviest() -> None:
    screen(Constraint.json_schema(PERSON), Limits())
    with pytest.raises(LimitExceeded, match="schema_bytes"):
        screen(Constraint.json_schema({"title": "x" * (1 << 20)}), Limits())
    found = heaviest(Constraint.json_schema({"properties": {"a/b": {"maxLength": 5000}, "c": {"maxLength": 9}}}))
    assert found == ("maxLength of 5000", "/properties/a~1b/maxLength")


def test_text_never_is_a_special_token(byte_service: GrammarService) -> None:
    vocabulary = byte_service.vocabulary
    assert vocabulary.texts[256] is None
    assert vocabulary.texts[257] is None
    assert vocabulary.texts[0xC0] is None
    assert vocabulary.texts[0xE0] == b"\xe0"
    with pytest.raises(ModelError):
        Vocabulary.of(byte_tokenizer(), 200)


def test_engines_of_one_process_share_a_vocabulary(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer([b"shared by two"])
    first = Vocabulary.of(tokenizer, 259, cache_dir=tmp_path / "first")
    second = Vocabulary.of(tokenizer, 259, cache_dir=tmp_path / "second")
    assert second.info is first.info
    assert second.segmenter is first.segmenter
    assert second.masks is not first.masks
    written = [[path.name for path in (tmp_path / name).iterdir()] for name in ("first", "second")]
    assert written[0] == written[1] != []
    assert Vocabulary.of(tokenizer, 260).info is not first.info
    fingerprint = first.fingerprint
    del first, second
    assert fingerprint not in vocabulary_module._BUILT


def test_threads_are_gone_after_closing(tmp_path: Path) -> None:
    before = threading.active_count()
    service = service_at(tmp_path)
    service.compile(Constraint.json_schema(PERSON))
    service.close()
    assert threading.active_count() <= before


def test_what_is_given_up_before_it_is_loaded_is_not_loaded(
    byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, loaded, lane = threading.Event(), list[object](), byte_service._maker._light
    held = [lane.put([None], go.wait) for _ in range(2)]
    monkeypatch.setattr("engine.grammar.store.maker.decode", lambda *_: loaded.append(1))
    future = byte_service.submit(Constraint.json_schema({"const": "given up before it is loaded"}))
    until = time.monotonic() + 60
    while not lane._waiting and time.monotonic() < until:
        time.sleep(0.01)
    assert lane._waiting
    assert future.cancel()
    go.set()
    assert all(one.result(60) for one in held)
    lane.put([None], list).result(60)  # behind it
    assert not loaded
