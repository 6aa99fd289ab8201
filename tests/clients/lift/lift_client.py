"""LIFT's own provider and translator, imported from its checkout; nothing of it is copied here."""

from __future__ import annotations

import os
from typing import Any

from harness import main, usage
from lift_sys.forward_mode import XGrammarIRTranslator
from lift_sys.ir.schema import IR_JSON_SCHEMA
from lift_sys.providers.modal_provider import ModalProvider

URL = os.environ["MODAL_ENDPOINT_URL"]
SMALL: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "pure": {"type": "boolean"}},
    "required": ["name", "pure"],
}


async def provider(path: str) -> Any:
    made = ModalProvider(f"{URL}{path}")
    await made.initialize({})
    return made


@usage("check_health, from each form of the URL")
async def health() -> None:
    for path in ("", "/generate", "/generate_ir"):
        made = await provider(path)
        assert await made.check_health(), path
        await made.aclose()


@usage("generate_structured, from each form of the URL")
async def structured() -> None:
    for path in ("", "/generate", "/generate_ir"):
        made = await provider(path)
        answer = await made.generate_structured("Name a function", SMALL, max_tokens=60, temperature=0.3, top_p=0.9)
        assert answer.keys() == {"name", "pure"}, path
        await made.aclose()


@usage("generate_structured, the IR's schema")
async def ir() -> None:
    made = await provider("/generate")
    answer = await made.generate_structured("Add two integers", IR_JSON_SCHEMA, max_tokens=300)
    assert {"intent", "signature"} <= answer.keys()
    await made.aclose()


@usage("a budget that is too small is its ValueError")
async def budget() -> None:
    made = await provider("/generate")
    told = ""
    try:
        await made.generate_structured("Add two integers", IR_JSON_SCHEMA, max_tokens=2)
    except ValueError as error:
        told = str(error)
    assert "BudgetTooSmall" in told
    await made.aclose()


@usage("XGrammarIRTranslator.translate")
async def translate() -> None:
    made = await provider("/generate")
    found = await XGrammarIRTranslator(made).translate("Add two integers", max_retries=0)
    assert found.signature.name
    await made.aclose()


main()
