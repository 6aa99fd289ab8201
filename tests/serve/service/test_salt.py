"""What one key's prompts left in the prefix cache is not another key's to find."""

from __future__ import annotations

import asyncio

from engine.request import Request
from engine.serve.log.accounting import Call
from engine.serve.service.service import Service
from tests.serve.fakes import FakeEngine


def test_the_prefix_salt_holds_the_key_and_the_callers_own_salt() -> None:
    engine = FakeEngine()
    service = Service(engine)

    async def ask(key: str, salt: str | None) -> str | None:
        await service.generate(Request(prompt="x", cache_salt=salt), Call(route="/generate", key=key))
        return engine.requests[-1].cache_salt

    async def all_of_them() -> set[str | None]:
        return {await ask(key, salt) for key in ("key-a", "key-b") for salt in (None, "mine")}

    assert len(asyncio.run(all_of_them())) == 4
