"""One request's matcher: accept, refuse, roll back, fork, fail, fill, force, end."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.errors import EngineFailure, GrammarDesync
from engine.grammar import BitmaskBuffer, GrammarService, Matcher
from engine.grammar.masks.bitmask import to_bools
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

STOP = 256


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> GrammarService:
    config = EngineConfig(cache_dir=tmp_path_factory.mktemp("cache"))
    service = GrammarService(byte_tokenizer([b"true", b'"}', b'":']), 269, config=config)
    yield service
    service.close()


def matcher(service: GrammarService, constraint: Constraint) -> Matcher:
    return service.compile(constraint).matcher("r1")


def feed(m: Matcher, text: str | bytes) -> None:
    for byte in text.encode() if isinstance(text, str) else text:
        assert m.accept(byte), (text, byte)


def test_a_refused_token_changes_nothing(service: GrammarService) -> None:
    m = matcher(service, Constraint.regex("ab"))
    feed(m, "a")
    assert not m.accept(ord("x"))
    assert not m.accept(10_000)
    assert not m.accept(-1)
    assert m.tokens == 1
    assert m.error is None
    feed(m, "b")
    assert m.completed
    assert not m.terminated


def test_stop_token_only_at_the_end_and_rollback_undoes_it(service: GrammarService) -> None:
    m = matcher(service, Constraint.choice(["yes", "no"]))
    assert not m.accept(STOP)
    feed(m, "no")
    assert m.accept(STOP)
    assert m.terminated
    assert m.token_ids == (110, 111, STOP)
    assert not m.accept(STOP)
    with pytest.raises(ValueError):
        m.fill(np.zeros((1, 9), dtype=np.int32), 0)
    m.rollback(2)
    assert not m.terminated
    assert m.token_ids == (110,)
    with pytest.raises(ValueError):
        m.rollback(2)


def test_the_first_failure_stays(service: GrammarService) -> None:
    m = matcher(service, Constraint.choice(["yes"]))
    error = m.fail(token_id=7)
    assert isinstance(error, GrammarDesync)
    assert "r1" in error.message
    assert "token 7" in error.message
    assert m.fail(EngineFailure("later")) is error
    assert not m.accept(ord("y"))
    with pytest.raises(ValueError):
        m.fill(np.zeros((1, 9), dtype=np.int32), 0)


def test_a_fork_is_independent(service: GrammarService) -> None:
    m = matcher(service, Constraint.regex("[ab]{4}"))
    feed(m, "a")
    other = m.fork()
    feed(other, "bb")
    assert m.tokens == 1
    assert other.tokens == 3
    feed(m, "aaa")
    assert m.completed
    assert not other.completed


def test_fill_counts_legal_tokens_and_leaves_no_bit_beyond_the_vocabulary(service: GrammarService) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    m = matcher(service, Constraint.json_schema(schema))
    buffer = BitmaskBuffer(2, 269)
    assert m.fill(buffer.array, 1) == 1
    assert m.fill(buffer.tensor, 1) == 1
    assert np.flatnonzero(to_bools(buffer.array[1], 269)).tolist() == [ord("{")]
    feed(m, '{"a":')
    assert m.fill(buffer.array, 0) == 3  # t, f, true
    assert (buffer.array[0].view(np.uint32)[-1] >> 13) == 0


def test_forced_text_survives_a_split_character(service: GrammarService) -> None:
    m = matcher(service, Constraint.choice(["añb"]))
    assert m.forced() == "añb".encode()
    feed(m, b"a\xc3")
    assert m.forced() == b""
    feed(m, b"\xb1")
    assert m.forced() == b"b"


@pytest.mark.parametrize("prefix", ["", "{", '{"a":"x', '{"a":"\\', '{"a":"xyz"', '{"a":"","b":[1', '{"a":"","b":[1,-'])
def test_an_ending_is_legal_and_stops(service: GrammarService, prefix: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
        "required": ["a", "b"],
    }
    m = matcher(service, Constraint.json_schema(schema))
    feed(m, prefix)
    need = m.need()
    ending = m.ending(need)
    assert ending is not None
    assert len(ending) == need
    assert m.ending(need - 1) is None
    assert all(m.accept(token) for token in ending)
    assert m.terminated
    tokens = service.vocabulary
    json.loads(b"".join(tokens.texts[t] or b"" for t in m.token_ids))


def test_along_an_ending_that_is_known_nothing_is_looked_for(service: GrammarService) -> None:
    m = matcher(service, Constraint.json_schema({"type": "array", "items": {"enum": [1, 22]}, "minItems": 3}))
    feed(m, "[22,")
    limit = m.need()
    ending = m.ending(limit)
    assert ending is not None
    for left in range(limit, 0, -1):
        assert m.seek(left, 0)
        assert m.shortest_ending() == ending[-left:]
        assert m.accept(ending[-left])
    assert m.terminated


def test_off_an_ending_that_is_known_another_is_looked_for(service: GrammarService) -> None:
    m = matcher(service, Constraint.json_schema({"type": "array", "items": {"enum": [1, 22]}, "minItems": 3}))
    feed(m, "[22,")
    other = m.need()
    feed(m, "2")
    assert not m.seek(other, 0)
    assert m.need() == other


def test_cache_folder_is_private(service: GrammarService, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=folder)).close()
    assert (folder / "grammars").stat().st_mode & 0o077 == 0


def test_schemas_inside_structural_tags_hold_what_they_say(service: GrammarService) -> None:
    schema = {"type": "object", "properties": {"s": {"type": "string", "minLength": 2}}, "required": ["s"]}
    content = {"type": "json_schema", "json_schema": schema}
    tags = [{"begin": "<f>", "content": content, "end": "</f>"}]
    tag = {"format": {"type": "triggered_tags", "triggers": ["<f>"], "tags": tags}}
    grammar = service.compile(Constraint.structural_tag(tag))
    assert grammar.accepts(b'text <f>{"s":"\\n\\""}</f> more')
    assert not grammar.accepts(b'<f>{"s":"a"}</f>')
    assert not grammar.accepts(b'<f>{"s":"a\tb"}</f>')
    assert grammar.accepts(b"no call at all")
    pointers = {verdict.pointer for verdict in grammar.verdicts}
    assert "/format/tags/0/content/json_schema/properties/s" in pointers
    m = grammar.matcher()
    feed(m, 'so <f>{"s":"x')
    ending = m.ending(30)
    assert ending is not None
    assert all(m.accept(token) for token in ending)


NUMBER = {"type": "json_schema", "json_schema": {"type": "integer"}}
TAG = {"type": "tag", "begin": "<é>", "content": NUMBER, "end": "</é>"}
TAGS = {"type": "triggered_tags", "triggers": ["<é"], "tags": [TAG]}


@pytest.mark.parametrize("constraint", [
    Constraint.structural_tag({"format": TAGS}), Constraint.structural_tag({"format": {"type": "any_text"}}),
    Constraint.ebnf('root ::= TagDispatch(("<a", r))\nr ::= "b"'),
])  # fmt: skip
def test_free_text_is_utf_8_and_holds_no_special_token(service: GrammarService, constraint: Constraint) -> None:
    """A vocabulary of all bytes, some in pairs that no text holds, and special tokens beside the stop token."""
    grammar = service.compile(constraint)
    buffer, texts = BitmaskBuffer(1, grammar.vocabulary.size), grammar.vocabulary.texts
    for seed in range(8):
        chance, m = random.Random(seed), grammar.matcher()
        for _ in range(25):
            m.fill(buffer.array, 0)
            legal = np.flatnonzero(to_bools(buffer.array[0], grammar.vocabulary.size)).tolist()
            written = m.text(m.token_ids)
            begun = {t for t, text in enumerate(texts) if text and _begins(written + text)}
            assert set(legal) - {STOP} <= begun, written
            assert (STOP not in legal) or _is_text(written)
            assert not _is_text(written) or {ord("a"), 0xC3, 0xF0, STOP} <= set(legal) or b"<" in written
            several = [token for token in legal if token > 127 and token != STOP] or [ord("z")]
            assert m.accept(chance.choice(several))
        ending = m.ending(40)
        assert ending
        assert _is_text(m.text(m.token_ids) + m.text(ending))


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode()) or not data
    except UnicodeDecodeError:
        return False


def _begins(data: bytes) -> bool:
    ends = (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x80" * 3, b"\xbf" * 3)
    return any(_is_text(data + end) for end in ends)


def test_brackets_in_a_string_that_is_still_open_end_no_value(service: GrammarService) -> None:
    twice = {"type": "string", "pattern": r"^(.+)\1$"}
    grammar = service.compile(Constraint.json_schema({"type": "array", "items": twice}))
    assert grammar.judge is not None
    m = grammar.matcher()
    for text in ('["a]', 'a]"', ',"x}', "x}b,", 'x}x}b,"', ',"y]'):
        feed(m, text)
        assert m.retreat() is None, text
    feed(m, '"')
    assert m.retreat() is not None
    assert bytes(m.token_ids).startswith(b'["a]a]","x}x}b,x}x}b,",')


def test_a_failed_value_is_taken_back_and_its_first_token_banned(service: GrammarService) -> None:
    items = {"items": {"type": "string"}, "uniqueItems": True, "contains": {"minLength": 1}, "minItems": 2}
    schema = {"type": "array", **items}
    grammar = service.compile(Constraint.json_schema(schema))
    assert grammar.judge is not None
    m = grammar.matcher()
    feed(m, '["a","b"')
    assert m.retreat() is None
    feed(m, ',"a"]')
    taken = m.retreat()
    assert taken is not None
    assert m.tokens < len('["a","b","a"]')
    text = bytes(m.token_ids)
    banned = b'["a","b","a"]'[len(text)]
    mask = np.zeros((1, 9), dtype=np.int32)
    assert not m.accept(banned)
    assert m.fill(mask, 0) == 0 or not to_bools(mask[0], 269)[banned]
