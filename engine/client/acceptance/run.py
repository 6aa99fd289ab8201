"""The requests of an acceptance run, sent: one, then one by one, then many at once; answers with their seconds.

Does not judge. Never raises for an engine's failure: it is kept as that request's answer.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.client.acceptance.ask import Answer, Ask
from engine.client.acceptance.plan import INFERENCE_PROMPT, Plan


@dataclass(slots=True)
class Run:
    """Answers and seconds, in the order sent. The first is the test request, then one by one, then all at once."""

    started: float
    answers: list[Answer] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    serial: int = 0
    wall_s: float = 0.0

    @property
    def live(self) -> list[Answer]:
        return [answer for answer in self.answers if "error" not in answer]

    @property
    def warm(self) -> list[tuple[Answer, float]]:
        """What was asked one by one after the test request, and answered, with its seconds."""
        pairs = list(zip(self.answers, self.seconds, strict=True))[1 : self.serial]
        return [(answer, seconds) for answer, seconds in pairs if "error" not in answer]


async def send(ask: Ask, plan: Plan) -> Run:
    """The test request, the tasks one by one (temperatures 0 and 0.9 in turn), then `at_once` of them together.

    Ends with the test request where nobody answers it: on Modal each further one would pay for a start that fails.
    """
    run = Run(started=time.time())
    clock = time.perf_counter()
    if not await _send(ask, run, _request(plan, INFERENCE_PROMPT, 0.0)):
        return run
    for index, task in enumerate(plan.tasks):
        await _send(ask, run, _request(plan, f"Write a function to {task}.", 0.9 if index % 2 else 0.0))
    run.serial = len(run.answers)
    tasks = [plan.tasks[index % len(plan.tasks)] for index in range(plan.at_once)]
    await asyncio.gather(*(_send(ask, run, _request(plan, f"Write a function to {task}.", 0.9)) for task in tasks))
    run.wall_s = time.perf_counter() - clock
    return run


def _request(plan: Plan, prompt: str, temperature: float) -> dict[str, Any]:
    # the nonce makes every prompt new: no cache of answers can serve it
    prompt = f"{prompt} (request {secrets.token_hex(4)})"
    return {"prompt": prompt, "schema": plan.schema, "max_tokens": plan.max_tokens, "temperature": temperature}


async def _send(ask: Ask, run: Run, request: dict[str, Any]) -> bool:
    """Whether there was an answer, of whatever kind."""
    began = time.perf_counter()
    try:
        answer = await ask(request)
        answered = True
    except Exception as error:  # noqa: BLE001 - whatever goes wrong on the way is a failed request
        answer = {"error": f"{type(error).__name__}: {error}"}
        answered = False
    if not isinstance(answer, Mapping):
        answer = {"error": f"the answer is {type(answer).__name__}, not an object"}
    run.answers.append(answer)
    run.seconds.append(time.perf_counter() - began)
    return answered
