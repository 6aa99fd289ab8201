"""LlamaIndex through OpenAILike. Annotations are not postponed: it reads those of a function as they are."""

from typing import Any, Literal

from harness import BASE_URL, KEY, MODEL, main, usage
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    size: Literal["small", "large"]


def population(city: Literal["Rome", "Paris"]) -> int:
    """How many people live there."""
    return 3


def model(**more: Any) -> OpenAILike:
    settings = {"max_tokens": 200, "is_chat_model": True, "max_retries": 0, "timeout": 300, **more}
    return OpenAILike(model=MODEL, api_base=BASE_URL, api_key=KEY, context_window=4096, **settings)


@usage("complete")
def complete() -> None:
    assert model(max_tokens=10, is_chat_model=False).complete("Once upon a time").text


@usage("chat")
def chat() -> None:
    assert model(max_tokens=10).chat([ChatMessage(role="user", content="Name a city")]).message.content


@usage("stream_chat")
def stream() -> None:
    assert list(model(max_tokens=10).stream_chat([ChatMessage(role="user", content="Name a city")]))


@usage("as_structured_llm, function calling")
def structured() -> None:
    made = model(is_function_calling_model=True).as_structured_llm(City)
    assert isinstance(made.chat([ChatMessage(role="user", content="Name a city")]).raw, City)


@usage("structured_predict, native")
def native() -> None:
    made = model(should_use_structured_outputs=True)
    assert isinstance(made.structured_predict(City, PromptTemplate("Name a city")), City)


@usage("predict_and_call")
def call() -> None:
    tool = FunctionTool.from_defaults(population)
    made = model(is_function_calling_model=True).predict_and_call([tool], "How large is Rome?", tool_required=True)
    assert made.response == "3"


@usage("chat_with_tools")
def tools() -> None:
    made = model(is_function_calling_model=True)
    tool = FunctionTool.from_defaults(population)
    answer = made.chat_with_tools([tool], user_msg="How large is Rome?", tool_required=True)
    (call,) = made.get_tool_calls_from_response(answer)
    assert call.tool_kwargs["city"] in ("Rome", "Paris")


main()
