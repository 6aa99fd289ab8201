"""The IR dataclasses and the translator that fills them."""

from __future__ import annotations

import json

import pytest

from engine.bundled import bundled_folder
from engine.client import IR, ModalFunctionProvider, XGrammarIRTranslator
from engine.client.providers.http import Provider, ProviderCapabilities

FULL = {
    "intent": {"summary": "Add two integers", "rationale": None, "holes": []},
    "signature": {
        "name": "add",
        "parameters": [{"name": "a", "type_hint": "int"}, {"name": "b", "type_hint": "int", "description": "right"}],
        "returns": "int",
        "holes": [{"identifier": "h", "type_hint": "int", "constraints": {"min": "0"}, "kind": "signature"}],
    },
    "effects": [{"description": "none"}],
    "assertions": [{"predicate": "result == a + b", "rationale": "by definition"}],
    "metadata": {"language": "rust", "evidence": [{"anything": [1]}]},
    "constraints": [{"type": "return_constraint", "value_name": "total"}],
}


class Recording(Provider):
    name = "recording"
    capabilities = ProviderCapabilities(streaming=False, structured_output=True)

    def __init__(self, document):
        self.document, self.asked = document, []

    async def initialize(self, credentials):
        pass

    async def generate_structured(self, prompt, schema, max_tokens=2048, temperature=0.3, **kwargs):
        self.asked.append((prompt, schema, max_tokens, temperature, kwargs))
        return self.document

    async def check_health(self):
        return True

    async def aclose(self):
        pass


def test_a_full_document_round_trips():
    ir = IR.from_dict(FULL)
    assert (ir.signature.name, ir.signature.parameters[1].description) == ("add", "right")
    assert ir.signature.holes[0].constraints == {"min": "0"}
    assert ir.constraints[0]["type"] == "return_constraint"
    assert IR.from_dict(ir.to_dict()) == ir
    assert json.loads(json.dumps(ir.to_dict()))["assertions"][0]["rationale"] == "by definition"


def test_every_valid_instance_that_ships_can_be_read():
    lines = (bundled_folder() / "lift_ir.valid.jsonl").read_text().splitlines()
    read = [IR.from_dict(_instance(json.loads(line))) for line in lines if line.strip()]
    assert len(read) >= 5


def _instance(entry):
    return next((entry[name] for name in ("instance", "data", "value") if name in entry), entry)


@pytest.mark.parametrize(
    "bad", [{}, {"intent": {}}, {**FULL, "signature": []}, {**FULL, "intent": {"summary": 1, "x": 2}}]
)
def test_what_is_no_ir_is_a_value_error(bad):
    with pytest.raises(ValueError, match="not an IR"):
        IR.from_dict(bad)


@pytest.mark.anyio
async def test_the_translator_asks_once_and_builds_the_ir():
    provider = Recording(FULL)
    ir = await XGrammarIRTranslator(provider).translate("add two integers", language="python")
    prompt, schema, max_tokens, temperature, options = provider.asked[0]
    assert "add two integers" in prompt
    assert "python" in prompt
    assert "signature" in schema["properties"]
    assert (max_tokens, temperature, options) == (3072, 0.3, {"schema_in_prompt": True})
    assert (ir.signature.name, ir.metadata.language) == ("add", "python")
    assert ir.metadata.evidence == ({"anything": [1]},)


@pytest.mark.anyio
async def test_the_translator_takes_another_schema_and_no_options():
    provider = Recording(FULL)
    await XGrammarIRTranslator(provider, {"type": "object"}, options={}).translate("x")
    assert provider.asked[0][1] == {"type": "object"}
    assert provider.asked[0][4] == {}


class Remote:
    """What `modal.Cls.from_name(..)()` gives: methods with `.remote.aio`."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def __getattr__(self, _):
        return self

    async def aio(self, **kwargs):
        self.asked.append(kwargs)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.anyio
async def test_the_same_provider_over_a_function_call():
    handle = Remote({"ir_json": FULL, "text": FULL, "status": "complete"})
    provider = ModalFunctionProvider(handle=handle, state=Remote({"status": "healthy"}))
    with pytest.raises(RuntimeError, match="initialize"):
        await provider.generate_structured("x", {})
    assert await provider.check_health() is False
    await provider.initialize({})
    assert await provider.generate_structured("x", {"type": "object"}, temperature=0.0, seed=1) == FULL
    expected = {"prompt": "x", "schema": {"type": "object"}, "max_tokens": 2048, "temperature": 0.0}
    assert handle.asked == [{**expected, "top_p": 0.95, "seed": 1}]
    assert await provider.check_health() is True
    await provider.aclose()
    assert await provider.check_health() is False


@pytest.mark.anyio
async def test_a_failure_dict_and_a_broken_call_are_errors_with_a_reason():
    failure = {
        "status": "error",
        "error": "no such field",
        "error_detail": {"type": "UnknownOption", "status_code": 400},
    }
    provider = ModalFunctionProvider(handle=Remote(failure))
    await provider.initialize({})
    with pytest.raises(ValueError, match="no such field") as caught:
        await provider.generate_structured("x", {})
    assert caught.value.is_callers_fault
    provider = ModalFunctionProvider(handle=Remote(RuntimeError("container lost")))
    await provider.initialize({})
    with pytest.raises(ValueError, match="container lost"):
        await provider.generate_structured("x", {})
