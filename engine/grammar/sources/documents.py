"""Where JSON begins and ends, said in the grammar itself: only there the cursor counts. Knows rules only."""

from __future__ import annotations

from engine.schema.rules.grammar import Grammar, Ref, Rule

DOCUMENT_END = "json.end"
"""The rule, of no text, that stands behind each JSON document: it is in a stack from the document's first byte until
something else comes."""


def as_document(grammar: Grammar, name: str = "json") -> Grammar:
    """The grammar of one JSON document with a mark behind it; the rule `name` derives both. No rule is copied."""
    document = Rule(name, ((Ref(grammar.root), Ref(DOCUMENT_END)),))
    end = Rule(DOCUMENT_END, ((),))
    return Grammar({**grammar.rules, name: document, DOCUMENT_END: end}, name)
