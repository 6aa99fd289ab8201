"""Python 3.13: what `ast.parse` accepts, and what it would refuse only for a name's or a number's value.

`return` outside functions and the like, which only compiling refuses, are accepted. Units `statements`, `statement`,
`expression`, `type` and `body` may be indented, by what their first line is.
"""

from __future__ import annotations

_QUOTES = ("'", '"', "'''", '"""')
_PREFIXES = {
    "S": "[uU]?",
    "R": "[rR]",
    "B": "[bB]",
    "RB": "([bB][rR]|[rR][bB])",
    "F": "[fF]",
    "RF": "([fF][rR]|[rR][fF])",
}
_HEX = "[0-9a-fA-F]"
_BYTE = rf"x{_HEX}{{2}}"
_UNICODE = rf"u{_HEX}{{4}}|U000{_HEX}{{5}}|U0010{_HEX}{{4}}|N\{{[A-Za-z][-A-Za-z0-9 ()]{{0,99}}\}}"
_ESCAPES = {"S": rf"[^xuUN\0\r]|\r\n?|{_BYTE}|{_UNICODE}", "B": r"[^x\0\r\x80-\U0010ffff]|\r\n?|" + _BYTE}
_ESCAPES["R"], _ESCAPES["RB"] = r"[^\0\r]|\r\n?", r"[^\0\r\x80-\U0010ffff]|\r\n?"
_ESCAPES["F"], _ESCAPES["RF"] = rf"[^xuUN\0\r{{}}]|\r\n?|{_BYTE}|{_UNICODE}", r"[^\0\r{}]|\r\n?"


def _string(kind: str, number: int) -> str:
    """The modes within a string: what is written in it, and the fields of a formatted one."""
    quote = _QUOTES[number]
    formatted, lines = kind in ("F", "RF"), "" if len(quote) == 3 else r"\r\n"
    beyond = r"\x80-\U0010ffff" if "B" in kind else ""
    other = rf"\0\\{quote[0]}{lines}{beyond}{'{}' if formatted else ''}"
    mode, field = f"{kind}{number}", f"field{number}"
    text = [f"mode {mode}", rf"    skip /([^{other}]|\\({_ESCAPES[kind]}))+/", f"    QUOTE /{quote}/ -> pop"]
    if len(quote) == 3:
        text.append(f"    skip /{quote[0]}{quote[0]}?/")
    if formatted:
        text += [r"    skip /\\?\{\{|\\?\}\}/", rf"    FIELD /\\?\{{/ -> push {field}"]
    return "\n".join(text)


def _field(number: int) -> str:
    quote = _QUOTES[number]
    other = rf"{quote[0]}\r\n" if len(quote) == 1 else ""
    return rf"""
mode spec{number}
    skip /([^\0\\{{}}{other}]|\\[^\0])+/
    FIELD /\{{/ -> push field{number}
    '}}' -> pop
mode field{number} *
    include bracket
    CONVERSION /![rsa]/
    ':' -> goto spec{number}
    without ':='"""


_OPENERS = "\n".join(
    f"    {kind}{number} /{prefix}{quote}/ -> push {kind}{number}"
    for kind, prefix in _PREFIXES.items()
    for number, quote in enumerate(_QUOTES)
)
_STRINGS = "\n".join(_string(kind, number) for kind in _PREFIXES for number in range(4))
_FIELDS = "\n".join(_field(number) for number in range(4))


def _openers(*kinds: str) -> str:
    return " | ".join(f"{kind}{number}" for kind in kinds for number in range(4))


