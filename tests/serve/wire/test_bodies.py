"""Bodies that are wrong in some place: refused by name and pointer, before they cost anything; never a 500."""

# ruff: noqa: E501 - a case a line reads best

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from engine import Request, RequestError
from engine.config import Limits
from engine.serve.lift.body import CheckBody, LiftBody
from engine.serve.openai.body import ChatBody, CompletionBody
from engine.serve.openai.responses_body import ResponsesBody
from engine.serve.wire import json_body
from engine.serve.wire.body import MOST_FIELDS, Body
from engine.serve.wire.json_body import AT_ONCE_BYTES, MOST_VALUES, read_json
from tests.decode.fakes import ByteTokenizer, fake_engine, random_logits
from tests.hostile.growth import PIECE_S
from tests.serve.fakes import Server

LONE = "\ud800"
USER = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}}}  # fmt: skip
LIFT = {"prompt": "x", "max_tokens": 8, "schema": {"type": "object", "properties": {"a": {"type": "boolean"}}}}
CHAT = {"model": "fake", "messages": USER, "max_tokens": 30}
TEXT = {"model": "fake", "prompt": "x", "max_tokens": 8}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = Limits(prompt_bytes=100_000, compile_s=1.5)
    engine, _ = fake_engine(random_logits(5), tmp_path_factory.mktemp("bodies"), limits=limits)
    with Server(engine) as running:
        yield running


def post(server: Server, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = server.client.post(path, content=content, headers={"content-type": "application/json"})
    return answer.status_code, answer.json()


def refused(server: Server, path: str, body: Any) -> dict[str, Any]:
    code, answer = post(server, path, body)
    assert code in (400, 413, 422), (code, answer)
    error: dict[str, Any] = answer["error"]
    assert error["type"] not in ("EngineFailure", "error")
    return error


LONE_SURROGATES = [
    ("/generate", {"prompt": LONE}, "prompt", ""),
    ("/generate", {"prompt": "x", "system": LONE}, "system", ""),
    ("/generate", {"messages": [{"role": LONE, "content": "x"}]}, "messages", "/0/role"),
    ("/generate", {"messages": [{"role": "user", "content": "x", LONE: 1}]}, "messages", "/0"),
    ("/generate", {"messages": [{"role": "user", "content": [{"type": "text", "text": LONE}]}]}, "messages", "/0/content/0/text"),
    ("/generate", {"prompt": "x", "id": LONE}, "id", ""),
    ("/generate", {"prompt": "x", "cache_salt": LONE}, "cache_salt", ""),
    ("/generate", {"prompt": "x", "stop": ["a", LONE]}, "stop", "/1"),
    ("/generate", {"prompt": "x", "tools": [{"name": LONE}]}, "tools", "/0/name"),
    ("/generate", {"prompt": "x", "schema": {"properties": {LONE: {}}}}, "schema", "/properties"),
    ("/generate", {"prompt": "x", "schema": {"const": {"a/b": [LONE]}}}, "schema", "/const/a~1b/0"),
    ("/generate", {"prompt": "x", "regex": LONE}, "regex", ""),
    ("/generate", {"prompt": "x", "choice": ["a", LONE]}, "choice", "/1"),
    ("/generate", {"prompt": "x", "ebnf": f'root ::= "{LONE}"'}, "ebnf", ""),
    ("/generate", {"prompt": "x", LONE: 1}, None, ""),
    ("/check", {"schema": {"enum": [LONE]}}, "schema", "/enum/0"),
    ("/v1/chat/completions", {**CHAT, "model": LONE}, "model", ""),
    ("/v1/chat/completions", {**CHAT, "user": LONE}, "user", ""),
    ("/v1/chat/completions", {**CHAT, "tools": [{**TOOL, "function": {**TOOL["function"], "name": LONE}}]}, "tools", "/0/function/name"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "tool", "tool_call_id": LONE, "content": "x"}]}, "messages", "/0/tool_call_id"),
    ("/v1/completions", {**TEXT, "prompt": ["a", LONE]}, "prompt", "/1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param", "pointer"), LONE_SURROGATES, ids=lambda part: None)
def test_a_lone_surrogate_is_refused_wherever_it_stands(
    server: Server, path: str, body: Any, param: str | None, pointer: str
) -> None:
    error = refused(server, path, body)
    assert "surrogate" in error["message"]
    if param is not None:
        assert (error["param"], error["pointer"]) == (param, pointer)


