"""What XGrammar compiles, as plain values: it can be handed from one process to another, and cooked in either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import xgrammar as xgr


@dataclass(frozen=True, slots=True)
class Recipe:
    """A text of this kind (a structural tag as JSON), and the grammars that a Lark grammar names, as EBNF.

    `dynamic`: masks are made when a document first comes to them (`Compiler.cook`).
    """

    kind: Literal["ebnf", "lark", "structural_tag"]
    text: str
    named: Mapping[str, str] = field(default_factory=dict)
    dynamic: bool = True

    def cook(self, compiler: xgr.GrammarCompiler) -> xgr.CompiledGrammar:
        """With this compiler. Raises RuntimeError for what is no such text."""
        if self.kind == "ebnf":
            return compiler.compile_grammar(self.text)
        if self.kind == "structural_tag":
            return compiler.compile_structural_tag(json.loads(self.text))
        named = {name: xgr.Grammar.from_ebnf(ebnf) for name, ebnf in self.named.items()}
        return compiler.compile_lark(self.text, named_grammars=named)
