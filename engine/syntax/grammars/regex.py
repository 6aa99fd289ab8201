r"""Regular expressions. Dialects: ECMA-262 (the default; with the flag `u`) and Python's `re`.

Wider than they are: counts and ranges out of order, names of groups and of properties, references to groups that do not
exist, lookbehinds of no fixed width.
"""

from __future__ import annotations

_ECMA = r"""
unit module = pattern
unit expression = pattern

mode pattern *
    CHAR /[^\^$\\.*+?()\[\]{}|]/
    CHAR /\./
    CHAR /\\[dDsSwW]|\\[pP]\{[A-Za-z0-9_]+(=[A-Za-z0-9_]+)?\}|\\[1-9][0-9]*/
    CHAR /\\[fnrtv0\^$\\.*+?()\[\]{}|\/]|\\c[A-Za-z]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}/
    CHAR /\\u\{0*([0-9a-fA-F]{1,5}|10[0-9a-fA-F]{4})\}/
    CHAR /\\k<([$\w]|[^\x00-\x7f]|\\u[0-9a-fA-F]{4}|\\u\{[0-9a-fA-F]+\})+>/
    WRONG /\\0[0-9]/
    BOUNDARY /\\[bB]/
    COUNT /\{[0-9]+(,[0-9]*)?\}/
    GROUP /\(|\(\?([ims]+(-[ims]*)?|-[ims]+)?:/
    GROUP /\(\?<([$\w]|[^\x00-\x7f]|\\u[0-9a-fA-F]{4}|\\u\{[0-9a-fA-F]+\})+>/
    LOOK /\(\?<?[=!]/
    CLASS /\[\^?/ -> push class
    without '-' ']'
mode class
    ONE /[^\\\]\-]/
    ONE /\\[bfnrtv0\^$\\.*+?()\[\]{}|\/\-]|\\c[A-Za-z]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}/
    ONE /\\u\{0*([0-9a-fA-F]{1,5}|10[0-9a-fA-F]{4})\}/
    SET /\\[dDsSwW]|\\[pP]\{[A-Za-z0-9_]+(=[A-Za-z0-9_]+)?\}/
    WRONG /\\0[0-9]/
    '-' -> goto class
    ']' -> pop

pattern: term* ('|' term*)*
term: atom (quantifier '?'?)? | '^' | '$' | BOUNDARY | LOOK pattern ')'
quantifier: '*' | '+' | '?' | COUNT
atom: CHAR | GROUP pattern ')' | class
class: (between | single '-'? | set '-'?) ']'
between: CLASS | single '-' (ONE | '-')
single: between (ONE | '-') | (single | set) ONE
set: (between | single | set) SET
"""

_PYTHON = r"""
unit module = file
unit expression = file

mode pattern *
    CHAR /[^\^$\\.*+?()\[|]/
    CHAR /\./
    CHAR /\\[^0-9A-Za-z]|\\[dDsSwWafnrtv]|\\[1-9][0-9]?|\\0[0-7]{0,2}|\\[1-3][0-7]{2}/
    CHAR /\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U(000[0-9a-fA-F]|0010)[0-9a-fA-F]{4}|\\N\{[A-Za-z0-9 \-]+\}/
    CHAR /\(\?P=(\w|[^\x00-\x7f])+\)/
    WRONG /\\[4-7][0-7]{2}/
    PLACE /\\[AbBZ]/
    COUNT /\{([0-9]+(,[0-9]*)?|,[0-9]*)\}/
    GROUP /\(|\(\?[:>=!]|\(\?<[=!]|\(\?P<(\w|[^\x00-\x7f])+>|\(\?([aimsu]+(-[ims]+)?|-[ims]+):/ -> push pattern
    FLAGS /\(\?[aimsu]+\)/
    IF /\(\?\((\w|[^\x00-\x7f])+\)/ -> push pattern
    WIDE /\(\?[aimsu]*x[aimsux]*(-[ims]+)?:/ -> push verbose
    NARROW /\(\?[aimsu]*-[ims]*x[imsx]*:/ -> push pattern
    WIDEFLAGS /\(\?[aimsu]*x[aimsux]*\)/ -> goto verbose
    ')' -> pop
    CLASS /\[\^?/ -> push begin
    skip /\(\?#/ -> push comment
    without '-' ']'
mode verbose *
    include pattern
    CHAR /[^\^$\\.*+?()\[| \t\n\r\x0b\f#]/
    CHAR /\./
    CHAR /\\[^0-9A-Za-z]|\\[dDsSwWafnrtv]|\\[1-9][0-9]?|\\0[0-7]{0,2}|\\[1-3][0-7]{2}/
    CHAR /\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U(000[0-9a-fA-F]|0010)[0-9a-fA-F]{4}|\\N\{[A-Za-z0-9 \-]+\}/
    CHAR /\(\?P=(\w|[^\x00-\x7f])+\)/
    GROUP /\(|\(\?[:>=!]|\(\?<[=!]|\(\?P<(\w|[^\x00-\x7f])+>|\(\?([aimsu]+(-[ims]+)?|-[ims]+):/ -> push verbose
    IF /\(\?\((\w|[^\x00-\x7f])+\)/ -> push verbose
    skip /[ \t\n\r\x0b\f]+|#[^\n]*/
mode comment
    skip /[^)]+/
    skip /\)/ -> pop
mode class
    ONE /[^\\\]\-]/
    ONE /\\[^0-9A-Za-z]|\\[abfnrtv]|\\[0-3][0-7]{0,2}|\\[4-7][0-7]?/
    ONE /\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U(000[0-9a-fA-F]|0010)[0-9a-fA-F]{4}|\\N\{[A-Za-z0-9 \-]+\}/
    SET /\\[dDsSwW]/
    WRONG /\\[4-7][0-7]{2}/
    '-' -> goto class
    ']' -> pop
mode begin
    include class
    ONE /[^\\\-]/ -> goto class
    ONE /\\[^0-9A-Za-z]|\\[abfnrtv]|\\[0-3][0-7]{0,2}|\\[4-7][0-7]?/
    ONE /\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U(000[0-9a-fA-F]|0010)[0-9a-fA-F]{4}|\\N\{[A-Za-z0-9 \-]+\}/
    SET /\\[dDsSwW]/ -> goto class
    '-' -> goto class
    without ']'

file: (FLAGS | WIDEFLAGS)* pattern
pattern: term* ('|' term*)*
term: atom (('*' | '+' | '?' | COUNT) ('?' | '+')?)? | '^' | '$' | PLACE
atom: CHAR | class | (GROUP | WIDE | NARROW) pattern ')' | IF term* ('|' term*)? ')'
class: (between | single '-'? | set '-'?) ']'
between: CLASS | single '-' (ONE | '-')
single: between (ONE | '-') | (single | set) ONE
set: (between | single | set) SET
"""

_DIALECTS = {None: _ECMA, "ecma-262": _ECMA, "python": _PYTHON}


def grammar(dialect: str | None) -> str:
    if dialect not in _DIALECTS:
        raise ValueError(f"syntax: regex is 'ecma-262' or 'python', not {dialect!r}")
    return _DIALECTS[dialect]
