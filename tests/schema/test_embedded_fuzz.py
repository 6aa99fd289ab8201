"""A few generated schemas wherever a schema may stand; many more: `python -m tests.schema.embedded_fuzz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xgrammar

from tests.schema.embedded_fuzz import run


@pytest.fixture
def foreign_converter_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that XGrammar's own converter of JSON Schema would read may reach its compiler."""

    def guarded(name: str) -> Any:
        original = getattr(xgrammar.GrammarCompiler, name)

        def call(self: Any, source: Any, *args: Any, **named: Any) -> Any:
            if "json_schema" in str(source) or "%json" in str(source):
                raise AssertionError(f"{name} was given a schema")
            return original(self, source, *args, **named)

        return call

    def raises(*_args: Any, **_named: Any) -> None:
        raise AssertionError("XGrammar's converter was asked")

    for name in ("compile_lark", "compile_structural_tag", "compile_grammar"):
        monkeypatch.setattr(xgrammar.GrammarCompiler, name, guarded(name))
    monkeypatch.setattr(xgrammar.GrammarCompiler, "compile_json_schema", raises)
    monkeypatch.setattr(xgrammar.Grammar, "from_json_schema", raises)


@pytest.mark.usefixtures("foreign_converter_raises")
def test_what_is_called_valid_is_valid_to_a_second_validator_wherever_the_schema_stands(tmp_path: Path) -> None:
    tally = run(schemas=3, documents=2, seed=20, folder=tmp_path)
    assert tally.lies == []
    for form in ("plain", "lark", "tag", "tool"):
        assert tally.outcomes[f"{form}: valid"] >= 4
