r"""TypeScript without JSX.

Wider than it is: precedences, targets of assignments, what `await` and `yield` need around them, where a line may not
end, and modifiers, which are not sorted by what they can stand before.
"""

from __future__ import annotations

_START = r"([A-Za-z_$]|[^\x00-\x7f\s\ufeff]|\\u[0-9a-fA-F]{4}|\\u\{[0-9a-fA-F]+\})"
_PART = r"([\w$]|[^\x00-\x7f\s\ufeff]|\\u[0-9a-fA-F]{4}|\\u\{[0-9a-fA-F]+\})*"
_DIGITS = "[0-9](_?[0-9])*"
_WHOLE = "(0|[1-9](_?[0-9])*)"
_CLASS = r"\[([^\]\\\n\r]|\\[^\n\r])*\]"
_ESCAPE = r"\\([^0-9xu]|\r\n|0|x\h{2}|u\h{4}|u\{0*(\h{1,5}|10\h{4})\})"
_RESERVED = (
    "break case catch class const continue debugger default delete do else enum export extends false finally for"
    " function if import in instanceof new null return super switch this throw true try typeof var void while with"
)
_WORDS = " | ".join(f"'{word}'" for word in _RESERVED.split(" "))

GRAMMAR = rf"""
unit module = statements in begin
unit statements = statements
unit statement = one_statement
unit expression = one_expression
unit type = one_type
unit signature = signature
unit body = statements
optional NEWLINE
end NEWLINE
soft 'let' 'using' 'async' 'await' 'yield' 'of' 'get' 'set' 'static' 'type' 'interface' 'namespace' 'module' 'global'
    'declare' 'abstract' 'as' 'satisfies' 'is' 'asserts' 'infer' 'keyof' 'unique' 'readonly' 'from' 'require' 'assert'
    'implements' 'public' 'private' 'protected' 'override' 'accessor' 'out' 'meta' 'target' 'constructor' 'defer'

mode code *
    skip /[ \t\x0b\x0c\xa0\ufeff]+|\/\/[^\n\r\u2028\u2029]*/
    skip /\/\*/ -> push comment
    NEWLINE /[\n\r\u2028\u2029]\s*/
    NAME /{_START}{_PART}/
    PRIVATE /#{_START}{_PART}/
    NUMBER /(0[xX]\h(_?\h)*|0[bB][01](_?[01])*|0[oO][0-7](_?[0-7])*|{_WHOLE})n?/
    NUMBER /({_WHOLE}(\.({_DIGITS})?)?|\.{_DIGITS})([eE][+\-]?{_DIGITS})?/
    STRING /"([^"\\\n\r]|{_ESCAPE})*"|'([^'\\\n\r]|{_ESCAPE})*'/
    OPTIONED /\?\.{_DIGITS}([eE][+\-]?{_DIGITS})?/
    REGEX /\/([^\/\\\[\n\r*]|\\[^\n\r]|{_CLASS})([^\/\\\[\n\r]|\\[^\n\r]|{_CLASS})*\/[A-Za-z]*/
    context REGEX not '/' '/='
    '`' -> push template
mode begin
    skip /#![^\n\r\u2028\u2029]*/ -> goto code
    otherwise -> goto code
mode braces *
    include code
    '{{' -> push braces
    '}}' -> pop
mode template
    TEXT /([^`\\$]|\\[\s\S])+|\$/
    '${{' -> push braces
    '`' -> pop
mode comment
    skip /[^*\n\r\u2028\u2029]+/
    skip /\*/
    NEWLINE /[\n\r\u2028\u2029]/
    skip /\*\// -> pop

statements: statement*
one_statement: statement?
one_expression: expression
one_type: type
statement: simple end | compound | control
statement_narrow: simple | control_narrow
end: ';' | NEWLINE
control^: 'if' '(' expression ')' (inside^ | statement 'else' inside^) | 'for' 'await'? '(' for ')' inside^
    | 'while' '(' expression ')' inside^ | 'with' '(' expression ')' inside^ | name ':' inside^
inside: statement | OPEN
inside_narrow: statement_narrow
compound: block | ';' | declaration | 'try' body ('catch' ('(' pattern (':' type)? ')')? body)? ('finally' body)?
    | 'switch' '(' expression ')' ('{{' case* '}}' | '{{'? OPEN) | 'do' (statement 'while' '(' expression ')' | OPEN)
case: ('case' expression | 'default') ':' statement* statement_narrow?
block: '{{' (statement* statement_narrow? '}}' | OPEN)
body: block | OPEN
for: (variables | expression)? ';' expression? ';' expression?
    | (binding pattern (':' type)? ('=' assign)? | operand) ('of' | 'in') expression
simple: expression_narrow | lead* variables | 'return' expression? | 'throw' expression | ('break' | 'continue') name?
    | 'debugger' | lead* 'type' name typeparams? '=' type | lead* header | 'declare'? 'module' STRING | import
    | export
variables: binding variable (',' variable)*
binding: 'var' | 'let' | 'const' | 'using' | 'await' 'using'
variable: pattern '!'? (':' type)? ('=' assign)?

lead: decorator | 'export' | 'export' 'default' | 'declare'
declaration: lead* declared
declared: header body | 'abstract'? class | 'interface' name typeparams? ('extends' references)? members
    | 'const'? 'enum' name ('{{' (enumerator (',' enumerator)* ','?)? '}}' | '{{'? OPEN)
    | ('namespace' | 'module') (entity | STRING) body | 'global' body
header: 'async'? 'function' '*'? name? call
call: typeparams? '(' params ')' (':' returned)?
enumerator: property ('=' assign)?
class: 'class' name? typeparams? ('extends' member_narrow (',' member_narrow)*)? ('implements' references)?
    ('{{' (element* field? '}}' | OPEN) | OPEN)
element: field end | decorator* modifier* '*'? property '?'? call body | 'static' body | ';'
field: decorator* modifier* (property ('?' | '!')? (':' type)? ('=' assign)? | index | '*'? property '?'? call)
index: '[' name ':' type ']' (':' type)?
modifier: 'public' | 'private' | 'protected' | 'static' | 'abstract' | 'override' | 'readonly' | 'declare'
    | 'accessor'
    | 'async' | 'get' | 'set' | 'const' | 'in' | 'out' | 'export' | decorator
decorator: '@' member_narrow
references: reference (',' reference)*
reference: member_narrow

import: 'export'? 'import' ('type' | 'defer')? (imported 'from')? STRING with?
    | 'export'? 'import' 'type'? name '=' ('require' '(' STRING ')' | entity)
imported: name | (name ',')? ('*' 'as' name | specifiers)
specifiers: '{{' (specifier (',' specifier)* ','?)? '}}'
specifier: 'type'? exported | 'type'? exported 'as' exported
exported: anyname | STRING
with: ('with' | 'assert') object
export: 'export' 'type'? specifiers ('from' STRING with?)? | 'export' 'type'? '*' ('as' exported)? 'from' STRING with?
    | 'export' '=' assign | 'export' 'as' 'namespace' name
    | 'export' 'default' (assign_narrow | object suffix* post* (operator operand)*)

expression^: assign^ (',' assign)*
assign^: chain^ | chain^ '?' assign ':' assign | chain^ OPTIONED (operator operand)* ':' assign
    | (chain^ operator)? last
chain^: operand^ (operator operand)*
last: arrow | 'yield' '*'? assign
operator: '=' | '+=' | '-=' | '*=' | '/=' | '%=' | '**=' | '&=' | '|=' | '^=' | '&&=' | '||=' | '??=' | '&&'
    | '||' | '??'
    | '|' | '&' | '^' | '==' | '!=' | '===' | '!==' | '<' | '<=' | '<' '<' | '<' '<=' | '>' | '>' '=' | '>' '>'
    | '>' '>' '='
    | '>' '>' '>' | '>' '>' '>' '=' | 'instanceof' | 'in' | '+' | '-' | '*' | '/' | '%' | '**'
operand^: member^ post* | prefix+ member post*
prefix: '!' | '~' | '+' | '-' | '++' | '--' | 'typeof' | 'void' | 'delete' | 'await' | 'new' | '<' type '>'
    | '<' 'const' '>'
post: '++' | '--' | 'as' type | 'as' 'const' | 'satisfies' type
member^: primary^ suffix*
suffix: '.' field_name | '?.' (field_name | '[' expression ']' | typeargs? '(' args ')' | template)
    | '[' expression ']'
    | '(' args ')' | template | '!' | typeargs
field_name: anyname | PRIVATE
args: (arg (',' arg)* ','?)?
arg: '...'? assign
primary: primary_narrow | object | function | decorator* 'abstract'? class
primary_narrow: name | 'this' | 'super' | 'null' | 'true' | 'false' | 'import' | NUMBER | STRING | REGEX
    | PRIVATE | template
    | '(' expression ')' | '[' elements ']' | 'new' '.' 'target'
function: header body
elements: arg? (',' arg?)*
template: '`' (TEXT | '${{' expression '}}')* '`'
object: '{{' (prop (',' prop)* ','?)? '}}'
prop: property ':' assign | name '!'? ('=' assign)? | '...' assign | ('async' | 'get'
    | 'set')* '*'? property call body
property: anyname | STRING | NUMBER | PRIVATE | '[' expression ']'
arrow: 'async'? (name | call) '=>' (body | assign_narrow
    | (function | class) suffix* post* (operator operand)* ('?' assign ':' assign)?)
params: (param (',' param)* ','?)?
param: (decorator | modifier)* '...'? (pattern | 'this') '?'? (':' type)? ('=' assign)?
pattern: name | '[' item? (',' item?)* ']' | '{{' (entry (',' entry)* ','?)? '}}'
item: '...'? pattern ('=' assign)?
entry: property ':' pattern ('=' assign)? | name ('=' assign)? | '...' pattern

type: union | union 'extends' type '?' type ':' type | functype
union: ('|' | '&')? tunary (('|' | '&') tunary)*
functype: 'abstract'? 'new'? typeparams? '(' params ')' '=>' returned
returned: type | 'asserts'? (name | 'this') 'is' type | 'asserts' (name | 'this')
tunary: ('keyof' | 'unique' | 'readonly')* tatom ('[' type? ']')* | 'infer' name ('extends' union)?
tatom: entity typeargs? | 'this' | 'void' | 'null' | 'true' | 'false' | STRING | '-'? NUMBER | '(' type ')' | members
    | '`' (TEXT | '${{' type '}}')* '`' | '[' (telement (',' telement)* ','?)? ']' | mapped
    | 'typeof' (entity | 'this' ('.' field_name)* | typeimport) typeargs? | typeimport typeargs?
typeimport: 'import' '(' type (',' object ','?)? ')' ('.' anyname)*
telement: '...'? (anyname '?'? ':')? type '?'?
entity: name ('.' field_name)*
typeargs: '<' type (',' type)* ','? '>'
typeparams: '<' typeparam (',' typeparam)* ','? '>'
typeparam: ('const' | 'in' | 'out')* name ('extends' type)? ('=' type)?
members: '{{' ((signed (';' | ',' | NEWLINE))* signed? '}}' | OPEN)
signed: ('readonly' | 'get' | 'set' | modifier)* (property '?'? (call | (':' type)?) | index) | call
mapped: '{{' (('+' | '-')? 'readonly')? '[' name 'in' type ('as' type)? ']' (('+' | '-')? '?')? (':' type)?
    (';' | ',' | NEWLINE)? '}}'
signature: (lead | modifier)* (header | '*'? property '?'? call | call '=>' returned) (';' | NEWLINE)?
name: NAME
anyname: NAME | {_WORDS}
"""
