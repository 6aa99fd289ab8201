"""The events of a streamed response, in the order of OpenAI's contract; there is no `[DONE]`.

The message is opened with its first text, calls are sent whole. An error after the first byte is a last `error` event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Any

from engine.errors import EngineError
from engine.request import Result
from engine.serve.openai.answer import failure_of
from engine.serve.openai.request import Asked
from engine.serve.openai.responses_answer import Item, finished, message_item, text_part
from engine.serve.openai.stream import HeldText, Items, event
from engine.serve.service.async_bridge import TextChunk
from engine.serve.wire.failure import Failure
from engine.serve.wire.json_answer import Beside, entries, off_loop


class ResponseStream:
    """One response as events; `begun` is the response object before anything is decoded."""

    def __init__(self, asked: Asked, beside: Beside, begun: dict[str, Any]) -> None:
        self._asked, self._beside, self._begun = asked, beside, begun
        self._held = HeldText(bool(asked.tools))
        self._sent = 0
        self._size = 0
        self._open = False
        self._place = {"item_id": message_item(begun["id"], (), "")["id"], "output_index": 0, "content_index": 0}

    async def events(self, items: Items) -> AsyncGenerator[bytes]:
        """The whole stream; never raises an EngineError."""
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self._begun)
        try:
            async for item in items:
                if isinstance(item, TextChunk):
                    for line in self._text(self._held.take(item.text)):
                        yield line
                else:
                    ending = partial(lambda result: list(self._ending(result)), item)
                    for line in await off_loop(self._beside, entries(item), ending):
                        yield line
        except EngineError as error:
            yield self._failed(Failure.from_error(error))
        finally:
            await items.aclose()

    def _text(self, text: str) -> Iterator[bytes]:
        if not text:
            return
        if not self._open:
            self._open = True
            yield self._added(message_item(self._begun["id"], (), "in_progress"), 0)
            yield self._event("response.content_part.added", **self._place, part=text_part(""))
        yield self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])

    def _ending(self, result: Result) -> Iterator[bytes]:
        failure = failure_of(result)
        if failure is not None:
            yield self._failed(failure)
            return
        self._size = entries(result)
        whole = finished(self._begun, self._asked, result)
        for index, item in enumerate(whole["output"]):
            yield from self._message(item) if item["type"] == "message" else self._call(item, index)
        yield self._event(f"response.{whole['status']}", response=whole)

    def _message(self, item: Item) -> Iterator[bytes]:
        part = item["content"][0]
        yield from self._text(part["text"][self._held.sent :])
        if not self._open:  # an empty message has its events too
            yield self._added({**item, "status": "in_progress", "content": []}, 0)
            yield self._event("response.content_part.added", **self._place, part=text_part(""))
        yield self._event("response.output_text.done", **self._place, text=part["text"], logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **self._place, part=part)
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _call(self, item: Item, index: int) -> Iterator[bytes]:
        place = {"item_id": item["id"], "output_index": index}
        yield self._added({**item, "status": "in_progress", "arguments": ""}, index)
        yield self._event("response.function_call_arguments.delta", **place, delta=item["arguments"])
        told = {"arguments": item["arguments"], "name": item["name"]}
        yield self._event("response.function_call_arguments.done", **place, **told)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _added(self, item: Item, index: int) -> bytes:
        return self._event("response.output_item.added", output_index=index, item=item)

    def _failed(self, failure: Failure) -> bytes:
        return self._event("error", message=failure.message, code=failure.code, param=failure.param)

    def _event(self, kind: str, **facts: Any) -> bytes:
        self._sent += 1
        told = {"type": kind, "sequence_number": self._sent - 1, **facts}
        return b"event: " + kind.encode() + b"\n" + event(told, self._size)