def test_a_surrogate_pair_is_a_character(server: Server) -> None:
    assert post(server, "/generate", b'{"prompt":"\\ud83d\\ude00","max_tokens":2}')[0] == 200


@pytest.mark.parametrize(("name", "value"), [
    ("system", LONE), ("id", LONE), ("id", "x" * 201), ("cache_salt", "x" * 1001), ("messages", [{"role": LONE, "content": "x"}]),
    ("tools", [{LONE: 1}]), ("tools", [{"a": float("nan")}]), ("tools", [{"a": {1, 2}}]), ("tools", [{1: 2}]),
    ("messages", [{"role": "user", "content": "x", "tool_calls": 7}]), ("messages", [{"role": "user", "content": "x", "a": b"x"}]),
])  # fmt: skip
def test_the_library_refuses_the_same(name: str, value: Any) -> None:
    prompt = {} if name == "messages" else {"prompt": "x"}
    with pytest.raises(RequestError) as caught:
        Request(**prompt, **{name: value})
    assert caught.value.param == name


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("messages", "pointer"), [
    ([{"role": "user", "content": "x", "tool_calls": 7}], "/0/tool_calls"),
    ([{"role": "assistant", "content": None, "tool_calls": "no"}], "/0/tool_calls"),
    ([{"role": "assistant", "content": None, "tool_calls": [7]}], "/0/tool_calls/0"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": 7}}]}], "/0/tool_calls/0"),
    ([{"role": "assistant", "tool_calls": [{"id": 7, "function": {"name": "f"}}]}], "/0/tool_calls/0/id"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 7}}]}], "/0/tool_calls/0/function/arguments"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "/0/tool_calls/0/function/arguments"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(nested(300))}}]}], "/0/tool_calls/0/function/arguments"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '"\\ud800"'}}]}], "/0/tool_calls/0/function/arguments"),
    ([{"role": "assistant", "content": None, "refusal": 7}], "/0/refusal"),
    ([{"role": "tool", "content": "x", "tool_call_id": 7}], "/0/tool_call_id"),
    ([{"role": "user", "name": [], "content": "x"}], "/0/name"),
    ([{"role": 7, "content": "x"}], "/0/role"),
    ([{"role": "user", "content": 7}], "/0/content"),
    ([{"role": "user", "content": []}], "/0/content"),
    ([{"role": "user", "content": [7]}], "/0/content/0"),
    ([{"role": "user", "content": [{"type": [], "text": "x"}]}], "/0/content/0"),
    ([*USER, {"role": "user"}], "/1/content"),
])  # fmt: skip
def test_a_message_of_the_wrong_shape_is_refused_with_its_place(server: Server, messages: Any, pointer: str) -> None:
    error = refused(server, "/v1/chat/completions", {**CHAT, "messages": messages})
    assert (error["param"], error["pointer"]) == ("messages", pointer)
    assert refused(server, "/v1/chat/completions", {**CHAT, "messages": messages, "stream": True})["pointer"] == pointer


@pytest.mark.parametrize("parameter", [
    {"enum": 7}, {"enum": {}}, {"type": 7}, {"type": "strange"}, {"type": []}, {"minLength": "x"}, {"minLength": -1}, {"maxLength": 1.5},
    {"anyOf": [1, 2]}, {"anyOf": {}}, {"pattern": "("}, {"pattern": 7}, {"format": 7}, {"properties": 7}, {"properties": {"a": 7}},
    {"items": 7}, {"required": 5}, {"minimum": "x"}, {"$ref": 7}, {"$ref": "#/nowhere"}, {"$ref": "https://example.com/x"},
    {"not": 7}, {"$defs": 7}, {"patternProperties": {"(": {}}}, {"additionalProperties": 7}, {"multipleOf": 0}, 7, "x", None, [],
], ids=str)  # fmt: skip
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_broken_schema_of_a_tool_is_refused_like_any_other_schema(
    server: Server, parameter: Any, choice: str
) -> None:
    tool = copy.deepcopy(TOOL)
    tool["function"]["parameters"]["properties"]["a"] = parameter  # type: ignore[index]
    error = refused(server, "/v1/chat/completions", {**CHAT, "tools": [tool], "tool_choice": choice})
    assert error["param"] == "tools"


