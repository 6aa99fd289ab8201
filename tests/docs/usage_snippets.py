"""Ways in which people use the package, each a function: type checkers read this file, and tests run it.

`assert_type` says how precise the types are. An engine is handed in where one is needed.
"""

# pyright: strict

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel
from typing_extensions import TypedDict

from engine import (
    BudgetTooSmall,
    Constraint,
    ConstraintError,
    Engine,
    EngineConfig,
    EngineError,
    Limits,
    QueueFull,
    Request,
    RequestError,
    Result,
    SamplingParams,
    SchemaRefused,
    Timings,
    UnknownOption,
    Usage,
    __version__,
)

COLOUR: dict[str, Any] = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
Snippet = Callable[[Engine], None]
SNIPPETS: list[Snippet] = []


def snippet(function: Snippet) -> Snippet:
    SNIPPETS.append(function)
    return function


class City(BaseModel):
    large: bool


@dataclass
class Point:
    x: bool


class Flag(TypedDict):
    on: bool


@snippet
def a_prompt_and_a_schema(engine: Engine) -> None:
    result = engine.generate("Name a colour", schema=COLOUR, max_tokens=30)
    assert_type(result, Result)
    assert result.value["colour"] in ("red", "blue")


@snippet
def a_pydantic_model(engine: Engine) -> None:
    city = City.model_validate(engine.generate("Is Rome large?", schema=City, max_tokens=20).value)
    assert_type(city.large, bool)


@snippet
def a_dataclass(engine: Engine) -> None:
    assert Point(**engine.generate("A point", schema=Point, max_tokens=20).value)


@snippet
def a_typed_dict(engine: Engine) -> None:
    flag: Flag = engine.generate("On or off?", schema=Flag, max_tokens=20).value
    assert flag["on"] in (True, False)


@snippet
def a_bundled_schema(engine: Engine) -> None:
    result = engine.generate("Add two numbers", schema="lift_ir", max_tokens=26)
    assert result.status in ("complete", "closed")


@snippet
def a_schema_in_a_file(engine: Engine) -> None:
    path = Path(__file__).parents[2] / "schemas" / "lift_ir.json"
    assert engine.generate("Add two numbers", schema=path, max_tokens=26).valid


@snippet
def a_boolean_schema(engine: Engine) -> None:
    assert engine.generate("Anything", schema=True, max_tokens=20).valid


@snippet
def a_regular_expression(engine: Engine) -> None:
    assert engine.generate("A year", regex="[12][0-9]{3}", max_tokens=10).text.isdigit()


@snippet
def a_choice(engine: Engine) -> None:
    assert engine.generate("Yes or no?", choice=["yes", "no"], max_tokens=10).text in ("yes", "no")


@snippet
def an_ebnf_grammar(engine: Engine) -> None:
    assert engine.generate("Bits", ebnf='root ::= ("0" | "1") root | "."', max_tokens=10).text.endswith(".")


@snippet
def a_lark_grammar(engine: Engine) -> None:
    assert engine.generate("A word", lark='start: "a" | "b"', max_tokens=10).text in ("a", "b")


@snippet
def any_json_object(engine: Engine) -> None:
    assert isinstance(engine.generate("An object", json_object=True, max_tokens=20).value, dict)


@snippet
def free_text(engine: Engine) -> None:
    assert engine.generate("Say hi", max_tokens=3).usage.completion_tokens <= 3


@snippet
def greedy_and_seeded(engine: Engine) -> None:
    first, second = (engine.generate("Hi", temperature=0.7, seed=3, max_tokens=4) for _ in range(2))
    assert first.token_ids == second.token_ids
    assert_type(first.token_ids, tuple[int, ...])


@snippet
def samples(engine: Engine) -> None:
    result = engine.generate("Yes or no?", choice=["yes", "no"], n=2, max_tokens=5)
    assert_type(result.samples, tuple[Result, ...])
    assert len(result.samples) == 2


@snippet
def stop_texts(engine: Engine) -> None:
    assert engine.generate("Count", stop=["\n", "."], max_tokens=5).ok
    assert engine.generate("Count", stop="\n", max_tokens=5).ok


@snippet
def log_probabilities(engine: Engine) -> None:
    result = engine.generate("Hi", logprobs=2, max_tokens=2)
    assert_type(result.logprobs, tuple[dict[str, Any], ...] | None)
    assert result.logprobs


@snippet
def a_conversation(engine: Engine) -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert engine.generate(messages=messages, max_tokens=3).text


@snippet
def a_system_message_and_raw_text(engine: Engine) -> None:
    assert engine.generate("Hi", system="Be short.", max_tokens=3).ok
    assert engine.generate("Once upon", template="raw", max_tokens=3).ok


@snippet
def the_schema_in_the_prompt(engine: Engine) -> None:
    assert engine.generate("A colour", schema=COLOUR, schema_in_prompt=True, max_tokens=30).valid


@snippet
def a_request_object(engine: Engine) -> None:
    request = Request(
        prompt="Name a colour",
        constraint=Constraint.json_schema(COLOUR, conformance="spec"),
        sampling=SamplingParams(max_tokens=40, temperature=0),
    )
    assert_type(request.constraint, Constraint | None)
    assert engine.generate(request).valid


