"""LIFT's provider over HTTP: the same names, defaults and order; errors that say what happened.

Knows the LIFT contract, Modal's 303 after 150 s, and which failures are safe to repeat. Does not know how an engine
works.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from engine.client.environment import auth_headers, endpoint_url
from engine.client.providers.health_url import health_url
from engine.client.providers.problems import (
    BadAnswer,
    ColdStart,
    ProviderError,
    Refused,
    Unreachable,
    from_failure,
    from_response,
)

TIMEOUT_S = 600.0
HEALTH_TIMEOUT_S = 10.0
DEFAULT_TOP_P = 0.95
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderCapabilities:
    """What a provider can do, as LIFT asks."""

    streaming: bool
    structured_output: bool
    reasoning: bool = True


class Provider(ABC):
    """What LIFT calls. `last_answer` is the whole answer behind the last document: tokens, timings, who answered."""

    name: str
    capabilities: ProviderCapabilities
    last_answer: Mapping[str, Any] | None = None

    @property
    def supports_streaming(self) -> bool:
        return self.capabilities.streaming

    @property
    def supports_structured_output(self) -> bool:
        return self.capabilities.structured_output

    @property
    def provider_type(self) -> str:
        return self.name

    async def ensure_initialized(self, credentials: Mapping[str, Any] | None) -> None:
        """Initialise; ValueError without credentials (an empty mapping will do)."""
        if credentials is None:
            raise ValueError(f"no credentials for provider {self.name!r}; an empty dict will do")
        await self.initialize(credentials)

    @abstractmethod
    async def initialize(self, credentials: Mapping[str, Any]) -> None:
        """Open connections; call once before anything else."""

    @abstractmethod
    async def generate_structured(
        self, prompt: str, schema: Mapping[str, Any], max_tokens: int = 2048, temperature: float = 0.3, **kwargs: Any
    ) -> Document:
        """A document that satisfies the schema; ProviderError (a ValueError) otherwise."""

    @abstractmethod
    async def check_health(self) -> bool:
        """Whether the health route answers 200; never raises."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections; harmless when there are none."""

    async def generate_text(self, prompt: str, max_tokens: int = 1024, temperature: float = 0.7, **kwargs: Any) -> str:
        """LIFT keeps free text with its other providers."""
        raise NotImplementedError(f"provider {self.name!r} makes schema-constrained documents only")

    async def generate_stream(self, prompt: str, **kwargs: Any) -> AsyncIterator[str]:
        """As `generate_text`."""
        raise NotImplementedError(f"provider {self.name!r} does not stream")


class ModalProvider(Provider):
    """The engine at a URL. Credentials come from the environment or from `headers`, never from `initialize`."""

    name = "modal"
    capabilities = ProviderCapabilities(streaming=False, structured_output=True, reasoning=True)

    def __init__(
        self,
        endpoint_url: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint_url = endpoint_url.rstrip("/")
        self.health_url = health_url(endpoint_url)
        self._headers = dict(headers) if headers is not None else None
        self._timeout_s, self._transport = timeout_s, transport
        self._client: httpx.AsyncClient | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Any) -> ModalProvider:
        """The endpoint and the credentials the environment names."""
        return cls(endpoint_url(environ), auth_headers(environ), **options)

    async def initialize(self, credentials: Mapping[str, Any]) -> None:  # noqa: ARG002 - LIFT's interface
        """Open the client; `credentials` are ignored, as LIFT's provider does."""
        await self.aclose()
        headers = self._headers if self._headers is not None else auth_headers()
        self._client = httpx.AsyncClient(
            timeout=self._timeout_s, follow_redirects=True, headers=headers, transport=self._transport
        )

    async def generate_structured(
        self, prompt: str, schema: Mapping[str, Any], max_tokens: int = 2048, temperature: float = 0.3, **kwargs: Any
    ) -> Document:
        """The parsed document. `kwargs`: further fields of the contract (`top_p`, `seed`, `schema_in_prompt`, ...)."""
        body = {
            "prompt": prompt,
            "schema": schema,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": DEFAULT_TOP_P,
            **kwargs,
        }
        return read_document(self, await self._post(body))

    async def check_health(self) -> bool:
        """GET the health URL, ten seconds; it never starts a GPU."""
        return (await self.health()) is not None

    async def health(self) -> dict[str, Any] | None:
        """What the health route says (`state`: cold, loading, ready, ...), or None when it does not answer 200."""
        if self._client is None:
            return None
        try:
            response = await self._client.get(self.health_url, timeout=HEALTH_TIMEOUT_S)
            body = response.json() if response.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            return None
        return body if isinstance(body, dict) else None

    async def aclose(self) -> None:
        """Close the client."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send until answered, repeating only what was never begun, within one time-out."""
        if self._client is None:
            raise RuntimeError("the provider is not initialized: await initialize({}) first")
        until = time.monotonic() + self._timeout_s
        attempt = 0
        while True:
            wait_s = 2.0**attempt / 2
            problem: ProviderError
            try:
                response = await self._client.post(self.endpoint_url, json=body)
            except httpx.HTTPError as error:
                problem = await self._no_answer(error)
                if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise problem from error
            else:
                if response.status_code < httpx.codes.BAD_REQUEST:
                    return _json(response)
                problem = _refusal(response)
                if response.status_code not in REPEATABLE:
                    raise problem
                wait_s = max(wait_s, _retry_after(response))
            attempt += 1
            if attempt > MAX_REPEATS or time.monotonic() + wait_s > until:
                raise problem
            await asyncio.sleep(wait_s)

    async def _no_answer(self, error: httpx.HTTPError) -> ColdStart | Unreachable:
        """Silence, explained by the health route: loading is not failure."""
        state = (await self.health() or {}).get("state")
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        if state in ("cold", "loading"):
            return ColdStart(f"the engine is {state}; repeat the request ({what})")
        return Unreachable(f"no answer from {self.endpoint_url} ({what}); its health route says {state or 'nothing'}")


REPEATABLE = (408, 429, 503)
"""Nothing was decoded: the body never arrived, the queue was full, the engine was not ready."""
MAX_REPEATS = 8


def read_document(provider: Provider, answer: Mapping[str, Any]) -> Document:
    """The document of an answer, under either of its two names."""
    if "error" in answer:
        raise from_failure(answer)
    document = answer.get("ir_json", answer.get("text"))
    if not isinstance(document, dict):
        raise BadAnswer(f"the answer has no JSON object under 'ir_json' or 'text', but {type(document).__name__}")
    provider.last_answer = answer
    return document


def _json(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BadAnswer(f"the answer of {response.url} is not a JSON object: {response.text[:200]!r}")
    return body


def _refusal(response: httpx.Response) -> Refused | ColdStart:
    try:
        body = json.loads(response.text)
    except ValueError:
        body = None
    refused = from_response(response.status_code, response.text, body)
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and "loading" in str(refused):
        return ColdStart(str(refused))
    return refused


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