@pytest.mark.parametrize("parameters", [
    {"required": 5}, {"properties": []}, {"required": ["a", "a"]}, {"allOf": 7}, {"type": "array"}, {"type": ["object"], "properties": 1}, 7, [1],
], ids=str)  # fmt: skip
def test_so_is_what_is_broken_around_the_parameters(server: Server, parameters: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    error = refused(server, "/v1/chat/completions", {**CHAT, "tools": [TOOL, tool]} | {"tools": [tool]})
    assert error["param"] == "tools"


LONG = "word " * 30_000
TOO_LONG = [
    ("/generate", {"prompt": LONG}, "prompt"),
    ("/generate", {"prompt": "x", "system": LONG}, "system"),
    ("/generate", {"prompt": "x", "tools": [{"name": LONG}]}, "tools"),
    ("/generate", {"prompt": "x", "tools": [{LONG: 1}]}, "tools"),
    ("/generate", {"messages": [{"role": LONG, "content": "x"}]}, "messages"),
    ("/generate", {"messages": [{"role": "user", "content": "x"}] * 20_000}, "messages"),
    ("/generate", {"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}]}]}, "messages"),
    ("/generate", {"prompt": "x", "schema_in_prompt": True, "schema": {"description": LONG}}, "schema"),
    ("/generate", {"prompt": "x", "id": LONG}, "id"),
    ("/generate", {"prompt": "x", "cache_salt": LONG}, "cache_salt"),
    ("/generate", {"prompt": "x", "stop": [LONG]}, "stop"),
    ("/generate", {"prompt": "x", "stop": ["a"] * 1000}, "stop"),
    ("/generate", {"prompt": LONG[:60_000], "system": LONG[:60_000]}, "prompt"),
    ("/v1/chat/completions", {**CHAT, "tools": [{**TOOL, "function": {**TOOL["function"], "description": LONG}}]}, "tools"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(LONG)}}]}]}, "messages"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "name": LONG, "content": "x"}]}, "messages"),
    ("/v1/completions", {**TEXT, "prompt": [LONG]}, "prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), TOO_LONG, ids=[f"{path} {param}" for path, _, param in TOO_LONG])
def test_every_text_counts_towards_the_limit_and_none_of_it_is_tokenised(
    server: Server, path: str, body: Any, param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: pytest.fail("it was tokenised"))
    monkeypatch.setattr(ByteTokenizer, "chat", lambda self, messages, tools=None: pytest.fail("it was tokenised"))
    assert refused(server, path, body)["param"] == param


def test_what_cannot_fit_the_context_is_tokenised_in_small_pieces_until_that_shows(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = ByteTokenizer.encode

    def spy(self: ByteTokenizer, text: str) -> list[int]:
        seen.append(len(text))
        return encode(self, text)

    monkeypatch.setattr(ByteTokenizer, "encode", spy)
    error = refused(server, "/generate", {"prompt": "x", "system": "word " * 19_000})
    assert (error["type"], error["param"]) == ("PromptTooLong", "system")
    assert sum(seen) <= 2 * 8_192
    assert post(server, "/generate", {"prompt": "the" * 640, "max_tokens": 2})[0] == 200


UNREADABLE = {
    "NaN anywhere": b'{"model":"fake","messages":[{"role":"user","content":"x"}],"metadata":{"a":NaN}}',
    "a number beyond every number": b'{"model":"fake","messages":[{"role":"user","content":"x"}],"metadata":{"a":1e999}}',
    "many integers beyond every float": b'{"model":"fake","metadata":{"a":[' + b",".join([b"1" * 4200] * 16) + b"]}}",
    "an integer of 10,000 digits": b'{"model":"fake","seed":' + b"9" * 10_000 + b"}",
    "deep metadata": b'{"model":"fake","metadata":{"a":' + b"[" * 300 + b"]" * 300 + b"}}",
    "very deep metadata": b'{"model":"fake","metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "UTF-16": json.dumps(CHAT).encode("utf-16"),
    "Latin-1": json.dumps({**CHAT, "user": "é"}, ensure_ascii=False).encode("latin-1"),
    "a million lists": b'{"model":"fake","messages":[' + b"[]," * 1_000_000 + b"[]]}",
    "a million strings": b'{"model":"fake","messages":["' + b'","' * 1_000_000 + b'"]}',
    "a million keys": b'{"model":"fake"' + b',"a":1' * 900_000 + b"}",
    "quotes that are escaped": b'{"model":"\\\\","messages":[' + b'"\\"",[],' * 200_000 + b"[]]}",
}  # fmt: skip


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_told_what_is_wrong(server: Server, body: bytes) -> None:
    error = refused(server, "/v1/chat/completions", body)
    assert error["type"] in ("Malformed", "BodyTooLarge", "RequestError")


def test_a_long_text_full_of_commas_is_one_value(server: Server) -> None:
    error = refused(server, "/generate", {"prompt": ',[{\\"' * (MOST_VALUES + 1)})
    assert error["type"] == "PromptTooLong"


MANY = MOST_FIELDS + 50
ALIKE: list[Any] = [
    *([part] * MANY for part in (None, 1, 1.5, "a", [], {}, ["a"], [1], [[1]], {"a": 1})),
    *({f"k{i}": part for i in range(MANY)} for part in (None, 1, 1.5, "a", [], {}, ["a"], [1], [[1]], {"a": 1})),
]  # fmt: skip
PLACED = [*ALIKE, *({"/a": part, "json": part, "choice": part} for part in ALIKE), *([part] for part in ALIKE)]


@pytest.mark.parametrize("model", [LiftBody, CheckBody, ChatBody, CompletionBody, ResponsesBody])
def test_a_mistake_made_many_times_is_told_a_few_times_wherever_it_is_made(model: type[Body]) -> None:
    """Each takes 5 microseconds of the event loop, for each kind that a value might have been."""
    bodies = [{field.alias or name: part} for name, field in model.model_fields.items() for part in PLACED]
    for body in [*bodies, {f"k{i}": 1 for i in range(50_000)}]:
        try:
            model.model_validate(body)
        except ValidationError as error:
            assert error.error_count() < 12, str(body)[:100]  # noqa: PT017 - some are right


NASTY: list[Any] = [
    None, True, False, 0, -1, 7, 1.5, 10**30, -(10**30), 1e300, "", "x", "\x00", LONE, "x" * 5000, "()[]{}*+\\", [], {}, [7], [None], {"a": 7},
    {"": ""}, {LONE: 1}, [[]], [{}], [LONE], nested(40), {"type": 7}, {"type": "object"}, {"$ref": "#"}, ["x", "x"],
]  # fmt: skip
BASES: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {**LIFT, "system": "s", "id": "one", "seed": 1, "n": 1, "stop": None, "logprobs": 1, "cache_salt": "s", "deadline_s": 5}),
    ("/generate", {"messages": [*USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}], "tools": [TOOL], "stop": ["x"], "max_tokens": 2}),
    ("/generate", {"prompt": "x", "structural_tag": {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": {"type": "null"}}}}),
    ("/generate", {"prompt": "x", "choice": ["a", "b"], "max_tokens": 4}),
    ("/generate_ir", {"prompt": "x", "max_tokens": 3}),
    ("/", {"prompt": "x", "regex": "[ab]{2}", "max_tokens": 4}),
    ("/check", {"schema": LIFT["schema"], "conformance": "spec"}),
    ("/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": False}),
    ("/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}}}),
    ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "boolean"}}}, "logprobs": True, "top_logprobs": 2}),
    ("/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, *USER]}),
    ("/v1/chat/completions", {**CHAT, "structured_outputs": {"json": {"type": "boolean"}}, "logit_bias": {}, "metadata": {"a": "b"}}),
    ("/v1/completions", {**TEXT, "prompt": ["x", "y"], "n": 2, "stop": ["x"], "logprobs": 1}),
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, ...]]:
    """Every path into a JSON value but the root's."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, part in inner for path in ((key,), *((key, *rest) for rest in places(part)))]


def with_part(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = part
    return made


@st.composite
def wrong_bodies(draw: st.DrawFn) -> tuple[str, Any]:
    """A body that is right, with one or two of its parts replaced."""
    path, body = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(1, 2))):
        body = with_part(body, draw(st.sampled_from(places(body))), draw(st.sampled_from(NASTY)))
        if not places(body):
            break
    return path, body


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(wrong_bodies())
def test_a_mistake_of_the_client_is_never_a_500(server: Server, asked: tuple[str, Any]) -> None:
    path, body = asked
    answer = server.client.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert answer.status_code < 500 or answer.status_code == 504, (path, body, answer.text)
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"]
        assert error["type"]
    elif "event-stream" in answer.headers["content-type"]:
        assert "EngineFailure" not in answer.text


@pytest.mark.parametrize(("headers", "named"), [
    ({}, "content-type must be application/json, got ''"),
    ({"content-type": "application/x-www-form-urlencoded"}, "got 'application/x-www-form-urlencoded'"),  # curl --data
    ({"content-type": "text/plain"}, "got 'text/plain'"),
    ({"content-type": "application/json", "content-encoding": "gzip"}, "compressed (content-encoding)"),
])  # fmt: skip
@pytest.mark.parametrize("path", ["/generate", "/check", "/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_body_of_another_form_is_told_its_header(
    server: Server, path: str, headers: dict[str, str], named: str
) -> None:
    answer = server.client.post(path, content=b'{"prompt": "x"}', headers=headers)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"])
def test_json_goes_by_several_names(server: Server, kind: str) -> None:
    answer = server.client.post("/check", content=b'{"schema": {}}', headers={"content-type": kind})
    assert answer.status_code == 200


LARGE = {
    "long integers": b'{"x":[' + b",".join([b"1" * 308] * 18_000) + b"]}",
    "many integers": b'{"x":[' + b",".join([b"1" * 55] * 90_000) + b"]}",
    "escaped texts": b'{"x":[' + b",".join([b'"' + b"\\u0041" * 20 + b'"'] * 40_000) + b"]}",
    "a text": b'{"x":"' + b"\\u4e00" * 800_000 + b'"}',
    "a text of lines": b'{"x":"' + b"x\\n" * 1_500_000 + b'"}',
    "a text of quotes": b'{"x":"' + b'\\"' * 2_000_000 + b'"}',
    "a text of pairs": b'{"x":"' + b"\\ud83d\\ude00" * 400_000 + b'"}',
}


def longest_call(work: Callable[[], Any]) -> float:
    """CPU seconds of the longest call of C code, which may keep the interpreter from everybody."""
    begun: list[float] = []
    longest = [0.0]

    def note(_: Any, event: str, __: Any) -> None:
        if event == "c_call":
            begun.append(time.thread_time())
        elif event in ("c_return", "c_exception") and begun:
            longest[0] = max(longest[0], time.thread_time() - begun.pop())

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return longest[0]


@pytest.mark.parametrize("name", LARGE)
def test_a_large_body_is_read_in_pieces_and_read_rightly(name: str) -> None:
    assert len(LARGE[name]) > AT_ONCE_BYTES
    tries = (longest_call(lambda: read_json(LARGE[name])) for _ in range(3))
    assert any(longest < PIECE_S for longest in tries), "a machine may hold one of 361,000 calls up, but not each time"
    assert read_json(LARGE[name]) == json.loads(LARGE[name])


@pytest.mark.parametrize("name", [name for name in LARGE if name.startswith("a text")])
def test_no_part_of_a_long_text_takes_as_long_as_all_of_it(name: str) -> None:
    """Looking for its end and its escapes; to decode the bytes of a body is one call, a sixth of that."""
    text = LARGE[name].decode()
    begin = text.index(":") + 2
    at_once = longest_call(lambda: json_body._scan(text, begin, True))
    assert longest_call(lambda: json_body._string(text, begin)) < at_once / 4


TEXT_PARTS = (
    "a",
    "é",
    "😀",
    "\\n",
    "\\\\",
    '\\"',
    "\\u00e9",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "\\u1",
    "\\x",
    "\1",
    '"',
)


def read_text(scan: Callable[..., tuple[str, int]], text: str) -> tuple[Any, ...]:
    try:
        return scan(text, 1, True)
    except json.JSONDecodeError as error:
        return error.msg, error.pos


@settings(max_examples=2000, deadline=None)
@given(parts=st.lists(st.sampled_from(TEXT_PARTS), max_size=40), end=st.sampled_from(['"', '" more', ""]))
def test_a_text_in_pieces_is_what_it_is_in_one(parts: list[str], end: str) -> None:
    text = '"' + "".join(parts) + end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "_SHORT", 13)
        patch.setattr(json_body, "_BLOCK", 32)
        assert read_text(json_body._string, text) == read_text(json_body._scan, text)


def test_more_messages_than_the_context_holds_tokens_are_refused_before_they_are_rendered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.engine.tokenizer, "chat", lambda *_, **__: pytest.fail("rendered"))
    error = refused(server, "/v1/chat/completions", {**CHAT, "messages": USER * 20_000})
    assert (error["type"], error["param"]) == ("PromptTooLong", "messages")
