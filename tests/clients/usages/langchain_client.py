"""LangChain and LangGraph through ChatOpenAI."""

from __future__ import annotations

from typing import Any, Literal

from harness import BASE_URL, KEY, MODEL, main, usage
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, Field


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    size: Literal["small", "large"]


@tool
def population(city: Literal["Rome", "Paris"]) -> int:
    """How many people live there."""
    return 3


def model(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=BASE_URL, api_key=KEY, model=MODEL, max_retries=0, max_tokens=200, **more)  # type: ignore[arg-type, call-arg]


@usage("invoke")
def invoke() -> None:
    assert model().bind(max_tokens=10).invoke("Name a city").content


@usage("stream")
def stream() -> None:
    assert "".join(str(piece.content) for piece in model().bind(max_tokens=10).stream("Name a city"))


def structured(method: Any) -> None:
    assert isinstance(model().with_structured_output(City, method=method).invoke("Name a city, as JSON"), City)


@usage("with_structured_output, json_schema")
def json_schema() -> None:
    structured("json_schema")


@usage("with_structured_output, function_calling")
def function_calling() -> None:
    structured("function_calling")


@usage("with_structured_output, json_mode")
def json_mode() -> None:
    made: Any = model().with_structured_output(City.model_json_schema(), method="json_mode").invoke("A city, as JSON")
    assert isinstance(made, dict)


@usage("bind_tools, required")
def bind_tools() -> None:
    made: Any = model().bind_tools([population], tool_choice="required").invoke("How large is Rome?")
    assert made.tool_calls[0]["args"]["city"] in ("Rome", "Paris")


@usage("create_agent, ProviderStrategy")
def provider_strategy() -> None:
    agent = create_agent(model(), tools=[], response_format=ProviderStrategy(City))
    made = agent.invoke({"messages": [HumanMessage("Name a city")]})
    assert isinstance(made["structured_response"], City)


@usage("create_agent, ProviderStrategy beside a tool")
def provider_strategy_with_tool() -> None:
    agent = create_agent(model(), tools=[population], response_format=ProviderStrategy(City))
    try:
        made = agent.invoke({"messages": [HumanMessage("Name a city")]}, {"recursion_limit": 6})
        assert isinstance(made["structured_response"], City)
    except Exception as error:
        if type(error).__name__ != "GraphRecursionError":  # a tiny model may call the tool for ever
            raise


@usage("create_agent, ToolStrategy")
def tool_strategy() -> None:
    agent = create_agent(model(), tools=[], response_format=ToolStrategy(City))
    made = agent.invoke({"messages": [HumanMessage("Name a city")]})
    assert isinstance(made["structured_response"], City)


@usage("LangGraph node")
def graph() -> None:
    def node(state: MessagesState) -> Any:
        return {"messages": [model().bind(max_tokens=10).invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    made = builder.compile().invoke({"messages": [HumanMessage("Name a city")]})
    assert made["messages"][-1].content


@usage("Responses API")
def responses() -> None:
    assert isinstance(model(use_responses_api=True).with_structured_output(City).invoke("Name a city"), City)


main()
