"""The ways in which people use the package run as they are written, and type checkers agree with them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import engine as package
from engine import Engine, EngineConfig, RequestError
from engine.options import EngineOptions, RequestOptions
from engine.request import Request
from tests.decode.noise import noise_engine
from tests.docs.usage_snippets import SNIPPETS, Snippet


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with noise_engine(max_batch=2, max_sequence=2048) as made:
        yield made


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.__name__)
def test_a_snippet_runs(engine: Engine, snippet: Snippet) -> None:
    snippet(engine)
    while engine.in_flight():  # a cancelled one leaves within a step
        time.sleep(0.01)


@pytest.mark.parametrize("checker", [("mypy", "--strict"), ("pyright",)], ids=lambda command: command[0])
def test_a_type_checker_reads_the_snippets_as_precisely_as_they_say(checker: tuple[str, ...]) -> None:
    """pyright is as strict: the file asks for it."""
    file = Path(__file__).with_name("usage_snippets.py")
    ran = subprocess.run([sys.executable, "-m", *checker, str(file)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_short_forms_take_the_fields_of_what_they_stand_for() -> None:
    assert set(EngineOptions.__annotations__) == {f.name for f in fields(EngineConfig)} - {"model"}
    for name in RequestOptions.__annotations__:
        with pytest.raises(RequestError) as caught:
            Request.from_mapping({"prompt": "x", name: object(), "not a field": 1})
        assert f"{name}," in caught.value.message or caught.value.message.endswith(name)


def test_a_model_named_twice_and_a_config_with_fields_are_refused() -> None:
    with pytest.raises(RequestError, match="named twice"):
        Engine("smollm2-135m", model="other")
    with pytest.raises(RequestError, match="either an EngineConfig or its single fields"):
        Engine(EngineConfig(), max_batch=2)
    with pytest.raises(RequestError, match="unknown engine setting 'max_bath'"):
        Engine("smollm2-135m", max_bath=2)  # type: ignore[call-arg]  # the mistake


def test_a_cancelled_task_cancels_its_request(engine: Engine) -> None:
    import asyncio

    async def leave() -> None:
        task = asyncio.ensure_future(engine.agenerate("A long story", max_tokens=400))
        while not engine.in_flight():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while engine.in_flight():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(leave(), 60))


def test_the_package_shows_its_public_names_alone() -> None:
    assert dir(package) == sorted(package.__all__)
    assert (Path(package.__file__).parent / "py.typed").exists()
