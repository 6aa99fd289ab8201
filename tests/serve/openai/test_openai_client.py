"""The OpenAI contract through the official client, streamed and not."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import get_type_hints

import openai
import pydantic
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from engine.request import Timings, Usage
from engine.serve.log.accounting import key_label
from engine.serve.openai.body import ChatBody, CompletionBody
from engine.serve.settings import ServeSettings
from tests.serve.fakes import FakeEngine, Server, document, judged
from tests.serve.openai.test_tool_call import written

MODEL = "served"
USER = [{"role": "user", "content": "hello world"}]
ENTRY = {"token_id": 1, "token": "é", "raw": -2.0, "constrained": -0.5, "top": []}
LOGPROBS = (
    {**ENTRY, "top": [{"token_id": 1, "token": "é", "raw": -2.0, "constrained": -0.5}]},
    {**ENTRY, "token": "x", "raw": float("-inf"), "constrained": 0.0},
)


class City(pydantic.BaseModel):
    name: str
    people: int


FUNCTION = {"name": "weather", "description": "d", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}  # fmt: skip
TOOLS = [{"type": "function", "function": FUNCTION}, {"type": "function", "function": {"name": "ping"}}]
CALLS = written("weather", city="Paris") + "\n" + written("ping")


def script(request):
    """Says what the last message asks for; JSON under a JSON constraint; calls when there are tools."""
    said = (request.messages[-1]["content"] if request.messages else request.prompt) or ""
    status = said.removeprefix("status ") if said.startswith("status ") else "complete"
    changes = {"status": status, "valid": status in ("complete", "closed")}
    if request.constraint is not None and request.constraint.is_json:
        value = {"name": "Oslo", "people": 700000}
        changes |= {"text": json.dumps(value), "value": value}
    elif request.tools and said.startswith("mention"):
        changes |= {"text": said}
    elif request.tools and said != "just talk":
        changes |= {"text": ("Let me look.\n" if said == "talk and call" else "") + CALLS}
    else:
        changes |= {"text": f"you said: {said}"}
    if request.sampling.logprobs is not None:
        changes["logprobs"] = LOGPROBS
    one = (judged if request.tools else document)(request, **changes)
    if request.sampling.n == 1:
        return one
    samples = tuple(replace(one, seed=index, text=f"{one.text} #{index}") for index in range(request.sampling.n))
    return replace(one, samples=samples, usage=Usage(prompt_tokens=7, completion_tokens=10))


@pytest.fixture(scope="module")
def served():
    engine = FakeEngine(script)
    with Server(engine, ServeSettings(served_model_name=MODEL, api_keys=("key",))) as server:
        yield server


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=served.url + "/v1", api_key="key", max_retries=0) as made:
        yield made


@pytest.fixture
def engine(served):
    served.engine.requests.clear()
    return served.engine


def chat(client, messages=USER, **kwargs):
    return client.chat.completions.create(model=MODEL, messages=messages, **kwargs)


def say(text):
    return [{"role": "user", "content": text}]


def streamed(client, messages=USER, **kwargs):
    """The chunks, and by choice index the text, the calls and the finish reason."""
    chunks = list(chat(client, messages, stream=True, **kwargs))
    texts, calls, reasons = {}, {}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            calls.setdefault(choice.index, []).extend(choice.delta.tool_calls or [])
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return chunks, texts, calls, reasons


def test_a_chat_completion_has_the_clients_shape(client, engine):
    answer = chat(client)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.choices[0].message.content == "you said: hello world"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)
    assert answer.id == engine.requests[0].id
    assert isinstance(answer.created, int)
    assert answer.choices[0].maskloop["status"] == "complete"


def test_a_stream_gives_the_same_text_in_pieces(client):
    chunks, texts, _, reasons = streamed(client)
    assert texts == {0: "you said: hello world"}
    assert reasons == {0: "stop"}
    assert len(chunks) > 3
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_in_the_stream_is_a_last_chunk_without_choices(client):
    chunks, *_ = streamed(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5


def test_parameters_reach_the_engine(client, engine):
    extra = {"top_k": 4, "min_p": 0.1, "repetition_penalty": 1.2, "deadline_s": 5, "cache_salt": "s"}
    named = {"temperature": 0.2, "top_p": 0.5, "seed": 11, "max_completion_tokens": 9, "n": 2}
    chat(client, stop=["a", "b"], extra_body=extra, **named)
    request = engine.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_tokens) == (0.2, 0.5, 11, 9)
    assert (sampling.stop, sampling.n, sampling.top_k, sampling.min_p) == (("a", "b"), 2, 4, 0.1)
    assert (sampling.repetition_penalty, request.deadline_s) == (1.2, 5)
    assert request.cache_salt == f"{key_label('key')}/s"


def test_defaults_are_openais(client, engine):
    chat(client)
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.n, sampling.max_tokens) == (1.0, 1.0, 1, None)


def test_what_changes_nothing_here_is_accepted(client):
    chat(client, user="u", metadata={"a": "b"}, store=False, service_tier="auto", parallel_tool_calls=True,
         safety_identifier="s", prompt_cache_key="k", modalities=["text"], presence_penalty=0, frequency_penalty=0,
         logit_bias={}, stop=None)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_n_gives_n_choices(client, stream):
    if stream:
        _, texts, _, reasons = streamed(client, n=3)
    else:
        choices = chat(client, n=3).choices
        texts = {choice.index: choice.message.content for choice in choices}
        reasons = {choice.index: choice.finish_reason for choice in choices}
    assert texts == {index: f"you said: hello world #{index}" for index in range(3)}
    assert set(reasons.values()) == {"stop"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "reason"), [("complete", "stop"), ("closed", "stop"), ("length", "length")])
def test_finish_reasons(client, status, reason, stream):
    messages = say(f"status {status}")
    if stream:
        assert streamed(client, messages)[3] == {0: reason}
    else:
        choice = chat(client, messages).choices[0]
        assert (choice.finish_reason, choice.maskloop["status"]) == (reason, status)


def test_logprobs(client):
    content = chat(client, logprobs=True, top_logprobs=1).choices[0].logprobs.content
    assert (content[0].token, content[0].logprob, bytes(content[0].bytes).decode()) == ("é", -0.5, "é")
    assert content[0].top_logprobs[0].raw_logprob == -2.0
    assert content[1].raw_logprob == -9999.0
    assert chat(client).choices[0].logprobs is None


def test_logprobs_in_the_stream(client):
    chunks, *_ = streamed(client, logprobs=True)
    told = [choice.logprobs.content for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [entry.token for entries in told for entry in entries] == ["é", "x"]


def test_response_format_json_object(client, engine):
    assert json.loads(chat(client, response_format={"type": "json_object"}).choices[0].message.content)
    assert engine.requests[0].constraint.kind == "json_object"


@pytest.mark.parametrize("strict", [True, False, None])
@pytest.mark.parametrize("stream", [False, True])
def test_response_format_json_schema_whatever_strict_says(client, engine, strict, stream):
    named = {"name": "city", "schema": City.model_json_schema(), **({} if strict is None else {"strict": strict})}
    given = {"type": "json_schema", "json_schema": named}
    if stream:
        text = streamed(client, response_format=given)[1][0]
    else:
        text = chat(client, response_format=given).choices[0].message.content
    assert City.model_validate_json(text).name == "Oslo"
    assert json.loads(engine.requests[0].constraint.source) == City.model_json_schema()


@pytest.mark.parametrize("status", ["complete", "closed"])
def test_parse_with_a_pydantic_model(client, status):
    answer = client.chat.completions.parse(model=MODEL, messages=say(f"status {status}"), response_format=City)
    assert answer.choices[0].message.parsed == City(name="Oslo", people=700000)


def test_the_streaming_helper_parses_too(client):
    with client.chat.completions.stream(model=MODEL, messages=USER, response_format=City) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == City(name="Oslo", people=700000)


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_a_tool_call_has_its_finish_reason_and_json_arguments(client, engine, choice):
    answer = chat(client, tools=TOOLS, **({} if choice is None else {"tool_choice": choice})).choices[0]
    assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
    first, second = answer.message.tool_calls
    assert (first.function.name, second.function.name) == ("weather", "ping")
    assert json.loads(first.function.arguments) == {"city": "Paris"}
    assert first.id.startswith("call_")
    assert first.id != second.id
    assert engine.requests[0].constraint.kind == "structural_tag"
    assert [tool["function"]["name"] for tool in engine.requests[0].tools] == ["weather", "ping"]


def test_a_named_tool_is_the_only_one_in_the_grammar(client, engine):
    named = {"type": "function", "function": {"name": "ping"}}
    with pytest.raises(openai.UnprocessableEntityError, match="does not derive"):
        chat(client, tools=TOOLS, tool_choice=named)
    assert "weather" not in engine.requests[0].constraint.source
    assert "ping" in engine.requests[0].constraint.source


def test_allowed_tools_limit_the_grammar(client, engine):
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    chat(client, say("just talk"), tools=TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert "ping" not in engine.requests[0].constraint.source


def test_streamed_tool_calls_are_whole_and_the_text_before_them_is_content(client):
    _, texts, calls, reasons = streamed(client, say("talk and call"), tools=TOOLS)
    assert texts == {0: "Let me look."}
    assert reasons == {0: "tool_calls"}
    assert [(call.index, call.function.name) for call in calls[0]] == [(0, "weather"), (1, "ping")]
    assert json.loads(calls[0][0].function.arguments) == {"city": "Paris"}


def test_with_tools_the_model_may_also_just_talk(client):
    answer = chat(client, say("just talk"), tools=TOOLS).choices[0]
    assert (answer.finish_reason, answer.message.tool_calls) == ("stop", None)
    assert streamed(client, say("just talk"), tools=TOOLS)[1] == {0: "you said: just talk"}


def test_text_that_mentions_a_call_is_told_whole(client):
    said = "mention <tool_call> and\n</tool_call>, which are no call"
    assert chat(client, say(said), tools=TOOLS).choices[0].message.content == said
    assert streamed(client, say(said), tools=TOOLS)[1] == {0: said}


def test_tool_choice_none_shows_no_tools_and_constrains_nothing(client, engine):
    assert chat(client, tools=TOOLS, tool_choice="none").choices[0].finish_reason == "stop"
    assert engine.requests[0].constraint is None
    assert engine.requests[0].tools is None


def test_pydantic_tools_parse(client):
    class Weather(pydantic.BaseModel):
        city: str

    tools = [openai.pydantic_function_tool(Weather, name="weather"), TOOLS[1]]
    tools[1] = {"type": "function", "function": {**TOOLS[1]["function"], "strict": True, "parameters": {
        "type": "object", "properties": {}, "required": [], "additionalProperties": False}}}  # fmt: skip
    answer = client.chat.completions.parse(model=MODEL, messages=USER, tools=tools, tool_choice="required")
    assert answer.choices[0].message.tool_calls[0].function.parsed_arguments == Weather(city="Paris")


def test_a_conversation_with_tool_results_reaches_the_template_as_objects(client, engine):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    chat(client, [
        {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "user", "content": "just talk"},
    ], tools=TOOLS)  # fmt: skip
    messages = engine.requests[0].messages
    assert messages[0] == {"role": "system", "content": "be brief"}
    assert messages[2]["tool_calls"][0]["function"]["arguments"] == {"city": "Paris"}
    assert messages[3]["tool_call_id"] == "call_1"


@pytest.mark.parametrize("stream", [False, True])
def test_completions_are_raw(client, engine, stream):
    answer = client.completions.create(model=MODEL, prompt="once upon", stream=stream)
    if stream:
        chunks = list(answer)
        text = "".join(chunk.choices[0].text for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        text = answer.choices[0].text
        assert answer.object == "text_completion"
        assert answer.usage.total_tokens == 12
    assert text == "you said: once upon"
    assert (engine.requests[0].template, engine.requests[0].prompt) == ("raw", "once upon")
    assert engine.requests[0].sampling.max_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_completions_of_several_prompts_count_their_choices_through(client, stream):
    answer = client.completions.create(model=MODEL, prompt=["a", "b"], n=2, stream=stream,
                                       **({"stream_options": {"include_usage": True}} if stream else {}))  # fmt: skip
    texts = {}
    for part in list(answer) if stream else [answer]:
        for choice in part.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    assert texts == {0: "you said: a #0", 1: "you said: a #1", 2: "you said: b #0", 3: "you said: b #1"}


def test_completions_logprobs_have_the_older_form(client):
    logprobs = client.completions.create(model=MODEL, prompt="x", logprobs=1).choices[0].logprobs
    assert logprobs.tokens == ["é", "x"]
    assert logprobs.token_logprobs == [-0.5, 0.0]
    assert logprobs.top_logprobs[0] == {"é": -0.5}
    assert logprobs.text_offset == [0, 1]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"json": {"type": "object"}}, "json_schema"),
        ({"regex": "a+"}, "regex"),
        ({"choice": ["a", "b"]}, "choice"),
        ({"grammar": 'root ::= "a"'}, "ebnf"),
        ({"structural_tag": {"type": "structural_tag"}}, "structural_tag"),
    ],
)
def test_structured_outputs_of_extra_body(client, engine, given, kind):
    chat(client, extra_body={"structured_outputs": given})
    client.completions.create(model=MODEL, prompt="x", extra_body={"structured_outputs": given})
    assert [request.constraint.kind for request in engine.requests] == [kind, kind]


def test_lark_and_schema_options_of_extra_body(client, engine):
    chat(client, extra_body={"lark": 'start: "a"'})
    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    options = {"conformance": "spec", "require_enforced": True, "whitespace": "flexible", "schema_in_prompt": True}
    chat(client, response_format=named, extra_body=options)
    lark, schema = (request.constraint for request in engine.requests)
    assert lark.kind == "lark"
    assert (schema.conformance, schema.require_enforced, schema.whitespace) == ("spec", True, "flexible")
    assert engine.requests[1].schema_in_prompt


def test_models(client):
    listed = client.models.list().data
    assert [model.id for model in listed] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "maskloop"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_an_unknown_model_is_404_model_not_found(client, route):
    create = client.chat.completions.create if route == "chat" else client.completions.create
    with pytest.raises(openai.NotFoundError) as caught:
        create(model="gpt-4", **({"messages": USER} if route == "chat" else {"prompt": "x"}))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("kwargs", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "zip"}}}, "tool_choice"),
        ({"tools": TOOLS, "extra_body": {"structured_outputs": {"regex": "a"}}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "stop": ["x"]}, "stop"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
        ({"extra_body": {"structured_outputs": {"regex": "a", "choice": ["b"]}}}, "structured_outputs"),
        ({"extra_body": {"messages": [{"role": "robot", "content": "x"}]}}, "messages"),
        ({"extra_body": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}}, "messages"),
    ],
)
def test_what_cannot_be_honoured_is_a_bad_request_by_name(client, engine, kwargs, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **kwargs)
    assert caught.value.param == param
    assert engine.requests == []


@pytest.mark.parametrize(
    "kwargs", [{"echo": True}, {"suffix": "x"}, {"best_of": 3}, {"prompt": [1, 2]}, {"prompt": []}]
)
def test_completions_refuse_by_name_too(client, kwargs):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": MODEL, "prompt": "x", **kwargs})
    assert caught.value.param == next(iter(kwargs))


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_decoding_are_the_clients_own_types(served, client, stream):
    refused = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"refused": 1}}}
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        chat(client, response_format=refused, stream=stream)
    assert caught.value.code == "schema_refused"
    with (
        openai.OpenAI(base_url=served.url + "/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        chat(stranger, stream=stream)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("invalid", openai.UnprocessableEntityError),
        ("dead_end", openai.UnprocessableEntityError),
        ("timeout", openai.InternalServerError),
        ("cancelled", openai.InternalServerError),
        ("error", openai.InternalServerError),
    ],
)
def test_errors_after_decoding(client, status, kind):
    with pytest.raises(kind):
        chat(client, say(f"status {status}"))
    with pytest.raises(openai.APIError) as caught:
        streamed(client, say(f"status {status}"))
    assert caught.value.body["type"]


def test_a_call_that_fails_its_schema_is_422_and_an_error_event(client, engine):
    engine.script, kept = lambda request: judged(request, written("weather", town="x")), engine.script
    try:
        with pytest.raises(openai.UnprocessableEntityError, match="does not derive"):
            chat(client, tools=TOOLS)
        with pytest.raises(openai.APIError, match="does not derive"):
            streamed(client, tools=TOOLS)
    finally:
        engine.script = kept


def test_decoded_failures_are_not_retried_and_a_busy_key_is(serving):
    engine = FakeEngine(lambda request: document(request, status="error", timings_ms=Timings()))
    server = serving(engine, ServeSettings(served_model_name=MODEL))
    with (
        openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=3) as patient,
        pytest.raises(openai.InternalServerError),
    ):
        chat(patient)
    assert len(engine.requests) == 1


def test_the_queue_being_full_is_a_rate_limit_error(serving):
    from engine.errors import QueueFull

    def full(request):
        raise QueueFull("64 requests are waiting")

    server = serving(FakeEngine(full), ServeSettings(served_model_name=MODEL))
    with (
        openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        chat(client)
    assert caught.value.response.headers["retry-after"]


def test_a_stream_that_is_left_early_cancels_its_request(serving):
    engine = FakeEngine(lambda request: document(request, text="word " * 200), pause_s=0.05)
    server = serving(engine, ServeSettings(served_model_name=MODEL))
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
        stream = chat(client, stream=True)
        next(iter(stream))
        stream.close()
    from tests.serve.server.test_hard_clients import wait_for

    wait_for(lambda: engine.cancelled)
    assert engine.cancelled[0] == engine.requests[0].id


@pytest.mark.parametrize(
    ("params", "body"),
    [
        (chat_create_params.CompletionCreateParamsBase, ChatBody),
        (chat_create_params.CompletionCreateParamsStreaming, ChatBody),
        (completion_create_params.CompletionCreateParamsBase, CompletionBody),
        (completion_create_params.CompletionCreateParamsStreaming, CompletionBody),
    ],
)
def test_every_field_of_the_official_types_is_known(params, body):
    fields = set(params.__annotations__) | set(get_type_hints(params))
    assert len(fields) > 10
    assert fields <= set(body.model_fields)


def test_instructor_gets_its_model(served):
    import instructor

    with openai.OpenAI(base_url=served.url + "/v1", api_key="key", max_retries=0) as plain:
        for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON):
            made = instructor.from_openai(plain, mode=mode)
            city = made.chat.completions.create(model=MODEL, messages=USER, response_model=City, max_retries=0)
            assert (city.name, city.people) == ("Oslo", 700000)


def test_instructor_gets_its_model_from_a_tool_call(serving):
    import instructor

    text = written("City", name="Rome", people=3)
    server = serving(FakeEngine(lambda request: judged(request, text)), ServeSettings(served_model_name=MODEL))
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as plain:
        made = instructor.from_openai(plain, mode=instructor.Mode.TOOLS)
        city = made.chat.completions.create(model=MODEL, messages=USER, response_model=City, max_retries=0)
    assert (city.name, city.people) == ("Rome", 3)


def test_the_draft_of_a_schema_is_an_extra_field(client, engine):
    chat(client, extra_body={"structured_outputs": {"json": {"items": [{}]}}, "draft": 7})
    assert "draft-07" in engine.requests[-1].constraint.source
    with pytest.raises(openai.BadRequestError, match="draft needs a JSON Schema"):
        chat(client, extra_body={"draft": 7})


def test_whether_contents_are_held_is_an_extra_field(client, engine):
    encoded = {"type": "string", "contentEncoding": "base64"}
    chat(client, extra_body={"structured_outputs": {"json": encoded}, "contents": False})
    assert "contentEncoding" not in engine.requests[-1].constraint.source
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": encoded}}}
    for contents in (True, False):
        with suppress(openai.UnprocessableEntityError):  # what is answered is no call
            chat(client, tools=[{"type": "function", "function": function}], extra_body={"contents": contents})
        assert ("contentEncoding" in engine.requests[-1].constraint.source) is contents
    with pytest.raises(openai.BadRequestError, match="contents needs a JSON Schema"):
        chat(client, extra_body={"contents": False})


def test_how_schemas_are_written_reaches_those_inside_a_grammar(client, engine):
    for extra in ({"lark": "start: %json true"}, {"structured_outputs": {"structural_tag": {"format": {}}}}):
        chat(client, extra_body={**extra, "conformance": "spec", "require_enforced": True, "whitespace": "flexible"})
        constraint = engine.requests[-1].constraint
        assert (constraint.conformance, constraint.whitespace) == ("spec", "flexible")
        assert constraint.require_enforced


A = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("asked", "kind", "source"),
    [
        ({"response_format": {"type": "json_object", "schema": A}}, "json_schema", A),
        ({"response_format": {"type": "json_object", "schema": None}}, "json_object", {"type": "object"}),
        ({"response_format": {"type": "json_schema", "schema": A}}, "json_schema", A),
        ({"response_format": {"type": "structural_tag", "format": {}}}, "structural_tag",
         {"type": "structural_tag", "format": {}}),
        ({"guided_json": A}, "json_schema", A),
        ({"guided_json": json.dumps(A)}, "json_schema", A),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
        ({"guided_grammar": 'root ::= "a"'}, "ebnf", 'root ::= "a"'),
        ({"guided_json_object": True}, "json_object", {"type": "object"}),
        ({"guided_regex": "a+", "guided_json": None, "guided_decoding_backend": "xgrammar"}, "regex", "a+"),
        ({"structured_outputs": {"json_object": True}}, "json_object", {"type": "object"}),
        ({"structured_outputs": {"json": False}}, "json_schema", False),
        ({"json_schema": json.dumps(A)}, "json_schema", A),
        ({"regex": "a+"}, "regex", "a+"),
        ({"ebnf": 'root ::= "a"'}, "ebnf", 'root ::= "a"'),
    ],
)  # fmt: skip
def test_other_servers_ways_to_ask_for_a_constraint_are_honoured(client, engine, asked, kind, source):
    chat(client, extra_body=asked)
    constraint = engine.requests[-1].constraint
    assert constraint.kind == kind
    assert (constraint.source if kind in ("regex", "ebnf") else json.loads(constraint.source)) == source


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"regex": "a", "guided_json": A}, "guided_json"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "text", "schema": A}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": 7}}, "response_format"),
        ({"response_format": {"type": ["json_object"]}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": 7}}, "response_format"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"top_k": -2}, "top_k"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"ignore_eos": 0}, "ignore_eos"),
    ],
)
def test_what_would_change_something_is_refused_by_name(client, engine, asked, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, extra_body=asked)
    assert caught.value.param == param


def test_fields_whose_value_changes_nothing_are_accepted(client, engine):
    neutral = {
        "tools": [], "tool_choice": "auto", "top_logprobs": 0, "top_k": -1, "reasoning_effort": "none", "functions": [],
        "verbosity": "medium", "function_call": "none", "ignore_eos": False, "min_tokens": 0, "length_penalty": 1.0,
        "stop_token_ids": [], "presence_penalty": 0, "logit_bias": {}, "skip_special_tokens": True, "stop": [],
        "chat_template_kwargs": {}, "audio": None, "response_format": {"type": "text"}, "modalities": ["text"],
        "best_of": 1, "logprobs": False, "priority": 0,
    }  # fmt: skip
    chat(client, extra_body=neutral)
    request = engine.requests[-1]
    assert (request.constraint, request.sampling.top_k, request.tools) == (None, 0, None)


def test_messages_can_be_sent_back_as_the_client_returned_them(client, engine):
    class Answer(pydantic.BaseModel):
        a: int

    engine.script = lambda request: document(request, text='{"a":1}', value={"a": 1})
    first = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "x"}], response_format=Answer
    ).choices[0].message  # fmt: skip
    back = first.model_dump(warnings=False)
    assert back["parsed"]
    returned = [back, {**back, "reasoning_content": "so", "annotations": [], "function_call": None, "strange": None}]
    chat(client, extra_body={"messages": [*USER, *returned, *USER]})
    assert list(engine.requests[-1].messages[1:3]) == [{"role": "assistant", "content": '{"a":1}'}] * 2
