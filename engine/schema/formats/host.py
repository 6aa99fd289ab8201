"""Host names, addresses and mail boxes.

A host name may have 253 characters in labels of 63; remembering both takes 16,000 states, so the automaton takes one
label of up to 63 and then five of up to 30. Labels with `--` in the third and fourth place (A-labels, which would have
to decode) are left out. International labels keep to letters that no context rule or bidirectional rule touches, and to
eleven of them, which Punycode writes in 63 characters at worst.

Every state costs the matcher's compiler a walk over its vocabulary, 20 ms at 150,000 tokens, so that mail boxes keep to
domains as people have them: no two hyphens in a row, one label of up to 40 and then four of up to 20.
"""

from __future__ import annotations

from engine.schema.automata.automaton import Automaton
from engine.schema.regex.pattern import full_match

FIRST_LABEL = 63
NEXT_LABEL = 30
NEXT_LABELS = 5
INTERNATIONAL_LABEL = 11
LOCAL_PART = 64
QUOTED_PART = 30
MAIL_FIRST_LABEL = 40
MAIL_NEXT_LABEL = 20
MAIL_NEXT_LABELS = 4

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = f"(?:{_BYTE}\\.){{3}}{_BYTE}"
_ASCII = "a-zA-Z0-9"
_INTERNATIONAL = "à-öø-ÿα-ωа-яぁ-ゖァ-ヺ一-鿿가-힣"
_ATOM = "-a-zA-Z0-9!#$%&'*+/=?^_`{|}~"


def _ipv6_pattern() -> str:
    """RFC 4291 section 2.2: eight groups, the last two perhaps as IPv4, one run of groups as `::`."""
    group = "[0-9a-fA-F]{1,4}"
    tail = f"(?:{group}:{group}|{IPV4})"
    forms = [f"(?:{group}:){{6}}{tail}"]
    forms += [f"(?:(?:{group}:){{0,{6 - right}}}{group})?::{group * right}" for right in (0, 1)]
    for left in range(6):
        before = "" if left == 0 else f"{group}(?::{group}){{{left - 1}}}"
        rest = 5 - left
        forms.append(f"{before}::(?:{group}:){{0,{rest}}}{tail}" if rest else f"{before}::{IPV4}")
    return "(?:" + "|".join(forms) + ")"


IPV6 = _ipv6_pattern()


def ipv4() -> Automaton:
    """Dotted decimal without leading zeros (RFC 2673 section 3.2)."""
    return full_match(IPV4)


def ipv6() -> Automaton:
    """RFC 4291 section 2.2, without a zone."""
    return full_match(IPV6)


def _label(letters: str, longest: int) -> Automaton:
    """Letters and inner hyphens, no `--` in the third and fourth place."""
    reserved = full_match("..--.*")
    return full_match(f"[{letters}](?:[{letters}-]{{0,{longest - 2}}}[{letters}])?") - reserved


def _plain_label(longest: int) -> Automaton:
    """Letters and single inner hyphens."""
    return full_match(f"[{_ASCII}](?:-?[{_ASCII}])*") & Automaton.length(1, longest)


def hostname() -> Automaton:
    """RFC 1123 section 2.1, letters, digits and hyphens."""
    more = Automaton.literal(".") + _label(_ASCII, NEXT_LABEL)
    return _label(_ASCII, FIRST_LABEL) + more.repeat(0, NEXT_LABELS)


def idn_hostname() -> Automaton:
    """Host names whose labels are ASCII, or short enough for Punycode and of letters valid anywhere in a label."""
    short = _label("a-z0-9" + _INTERNATIONAL, INTERNATIONAL_LABEL)  # capitals stand in ASCII labels only
    label = short | _label(_ASCII, NEXT_LABEL)
    three = label + (Automaton.literal(".") + label).repeat(0, 2)
    return three | hostname()


def email() -> Automaton:
    """RFC 5321 section 4.1.2: a mail box with a dotted (at most 64 characters) or a quoted (30) local part."""
    more = Automaton.literal(".") + _plain_label(MAIL_NEXT_LABEL)
    return _mail_box("", _plain_label(MAIL_FIRST_LABEL) + more.repeat(0, MAIL_NEXT_LABELS))


def idn_email() -> Automaton:
    """RFC 6531: the same with letters beyond ASCII."""
    return _mail_box("\\u{80}-\\u{10FFFF}", idn_hostname())


def _mail_box(letters: str, domain: Automaton) -> Automaton:
    atom = f"[{_ATOM}{letters}]+"
    quoted = f'"(?:[ !#-\\[\\]-~{letters}]|\\\\[!-~])*"'
    dotted = full_match(f"{atom}(?:\\.{atom})*") & Automaton.length(1, LOCAL_PART)
    local, at = dotted | (full_match(quoted) & Automaton.length(1, QUOTED_PART)), Automaton.literal("@")
    address = full_match(f"\\[(?:{IPV4}|IPv6:{IPV6})\\]")
    return Automaton.either([(local, at, domain), (local, at, address)])
