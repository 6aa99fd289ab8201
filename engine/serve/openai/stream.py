"""OpenAI's streams: server-sent events from pieces of text.

Knows chunk objects, `[DONE]`, and that an error after the first byte is a last event without `[DONE]`. Text that may be
the beginning of a tool call is held back until it is known not to be one; calls are sent whole, each judged first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from engine.errors import EngineError
from engine.request import Result
from engine.serve.openai.answer import (
    chat_logprobs,
    facts,
    failure_of,
    fingerprint,
    finish_reason,
    read_message,
    sample_facts,
    samples_of,
    text_logprobs,
    usage,
)
from engine.serve.openai.request import Asked
from engine.serve.openai.tool_call import MARK
from engine.serve.service.async_bridge import TextChunk
from engine.serve.wire.failure import Failure
from engine.serve.wire.json_answer import Beside, entries, json_bytes, off_loop

DONE = b"data: [DONE]\n\n"
Items = AsyncGenerator[TextChunk | Result]


def event(body: dict[str, Any], size: int = 0) -> bytes:
    """One server-sent event with so many entries."""
    return b"data: " + json_bytes(body, size) + b"\n\n"


class ChatStream:
    """One chat request as chunks. `include_usage` adds the counts in a chunk without choices."""

    def __init__(self, asked: Asked, beside: Beside, model: str, created: int, *, include_usage: bool) -> None:
        self._asked, self._beside, self._include_usage = asked, beside, include_usage
        self._head = {"id": asked.request.id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._holds = [HeldText(bool(asked.tools)) for _ in range(asked.request.sampling.n)]

    async def events(self, items: Items) -> AsyncGenerator[bytes]:
        """The whole stream; never raises an EngineError."""
        for index in range(len(self._holds)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        try:
            async for item in items:
                if isinstance(item, TextChunk):
                    text = self._holds[item.sample].take(item.text)
                    if text:
                        yield self._chunk(item.sample, {"content": text})
                else:
                    for line in await off_loop(self._beside, entries(item), partial(self._ending, item)):
                        yield line
        except EngineError as error:
            yield event(Failure.from_error(error).body())
        finally:
            await items.aclose()

    def _ending(self, result: Result) -> list[bytes]:
        failure = failure_of(result)
        if failure is not None:
            return [event(failure.body())]
        lines: list[bytes] = []
        for index, sample in enumerate(samples_of(result)):
            lines += self._last(index, sample)
        if self._include_usage:
            whole = {"choices": [], "usage": usage([result]), "maskloop": facts(result)}
            lines.append(event({**self._head, **whole, "system_fingerprint": fingerprint(result)}))
        return [*lines, DONE]

    def _last(self, index: int, sample: Result) -> list[bytes]:
        said = read_message(sample, self._asked.tools)
        rest = (said.content or "")[self._holds[index].sent :]
        lines = [self._chunk(index, {"content": rest})] if rest else []
        if said.calls:
            calls = [{"index": number, **call.to_dict()} for number, call in enumerate(said.calls)]
            lines.append(self._chunk(index, {"tool_calls": calls}))
        if sample.logprobs is not None:
            told = chat_logprobs(sample.logprobs)
            lines.append(self._chunk(index, {"content": ""}, size=entries(sample), logprobs=told))
        reason = finish_reason(sample, bool(said.calls))
        lines.append(self._chunk(index, {}, finish_reason=reason, maskloop=sample_facts(sample)))
        return lines

    def _chunk(
        self, index: int, delta: dict[str, Any], finish_reason: str | None = None, size: int = 0, **more: Any
    ) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None, **more}
        return event({**self._head, "choices": [choice]}, size)


class HeldText:
    """Holds back what may be the start of a tool call, and the white space before it. `sent`: characters let go."""

    def __init__(self, holding: bool) -> None:
        self._holding, self._text, self.sent = holding, "", 0

    def take(self, piece: str) -> str:
        """The text that can be sent now."""
        if not self._holding:
            self.sent += len(piece)
            return piece
        self._text += piece
        free = self._text[self.sent : self._safe()]
        self.sent += len(free)
        return free

    def _safe(self) -> int:
        end = self._text.find(MARK)
        if end < 0:
            end = len(self._text)
            for length in range(min(len(MARK) - 1, end), 0, -1):
                if self._text.endswith(MARK[:length]):
                    end -= length
                    break
        while end > self.sent and self._text[end - 1].isspace():
            end -= 1
        return end


class CompletionStream:
    """Prompts of /v1/completions one after another as chunks; choice `index` counts over all of them."""

    def __init__(self, asked: list[Asked], beside: Beside, model: str, created: int, *, include_usage: bool) -> None:
        self._asked, self._beside, self._include_usage = asked, beside, include_usage
        self._head = {"id": asked[0].request.id, "object": "text_completion", "created": created, "model": model}
        self._results: list[Result] = []

    async def events(self, streams: list[Items]) -> AsyncGenerator[bytes]:
        """The whole stream; never raises an EngineError."""
        try:
            for number, items in enumerate(streams):
                first = number * self._asked[number].request.sampling.n
                async for item in items:
                    if isinstance(item, TextChunk):
                        yield self._chunk(first + item.sample, item.text)
                        continue
                    failure = failure_of(item)
                    if failure is not None:
                        yield event(failure.body())
                        return
                    self._results.append(item)
                    for line in await off_loop(self._beside, entries(item), partial(self._ending, first, item)):
                        yield line
        except EngineError as error:
            yield event(Failure.from_error(error).body())
            return
        finally:
            for items in streams:
                await items.aclose()
        if self._include_usage:
            yield event({**self._head, "choices": [], "usage": usage(self._results)})
        yield DONE

    def _ending(self, first: int, result: Result) -> list[bytes]:
        return [self._last(first + index, sample) for index, sample in enumerate(samples_of(result))]

    def _last(self, index: int, sample: Result) -> bytes:
        logprobs = None if sample.logprobs is None else text_logprobs(sample.logprobs)
        more = {"finish_reason": finish_reason(sample), "logprobs": logprobs, "maskloop": sample_facts(sample)}
        return self._chunk(index, "", entries(sample), **more)

    def _chunk(self, index: int, text: str, size: int = 0, **more: Any) -> bytes:
        choice = {"index": index, "text": text, "finish_reason": None, "logprobs": None, **more}
        return event({**self._head, "choices": [choice]}, size)
