"""LIFT's provider over a Modal function call: no 150 s limit, no redirects, no open URL.

The modal package is imported when the provider is initialised, so that importing this file needs neither it nor a
token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.client.environment import modal_app
from engine.client.providers.http import DEFAULT_TOP_P, Document, Provider, ProviderCapabilities, read_document
from engine.client.providers.problems import Unreachable
from engine.errors import EngineError, missing_extra


class ModalFunctionProvider(Provider):
    """The deployed class `Engine` of an app. `handle` replaces the lookup in tests: an object with the same methods."""

    name = "modal"
    capabilities = ProviderCapabilities(streaming=False, structured_output=True, reasoning=True)

    def __init__(self, app: str | None = None, cls: str = "Engine", *, handle: Any = None, state: Any = None) -> None:
        self._app, self._cls = app, cls
        self._given, self._given_state = handle, state
        self._handle: Any = None
        self._state: Any = None

    async def initialize(self, credentials: Mapping[str, Any]) -> None:  # noqa: ARG002 - LIFT's interface
        """Look the class up; lazy, so a missing deployment shows at the first call. Tokens are modal's own business."""
        if self._given is not None:
            self._handle, self._state = self._given, self._given_state
            return
        try:
            import modal
        except ImportError:
            raise missing_extra("modal", "modal") from None
        app = self._app or modal_app()
        self._handle = modal.Cls.from_name(app, self._cls)()
        self._state = modal.Function.from_name(app, "state")

    async def generate_structured(
        self, prompt: str, schema: Mapping[str, Any], max_tokens: int = 2048, temperature: float = 0.3, **kwargs: Any
    ) -> Document:
        """As over HTTP; waits for a cold start without a limit of its own."""
        handle = self._ready()
        options = {"top_p": DEFAULT_TOP_P, **kwargs}
        try:
            answer = await handle.generate.remote.aio(
                prompt=prompt, schema=dict(schema), max_tokens=max_tokens, temperature=temperature, **options
            )
        except EngineError:
            raise
        except Exception as error:
            raise Unreachable(f"the function call failed: {type(error).__name__}: {error}") from error
        return read_document(self, answer)

    async def check_health(self) -> bool:
        """Asks the small CPU function, which starts no GPU."""
        if self._state is None:
            return False
        try:
            report = await self._state.remote.aio()
        except Exception:  # noqa: BLE001 - health is a question, whatever goes wrong is a no
            return False
        return bool(report.get("status") == "healthy")

    async def aclose(self) -> None:
        """Forget the handle; modal keeps its own connection."""
        self._handle = self._state = None

    def _ready(self) -> Any:
        if self._handle is None:
            raise RuntimeError("the provider is not initialized: await initialize({}) first")
        return self._handle
