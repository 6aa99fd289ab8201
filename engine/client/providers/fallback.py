"""Claude answers when the engine does not: switched on by constructing this class, never by an environment variable.

Knows which failures another model can cure, and says who answered. A caller's mistake is raised as it is. The official
`anthropic` client is used; it is imported when the provider is initialised. That API takes no temperature any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from engine.client.providers.http import Document, Provider, ProviderCapabilities
from engine.client.providers.problems import BadAnswer, NobodyAnswered, ProviderError, Refused, Unreachable
from engine.errors import missing_extra

TOOL = "document"
Problem = str | None
Validate = Callable[[Mapping[str, Any], Document], Problem]


class FallbackProvider(Provider):
    """`engine` first, then `model` at Anthropic with the same schema. `answers` and `failures` count what happened.

    `engine_timeout_s` bounds the engine's part; `validate(schema, document)` returns what is wrong or None and judges
    both sides (default: the engine's own judge of finished documents).
    """

    name = "modal"
    capabilities = ProviderCapabilities(streaming=False, structured_output=True, reasoning=True)

    def __init__(
        self,
        engine: Provider,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        engine_timeout_s: float = 600.0,
        timeout_s: float = 120.0,
        validate: Validate | None = None,
    ) -> None:
        if not model:
            raise ValueError("name the fallback model; there is no default")
        self.engine, self.model = engine, model
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._engine_timeout_s, self._validate = engine_timeout_s, validate or judge
        self._options: dict[str, Any] = {
            "api_key": api_key,
            "base_url": base_url,
            "timeout": timeout_s,
            "max_retries": 1,
        }
        self._client: Any = None

    async def initialize(self, credentials: Mapping[str, Any]) -> None:
        """Open both sides. An engine that cannot even be opened is one more failure to fall back from."""
        try:
            import anthropic
        except ImportError:
            raise missing_extra("anthropic", "anthropic") from None
        self._client = anthropic.AsyncAnthropic(**self._options)
        await self.engine.initialize(credentials)

    async def generate_structured(
        self, prompt: str, schema: Mapping[str, Any], max_tokens: int = 2048, temperature: float = 0.3, **kwargs: Any
    ) -> Document:
        """A document from whoever can; `last_answer["answered_by"]` says who. NobodyAnswered when neither could."""
        if self._client is None:
            raise RuntimeError("the provider is not initialized: await initialize({}) first")
        try:
            document = await self._from_engine(prompt, schema, max_tokens, temperature, kwargs)
        except ProviderError as error:
            self.failures[error.cause] += 1
            if isinstance(error, Refused) and error.is_callers_fault:
                raise
            return await self._from_claude(prompt, schema, max_tokens, error, kwargs)
        return self._answered("engine", document, self.engine.last_answer)

    async def check_health(self) -> bool:
        """The engine's health: the fallback is a crutch, not health."""
        return await self.engine.check_health()

    async def aclose(self) -> None:
        """Close both sides."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        await self.engine.aclose()

    async def _from_engine(
        self, prompt: str, schema: Mapping[str, Any], max_tokens: int, temperature: float, options: Mapping[str, Any]
    ) -> Document:
        try:
            async with asyncio.timeout(self._engine_timeout_s):
                document = await self.engine.generate_structured(prompt, schema, max_tokens, temperature, **options)
        except TimeoutError:
            raise Unreachable(f"the engine did not answer within {self._engine_timeout_s:g} s") from None
        problem = self._validate(schema, document)
        if problem:
            raise BadAnswer(f"the engine's document does not satisfy the schema: {problem}")
        return document

    async def _from_claude(
        self,
        prompt: str,
        schema: Mapping[str, Any],
        max_tokens: int,
        why: ProviderError,
        options: Mapping[str, Any],
    ) -> Document:
        system = {"system": options["system"]} if options.get("system") else {}
        try:
            message = await self._client.messages.create(
                model=self.model,
                max_tokens=max_tokens,
                messages=[{"role": "user", "content": prompt}],
                tools=[{"name": TOOL, "description": "Give the document.", "input_schema": dict(schema)}],
                tool_choice={"type": "tool", "name": TOOL},
                **system,
            )
            document = self._document(message, schema)
        except Exception as error:
            self.failures["fallback"] += 1
            told = f"{type(error).__name__}: {error}"
            raise NobodyAnswered(f"the engine failed ({why}) and so did the fallback ({told})", why) from error
        usage = getattr(message, "usage", None)
        return self._answered(
            f"anthropic:{self.model}",
            document,
            {
                "ir_json": document,
                "text": document,
                "status": "complete",
                "valid": True,
                "engine_error": str(why),
                "tokens_used": getattr(usage, "output_tokens", None),
                "prompt_tokens": getattr(usage, "input_tokens", None),
            },
        )

    def _document(self, message: Any, schema: Mapping[str, Any]) -> Document:
        for block in message.content:
            if block.type == "tool_use" and isinstance(block.input, dict):
                problem = self._validate(schema, block.input)
                if problem:
                    raise BadAnswer(f"the fallback's document does not satisfy the schema: {problem}")
                return block.input
        raise BadAnswer(f"the fallback gave no document (stop reason {message.stop_reason})")

    def _answered(self, who: str, document: Document, answer: Mapping[str, Any] | None) -> Document:
        self.answers[who] += 1
        self.last_answer = {**(answer or {}), "answered_by": who}
        return document


def judge(schema: Mapping[str, Any], document: Document) -> Problem:
    """What is wrong with a document, by the judge the engine uses; None when nothing is."""
    # imported here: a caller without a fallback needs no validator
    from engine.schema import Validator

    checked = Validator(dict(schema)).check_value(document)
    return None if checked.ok else f"{checked.message} at {checked.pointer or '/'}"
