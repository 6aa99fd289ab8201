"""URIs (RFC 3986), IRIs (RFC 3987) and URI templates (RFC 6570), exactly."""

from __future__ import annotations

from engine.schema.automata.automaton import Automaton
from engine.schema.formats.host import IPV6
from engine.schema.regex.pattern import full_match

_PLANES = "".join(f"\\u{{{plane:X}0000}}-\\u{{{plane:X}FFFD}}" for plane in range(1, 14))
_UCS = f"\\u{{A0}}-\\u{{D7FF}}\\u{{F900}}-\\u{{FDCF}}\\u{{FDF0}}-\\u{{FFEF}}{_PLANES}\\u{{E1000}}-\\u{{EFFFD}}"
_PRIVATE = "\\u{E000}-\\u{F8FF}\\u{F0000}-\\u{FFFFD}\\u{100000}-\\u{10FFFD}"
_UNRESERVED = "a-zA-Z0-9._~"
_DELIMITERS = "!$&'()*+,;="
_ENCODED = "%[0-9a-fA-F]{2}"
_SCHEME = "[a-zA-Z][a-zA-Z0-9+.-]*"


def _reference(letters: str, private: str, scheme: bool) -> str:
    """RFC 3986 appendix A; `letters` and `private` are what IRIs add to names and to queries."""

    def many(extra: str, least: int = 0) -> str:
        return f"(?:[-{extra}{_DELIMITERS}{letters}{_UNRESERVED}]|{_ENCODED}){{{least},}}"

    literal = f"\\[(?:{IPV6}|[vV][0-9a-fA-F]+\\.[-{_UNRESERVED}{_DELIMITERS}:]+)\\]"
    authority = f"(?:{many(':')}@)?(?:{literal}|{many('')})(?::[0-9]*)?"
    segment = many(":@")
    absolute = f"/(?:{many(':@', 1)}(?:/{segment})*)?"
    first = many(":@", 1) if scheme else many("@", 1)
    hierarchy = f"(?://{authority}(?:/{segment})*|{absolute}|{first}(?:/{segment})*)?"
    suffix = f"(?:\\?{many(':@/?' + private)})?(?:#{many(':@/?')})?"
    return (f"{_SCHEME}:" if scheme else "") + hierarchy + suffix


def uri() -> Automaton:
    """A URI with its scheme."""
    return full_match(_reference("", "", True))


def uri_reference() -> Automaton:
    """A URI or a relative reference."""
    return full_match(_reference("", "", True)) | full_match(_reference("", "", False))


def iri() -> Automaton:
    """An IRI with its scheme."""
    return full_match(_reference(_UCS, _PRIVATE, True))


def iri_reference() -> Automaton:
    """An IRI or a relative reference."""
    return full_match(_reference(_UCS, _PRIVATE, True)) | full_match(_reference(_UCS, _PRIVATE, False))


def uri_template() -> Automaton:
    """RFC 6570 section 2, up to level 4, reserved operators included."""
    literal = f"[!#-$&'(-;=?-\\[\\]_a-z~{_UCS}{_PRIVATE}]|{_ENCODED}"
    character = f"(?:[a-zA-Z0-9_]|{_ENCODED})"
    variable = f"{character}(?:\\.?{character})*(?::[1-9][0-9]{{0,3}}|\\*)?"
    return full_match(f"(?:{literal}|\\{{[+#./;?&=,!@|]?{variable}(?:,{variable})*\\}})*")