@snippet
def many_requests(engine: Engine) -> None:
    requests = [Request(prompt="Hi", sampling=SamplingParams(max_tokens=2)) for _ in range(3)]
    assert_type(engine.generate_batch(requests), list[Result])
    for result in engine.generate_each(requests):
        assert_type(result, Result)


@snippet
def a_stream(engine: Engine) -> None:
    pieces = engine.stream("Hi", max_tokens=3)
    assert_type(pieces, Iterator[str | Result])
    *texts, last = pieces
    assert isinstance(last, Result)
    assert "".join(str(text) for text in texts) == last.text


@snippet
def a_future(engine: Engine) -> None:
    future = engine.submit(Request(prompt="Hi", sampling=SamplingParams(max_tokens=2)), owner="me")
    assert_type(future, Future[Result])
    assert future.result().ok


@snippet
def a_cancelled_future(engine: Engine) -> None:
    assert engine.submit(Request(prompt="Hi")).cancel()


@snippet
def pieces_as_they_come(engine: Engine) -> None:
    seen: list[str] = []

    def listen(sample: int, text: str) -> None:
        seen.append(text)

    engine.submit(Request(prompt="Hi", sampling=SamplingParams(max_tokens=3)), on_text=listen).result()
    assert seen


@snippet
def from_an_event_loop(engine: Engine) -> None:
    async def ask() -> Result:
        first, second = await asyncio.gather(
            engine.agenerate("Hi", max_tokens=2), engine.agenerate("A colour", schema=COLOUR, max_tokens=30)
        )
        assert_type(first, Result)
        assert first.ok
        return second

    assert asyncio.run(ask()).valid


@snippet
def a_stream_from_an_event_loop(engine: Engine) -> None:
    async def ask() -> list[str | Result]:
        pieces = engine.astream("Hi", max_tokens=3)
        assert_type(pieces, AsyncIterator[str | Result])
        return [piece async for piece in pieces]

    assert isinstance(asyncio.run(ask())[-1], Result)


@snippet
def what_it_took(engine: Engine) -> None:
    result = engine.generate("Hi", max_tokens=2)
    assert_type(result.timings_ms, Timings)
    assert_type(result.usage, Usage)
    assert result.timings_ms.total > 0


@snippet
def a_result_as_plain_values(engine: Engine) -> None:
    result = engine.generate("Hi", max_tokens=2)
    assert_type(result.to_dict(), dict[str, Any])
    assert_type(result.to_json(), str)
    assert '"status":' in result.to_json()


@snippet
def verdicts_before_a_token_is_spent(engine: Engine) -> None:
    report = engine.check(COLOUR)
    assert_type(report, dict[str, Any])
    assert report["supported"]


@snippet
def a_refused_schema(engine: Engine) -> None:
    try:
        engine.generate("Hi", schema={"allOf": [{"const": 1}, {"const": 2}]})
    except SchemaRefused as error:
        assert_type(error.pointer, str | None)
        assert isinstance(error, ConstraintError)


@snippet
def a_budget_that_is_too_small(engine: Engine) -> None:
    try:
        engine.generate("A colour", schema=COLOUR, max_tokens=2)
    except BudgetTooSmall as error:
        assert error.param == "max_tokens"


@snippet
def a_mistake(engine: Engine) -> None:
    try:
        engine.generate("Hi", temperature=-1)
    except RequestError as error:
        assert error.param == "temperature"
        assert_type(error.to_dict(), dict[str, Any])


@snippet
def a_field_nobody_knows(engine: Engine) -> None:
    plain: Mapping[str, Any] = {"prompt": "Hi", "temprature": 1}
    try:
        Request.from_mapping(plain)
    except UnknownOption as error:
        assert error.param == "temprature"


@snippet
def a_queue_that_is_full(engine: Engine) -> None:
    try:
        engine.generate("Hi", max_tokens=1)
    except QueueFull as error:
        assert error.status_code == 429


@snippet
def every_error_is_one_of_ours(engine: Engine) -> None:
    try:
        engine.generate("")
    except EngineError as error:
        assert_type(error.message, str)


@snippet
def settings(engine: Engine) -> None:
    config = EngineConfig(model="smollm2-135m", max_batch=4, cache_dir="cache", limits=Limits(compile_s=5))
    assert_type(config.cache_folder, Path)
    assert config.limits.compile_s == 5


@snippet
def what_is_loaded(engine: Engine) -> None:
    assert_type(engine.info(), dict[str, Any])
    assert_type(engine.ready, bool)
    version: str = __version__
    assert version


@snippet
def constraints_of_every_kind(engine: Engine) -> None:
    made: Sequence[Constraint] = (
        Constraint.json_schema(City),
        Constraint.regex("a+"),
        Constraint.ebnf('root ::= "a"'),
        Constraint.lark('start: "a"'),
        Constraint.choice(["a", "b"]),
        Constraint.json_object(),
        Constraint.structural_tag({"type": "structural_tag", "format": {"type": "const_string", "value": "a"}}),
    )
    assert len({constraint.key for constraint in made}) == len(made)
