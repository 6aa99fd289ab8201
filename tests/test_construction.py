"""What is made is checked when it is made: settings, limits, sampling, requests, and schemas as people hold them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from engine import Constraint, EngineConfig, Limits, Request, RequestError, SamplingParams, SchemaInvalid


class City(BaseModel):
    name: str
    inhabitants: int


@dataclass
class Point:
    x: int
    y: int


class Colour(TypedDict):
    red: int


class Unwritable:
    """Nothing that JSON could hold."""


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (EngineConfig, {"forced_runs": "banana"}, "forced_runs must be one of off, verify, got 'banana'"),
        (EngineConfig, {"cpu_dtype": "fp16"}, "cpu_dtype must be one of float32, bfloat16, got 'fp16'"),
        (EngineConfig, {"threads": -3}, "threads must be in [1, 1024], got -3"),
        (EngineConfig, {"max_batch": "8"}, "max_batch must be an integer, got '8'"),
        (EngineConfig, {"max_batch": True}, "max_batch must be an integer, got True"),
        (EngineConfig, {"cache_dir": 3}, "cache_dir must be a string or a path, got 3"),
        (EngineConfig, {"overlap": "no"}, "overlap must be true or false, got 'no'"),
        (EngineConfig, {"limits": {"queue": 1}}, "limits must be a Limits, got {'queue': 1}"),
        (EngineConfig, {"model": None}, "model must be a string, got None"),
        (Limits, {"compile_s": 0}, "compile_s must be more than 0, got 0"),
        (Limits, {"queue": -1}, "queue must be at least 0, got -1"),
        (SamplingParams, {"temperature": float("nan")}, "temperature must be a finite number, got nan"),
        (SamplingParams, {"temperature": 10**400}, "temperature must be a finite number"),
        (SamplingParams, {"top_p": 0}, "top_p must be in (0, 1], got 0"),
        (SamplingParams, {"stop": [1]}, "stop must be a list of strings, got [1]"),
        (SamplingParams, {"seed": 2**64}, "seed must be in ["),
        (Request, {"prompt": 3}, "prompt must be a string, got 3"),
        (Request, {"prompt": "x", "constraint": {"type": "object"}}, "constraint must be a Constraint, got {'type'"),
        (Request, {"prompt": "x", "sampling": {"n": 2}}, "sampling must be a SamplingParams, got {'n': 2}"),
        (Request, {"prompt": "x", "deadline_s": "3"}, "deadline_s must be a finite number, got '3'"),
        (Request, {"prompt": "x", "system": 3}, "system must be a string, got 3"),
        (Request, {"messages": "hello"}, "messages must be a list of objects, got 'hello'"),
        (Request, {"prompt": "x", "tools": [3]}, "tools must be a list of objects, got [3]"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_when_it_is_given_and_the_field_is_named(
    kind: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        kind(**values)
    assert caught.value.message.startswith(message)
    assert caught.value.param == message.split()[0]


def test_a_cache_without_a_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "MASKLOOP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 9)  # a container's user whom no file names
    with pytest.raises(RequestError, match="this user has no home; set MASKLOOP_CACHE"):
        EngineConfig()


def test_a_path_may_be_text_and_a_sequence_is_kept_as_a_tuple() -> None:
    assert EngineConfig(cache_dir="/tmp/x").cache_folder == Path("/tmp/x")
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")
    assert SamplingParams(stop="a").stop == ("a",)
    messages = [{"role": "user", "content": "x"}]
    assert Request(messages=messages).messages == ({"role": "user", "content": "x"},)


@pytest.mark.parametrize("source", [City, Point, Colour])
def test_a_python_type_is_its_json_schema(source: type) -> None:
    schema = json.loads(Constraint.json_schema(source).source)
    assert schema["type"] == "object"
    assert schema["required"] == list(source.__annotations__)


def test_a_file_a_bundled_name_and_json_text_are_schemas(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"type": "null"}', encoding="utf-8-sig")
    assert Constraint.json_schema(file).source == Constraint.json_schema('{"type":"null"}').source == '{"type":"null"}'
    assert json.loads(Constraint.json_schema("lift_ir").source)["type"] == "object"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lift_ri", "no file and no bundled schema 'lift_ri'; bundled are: "),
        (Unwritable, "the type Unwritable has no JSON Schema: Unable to generate"),
        ([1], "schema must be a JSON object or a boolean, got list"),
        (None, "schema must be a JSON object or a boolean, got NoneType"),
    ],
)
def test_what_is_no_schema_is_told_in_one_line(source: Any, message: str) -> None:
    with pytest.raises(SchemaInvalid) as caught:
        Constraint.json_schema(source)
    assert caught.value.message.startswith(message)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nothing\.json: No such file"):
        Constraint.json_schema(tmp_path / "nothing.json")
