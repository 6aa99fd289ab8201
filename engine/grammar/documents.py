"""Where JSON begins and ends, said in the grammar itself: only there the cursor counts. Knows rules only."""

from __future__ import annotations

from engine.grammar.pushdown import DOCUMENT_END
from engine.schema.grammar import Grammar, Ref, Rule


def as_document(grammar: Grammar, name: str = "json") -> Grammar:
    """The grammar of one JSON document with a mark behind it; the rule `name` derives both. No rule is copied."""
    document = Rule(name, ((Ref(grammar.root), Ref(DOCUMENT_END)),))
    end = Rule(DOCUMENT_END, ((),))
    return Grammar({**grammar.rules, name: document, DOCUMENT_END: end}, name)
