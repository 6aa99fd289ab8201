"""The routes of OpenAI's contract: /v1/chat/completions, /v1/completions, /v1/responses, /v1/models.

Knows paths and when a stream may still become an error with a status code: until its first item has come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Response
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse

from engine.request import Result
from engine.serve.log.accounting import Call
from engine.serve.openai.answer import chat_completion, failure_of, text_completion
from engine.serve.openai.body import ChatBody, CompletionBody, Shared
from engine.serve.openai.request import chat_request, check_model, completion_requests, prompts_of
from engine.serve.openai.responses_answer import finished, response_object
from engine.serve.openai.responses_body import ResponsesBody
from engine.serve.openai.responses_stream import ResponseStream
from engine.serve.openai.stream import ChatStream, CompletionStream, Items
from engine.serve.openai.tool_call import naming_tools
from engine.serve.service.async_bridge import TextChunk
from engine.serve.service.service import Service
from engine.serve.wire.caller import caller, while_connected
from engine.serve.wire.event_stream import EventStream
from engine.serve.wire.failure import PROBLEMS
from engine.serve.wire.json_answer import answered, entries
from engine.serve.wire.json_body import JsonRoute

T = TypeVar("T")
EITHER: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}, "text/event-stream": {}}}}


def openai_routes(service: Service) -> APIRouter:
    """POST /v1/chat/completions, /v1/completions and /v1/responses, GET /v1/models and /v1/models/NAME."""
    problems = {404: {"description": "no such model"}, **PROBLEMS}
    router = APIRouter(prefix="/v1", tags=["openai"], responses=problems, route_class=JsonRoute)
    started = int(time.time())

    async def chat(http: HTTPRequest, body: ChatBody) -> Response:
        return await _chat(service, http, body)

    async def completions(http: HTTPRequest, body: CompletionBody) -> Response:
        return await _completions(service, http, body)

    async def responses(http: HTTPRequest, body: ResponsesBody) -> Response:
        return await _responses(service, http, body)

    def entry() -> dict[str, Any]:
        length = service.accounting.identity.get("max_sequence")
        named = {"id": service.model_name, "object": "model", "created": started, "owned_by": "maskloop"}
        return named if length is None else {**named, "max_model_len": length}

    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [entry()]})

    async def model(name: str) -> JSONResponse:
        check_model(name, service.model_name)
        return JSONResponse(entry())

    router.add_api_route("/chat/completions", chat, methods=["POST"], responses=EITHER)
    router.add_api_route("/completions", completions, methods=["POST"], responses=EITHER)
    router.add_api_route("/responses", responses, methods=["POST"], responses=EITHER)
    router.add_api_route("/models", models, methods=["GET"])
    router.add_api_route("/models/{name:path}", model, methods=["GET"])
    return router


async def _chat(service: Service, http: HTTPRequest, body: ChatBody) -> Response:
    asked = await service.for_key(caller(http), chat_request, body, service.model_name)
    call = Call(route=http.url.path, key=caller(http))
    beside = service.beside(call.key)
    if body.stream:
        with naming_tools(asked.tools):
            (items,) = await while_connected(http, _begun(service.stream(asked.request, call)))
        stream = ChatStream(asked, beside, service.model_name, int(time.time()), include_usage=_wants_usage(body))
        return EventStream(stream.events(items))
    with naming_tools(asked.tools):
        result = await while_connected(http, service.generate(asked.request, call))
    failure = failure_of(result)
    if failure is not None:
        return failure.response()
    return await answered(beside, entries(result), lambda: chat_completion(asked, result, service.model_name))


async def _responses(service: Service, http: HTTPRequest, body: ResponsesBody) -> Response:
    asked = await service.for_key(caller(http), lambda: chat_request(body.to_chat(), service.model_name))
    call = Call(route=http.url.path, key=caller(http))
    beside = service.beside(call.key)
    begun = response_object(body, asked, service.model_name, time.time())
    with naming_tools(asked.tools):
        if body.stream:
            (items,) = await while_connected(http, _begun(service.stream(asked.request, call)))
            stream = ResponseStream(asked, beside, begun)
            return EventStream(stream.events(items))
        result = await while_connected(http, service.generate(asked.request, call))
    failure = failure_of(result)
    if failure is not None:
        return failure.response()
    return await answered(beside, entries(result), lambda: finished(begun, asked, result))


async def _completions(service: Service, http: HTTPRequest, body: CompletionBody) -> Response:
    call = Call(route=http.url.path, key=caller(http))
    beside = service.beside(call.key)
    prompts = prompts_of(body, service.model_name)
    service.refuse_when_full(len(prompts), call)
    asked = await beside(partial(completion_requests, body, prompts))
    service.refuse_when_full(len(prompts), call)  # others may have come meanwhile
    if body.stream:
        streams = await while_connected(http, _begun(*(service.stream(one.request, call) for one in asked)))
        stream = CompletionStream(asked, beside, service.model_name, int(time.time()), include_usage=_wants_usage(body))
        return EventStream(stream.events(streams))
    results = await while_connected(http, _all(service.generate(one.request, call) for one in asked))
    for result in results:
        failure = failure_of(result)
        if failure is not None:
            return failure.response()
    size = sum(map(entries, results))
    return await answered(beside, size, lambda: text_completion(asked, results, service.model_name))


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results in order, or the first error: then the others are cancelled, a refused list runs nothing."""
    group, tasks = asyncio.TaskGroup(), list[asyncio.Task[T]]()
    try:
        async with group:
            tasks.extend(group.create_task(work) for work in works)
        return [task.result() for task in tasks]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    finally:
        del group, tasks  # an error's traceback holds this frame: a circle through every task otherwise


async def _begun(*streams: Items) -> list[Items]:
    """The same streams once each has its first item; an error before that is raised here, and ends them all."""
    try:
        firsts = await _all(_next(items) for items in streams)
    except BaseException:
        for items in streams:
            await items.aclose()
        raise
    return [_whole(first, items) for first, items in zip(firsts, streams, strict=True)]


async def _whole(first: TextChunk | Result, items: Items) -> Items:
    async with aclosing(items):
        yield first
        async for item in items:
            yield item


async def _next(items: Items) -> TextChunk | Result:
    return await anext(items)


def _wants_usage(body: Shared) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)