GRAMMAR = rf"""
unit module = file
unit statements = file in begin loose
unit statement = statement in begin loose
unit expression = only_expression in begin loose
unit type = only_type in begin loose
unit signature = only_signature in begin loose
unit body = statements in begin loose
soft 'match' 'case' 'type'
end NEWLINE
layout INDENT DEDENT

mode begin
    space /[ \t\f]+/ -> goto indented
    skip /\r\n?|\n|#[^\0\r\n]*/ -> goto begin
    join /\\(\r\n?|\n)/ -> goto begin
    otherwise -> goto line
mode indented
    skip /\r\n?|\n|#[^\0\r\n]*/ -> goto begin
    join /\\(\r\n?|\n)/ -> goto folded
    otherwise -> goto line
mode folded
    include indented
    skip /[ \t\f]+/
    otherwise -> goto line
mode line *
    skip /[ \t\f]+|#[^\0\r\n]*/
    join /\\(\r\n?|\n)/
    NAME /\i\I*/
    NUMBER /[1-9](_?[0-9])*|0(_?0)*|0[xX](_?{_HEX})+|0[oO](_?[0-7])+|0[bB](_?[01])+/
    NUMBER /[0-9](_?[0-9])*(\.([0-9](_?[0-9])*)?)?([eE][-+]?[0-9](_?[0-9])*)?[jJ]/
    NUMBER /[0-9](_?[0-9])*\.([0-9](_?[0-9])*)?([eE][-+]?[0-9](_?[0-9])*)?/
    NUMBER /[0-9](_?[0-9])*[eE][-+]?[0-9](_?[0-9])*/
    NUMBER /\.[0-9](_?[0-9])*([eE][-+]?[0-9](_?[0-9])*)?[jJ]?/
{_OPENERS}
    NEWLINE /\r\n?|\n/ -> goto begin
    '(' -> push bracket
    '[' -> push bracket
    '{{' -> push bracket
mode bracket *
    include line
    skip /[ \t\f\r\n]+|#[^\0\r\n]*/
    ')' -> pop
    ']' -> pop
    '}}' -> pop
    without NEWLINE
{_FIELDS}
{_STRINGS}

file: statement*
statements: statement+
only_expression: expr % ',' ','? NEWLINE?
only_type: expr NEWLINE?
only_signature: ('async'? 'def')? NAME type_params? '(' parameters? ')' ('->' expr)? ':'? NEWLINE?
statement: simple (';' simple)* ';'? NEWLINE | compound
block: NEWLINE INDENT statement+ DEDENT | simple (';' simple)* ';'? NEWLINE | NEWLINE? OPEN

simple: expressions
    | (targets '=')+ (yield | expressions)
    | single ':' expr ('=' (yield | expressions))?
    | single augmented (yield | expressions)
    | yield
    | 'return' expressions?
    | 'del' (deleted % ',') ','?
    | 'pass' | 'break' | 'continue'
    | 'raise' (expr ('from' expr)?)?
    | ('global' | 'nonlocal') NAME % ','
    | 'assert' expr (',' expr)?
    | 'import' (dotted ('as' NAME)?) % ','
    | 'from' ('.' | '...')* dotted 'import' imported
    | 'from' ('.' | '...')+ 'import' imported
    | 'type' NAME type_params? '=' expr
augmented: '+=' | '-=' | '*=' | '/=' | '//=' | '%=' | '@=' | '&=' | '|=' | '^=' | '<<=' | '>>=' | '**='
dotted: NAME % '.'
imported: '*' | alias % ',' | '(' alias % ',' ','? ')'
alias: NAME ('as' NAME)?

place: NAME | primary '.' NAME | primary '[' slices ']'
target: place | '(' targets? ')' | '[' targets? ']'
targets: ('*'? target) % ',' ','?
single: place | '(' single ')'
deleted: place | '(' (deleted % ',' ','?)? ')' | '[' (deleted % ',' ','?)? ']'

compound: if | for | while | with | try | match | decorator* (function | class)
if: 'if' named ':' block ('elif' named ':' block)* else?
else: 'else' ':' block
while: 'while' named ':' block else?
for: 'async'? 'for' targets 'in' expressions ':' block else?
with: with_head ':' block
with_head: 'async'? 'with' (with_item % ',' | '(' with_item % ',' ','? ')')
with_item: expr ('as' '*'? target)?
try: 'try' ':' block ((except+ | except_group+) else? finally? | finally)
    | 'try' ':' NEWLINE? OPEN
except: 'except' (expr ('as' NAME)?)? ':' block
except_group: 'except' '*' expr ('as' NAME)? ':' block
finally: 'finally' ':' block
decorator: '@' named NEWLINE
class: 'class' NAME type_params? ('(' arguments? ')')? ':' block
function: 'async'? 'def' NAME type_params? '(' parameters? ')' ('->' expr)? ':' block

type_params: '[' type_param % ',' ','? ']'
type_param: NAME (':' expr)? ('=' expr)? | '*' NAME ('=' '*'? expr)? | '**' NAME ('=' expr)?

parameters: (plain | slashed | with_default | slashed_default | starred | last) ','?
plain: parameter | plain ',' parameter
slashed: plain ',' '/' | slashed ',' parameter
with_default: default | plain ',' default | with_default ',' default
slashed_default: with_default ',' '/' | slashed ',' default | slashed_default ',' default
positional: plain | slashed | with_default | slashed_default
bare: '*' | positional ',' '*'
starred: '*' star_parameter | positional ',' '*' star_parameter | (bare | starred) ',' (parameter | default)
last: '**' parameter | (positional | starred) ',' '**' parameter
parameter: NAME (':' expr)?
default: parameter '=' expr
star_parameter: NAME (':' '*'? expr)?

l_parameters: (l_plain | l_slashed | l_with_default | l_slashed_default | l_starred | l_last) ','?
l_plain: NAME | l_plain ',' NAME
l_slashed: l_plain ',' '/' | l_slashed ',' NAME
l_with_default: l_default | l_plain ',' l_default | l_with_default ',' l_default
l_slashed_default: l_with_default ',' '/' | l_slashed ',' l_default | l_slashed_default ',' l_default
l_positional: l_plain | l_slashed | l_with_default | l_slashed_default
l_bare: '*' | l_positional ',' '*'
l_starred: '*' NAME | l_positional ',' '*' NAME | (l_bare | l_starred) ',' (NAME | l_default)
l_last: '**' NAME | (l_positional | l_starred) ',' '**' NAME
l_default: NAME '=' expr

expressions: expression % ',' ','?
expression: expr | '*' operand
yield: 'yield' expressions? | 'yield' 'from' expr
named: expr | NAME ':=' expr
item: named | '*' operand
expr: condition | condition 'if' condition 'else' expr | 'lambda' l_parameters? ':' expr
condition: negation (('and' | 'or') negation)*
negation: 'not'* comparison
comparison: operand (compare operand)*
compare: '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not' 'in' | 'is' | 'is' 'not'
operand: unary (binary unary)*
binary: '+' | '-' | '*' | '/' | '//' | '%' | '@' | '**' | '<<' | '>>' | '&' | '|' | '^'
unary: ('-' | '+' | '~')* 'await'? primary

primary: place | primary '(' arguments? ')' | primary '(' named comprehension ')' | atom
atom: NUMBER | string | 'None' | 'True' | 'False' | '...'
    | '(' (yield | named)? ')' | '(' item ',' (item % ',' ','?)? ')' | '(' named comprehension ')'
    | '[' (item % ',' ','?)? ']' | '[' named comprehension ']'
    | '{{' (pair % ',' ','?)? '}}' | '{{' expr ':' expr comprehension '}}'
    | '{{' item % ',' ','? '}}' | '{{' named comprehension '}}'
pair: expr ':' expr | '**' operand
comprehension: ('async'? 'for' targets 'in' condition ('if' condition)*)+
slices: slice % ',' ','?
slice: named | '*' expr | expr? ':' expr? (':' expr?)?

arguments: (free | keyed | doubled) ','?
free: argument | free ',' argument
keyed: keyword | free ',' keyword | keyed ',' (keyword | '*' expr)
doubled: '**' expr | (free | keyed) ',' '**' expr | doubled ',' (keyword | '**' expr)
argument: named | '*' expr
keyword: NAME '=' expr

string: (plain_string | formatted)+ | bytes+
plain_string: ({_openers("S", "R")}) QUOTE
bytes: ({_openers("B", "RB")}) QUOTE
formatted: ({_openers("F", "RF")}) field* QUOTE
field: FIELD (yield | expressions) '='? CONVERSION? (':' field*)? '}}'

match: match_head ':' NEWLINE INDENT case+ DEDENT | match_head ':' NEWLINE? OPEN
match_head: 'match' (item ',' (item % ',' ','?)? | named)
case: 'case' case_patterns ('if' named)? ':' block
case_patterns: pattern | case_item ',' (case_item % ',' ','?)?
case_item: pattern | '*' NAME
pattern: closed % '|' ('as' NAME)?
closed: constant | dotted | dotted '(' (class_patterns ','?)? ')'
    | '(' pattern? ')' | '(' case_item ',' (case_item % ',' ','?)? ')'
    | '[' (case_item % ',' ','?)? ']'
    | '{{' ((case_pair % ',') (',' '**' NAME)? ','?)? '}}' | '{{' '**' NAME ','? '}}'
constant: '-'? NUMBER (('+' | '-') NUMBER)? | string | 'None' | 'True' | 'False'
case_pair: (constant | NAME '.' dotted) ':' pattern
class_patterns: class_free | class_keyed
class_free: pattern | class_free ',' pattern
class_keyed: NAME '=' pattern | (class_free | class_keyed) ',' NAME '=' pattern
"""
