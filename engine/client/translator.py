"""From a wish in plain words to an IR, over any provider.

The schema reaches the model only when `schema_in_prompt` is left on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.client.ir import IR
from engine.client.providers.http import Provider

MAX_TOKENS = 3072
TEMPERATURE = 0.3
PROMPT = "Specify the following {language} function as an intermediate representation in JSON.\n\n{prompt}"


class XGrammarIRTranslator:
    """LIFT's translator. `options` go to the provider with every request; pass {} for a provider that knows none."""

    def __init__(
        self,
        provider: Provider,
        schema: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.provider = provider
        self.schema = dict(schema) if schema is not None else _lift_ir()
        self.options = dict(options) if options is not None else {"schema_in_prompt": True}

    async def translate(self, prompt: str, language: str = "python") -> IR:
        """One IR, its `metadata.language` set to what was asked. ProviderError when the engine gives none."""
        document = await self.provider.generate_structured(
            PROMPT.format(language=language, prompt=prompt),
            self.schema,
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            **self.options,
        )
        ir = IR.from_dict(document)
        return replace(ir, metadata=replace(ir.metadata, language=language))


def _lift_ir() -> dict[str, Any]:
    # imported here: the schema package brings a validator, which a caller with its own schema never needs
    from engine.bundled import bundled_schema

    return bundled_schema("lift_ir")
