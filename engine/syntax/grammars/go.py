r"""Go 1.24.

Semicolons: the mode `after` follows tokens behind which the end of a line is one. A comment over lines is a mode for
the same reason. The narrow rules are those of headers, where a name before `{` begins the block.
"""

GRAMMAR = r"""
unit module = file
unit statements = statements
unit statement = one_statement
unit expression = one_expression
unit type = one_type
unit signature = one_signature
unit body = statements

mode line *
    skip /[ \t\r\n\ufeff]+|\/\/[^\n]*/
    skip /\/\*/ -> goto comment
    NAME /[^\W\d]\w*/ -> goto after
    NUMBER /0[oO]?(_?[0-7])+i?|0i?|[1-9](_?[0-9])*i?|[0-9](_?[0-9])*i/ -> goto after
    NUMBER /0[bB](_?[01])+i?|0[xX](_?\h)+i?/ -> goto after
    NUMBER /[0-9](_?[0-9])*(\.([0-9](_?[0-9])*)?([eE][+\-]?[0-9](_?[0-9])*)?|[eE][+\-]?[0-9](_?[0-9])*)i?/ -> goto after
    NUMBER /\.[0-9](_?[0-9])*([eE][+\-]?[0-9](_?[0-9])*)?i?/ -> goto after
    NUMBER /0[xX](_?\h)+\.?(_?\h)*[pP][+\-]?[0-9](_?[0-9])*i?/ -> goto after
    NUMBER /0[xX]\.\h(_?\h)*[pP][+\-]?[0-9](_?[0-9])*i?/ -> goto after
    RUNE /'([^'\\\n]|\\([abfnrtv\\']|(x|u\h{2}|U00[01]\h{3})\h{2}|[0-3][0-7]{2}))'/ -> goto after
    STRING /"([^"\\\n]|\\([abfnrtv\\"]|(x|u\h{2}|U00[01]\h{3})\h{2}|[0-3][0-7]{2}))*"/ -> goto after
    '`' -> goto raw
    'break' -> goto after
    'continue' -> goto after
    'fallthrough' -> goto after
    'return' -> goto after
    '++' -> goto after
    '--' -> goto after
    ')' -> goto after
    ']' -> goto after
    '}' -> goto after
mode after
    skip /[ \t\r]+|\/\/[^\n]*/
    skip /\/\*/ -> goto comment_after
    NEWLINE /\n/ -> goto line
    '/' -> goto line
    '/=' -> goto line
    otherwise -> goto line
mode raw
    skip /[^`]+/
    '`' -> goto after
mode comment
    skip /([^*]|\*+[^*\/])+/
    skip /\**\*\// -> goto line
mode comment_after
    skip /([^*\n]|\*+[^*\/\n])+|\*+/
    skip /\**\*\// -> goto after
    NEWLINE /\n/ -> goto comment

end: ';' | NEWLINE
statements: (statement? end)* statement?
one_statement: statement end?
one_expression: expr NEWLINE?
one_type: type NEWLINE?
one_signature: function_head NEWLINE?

file: 'package' NAME (end import)* (end declaration)* end?
import: 'import' (import_spec | '(' (import_spec % end end?)? ')')
import_spec: (NAME | '.')? string
declaration: local | function_head inside?
function_head: 'func' NAME type_parameters? results | 'func' parameters NAME results
string: STRING | '`' '`'

local: 'const' (const_first | '(' (const_first (end const_spec)* end?)? ')')
    | 'var' (var_spec | '(' (var_spec % end end?)? ')')
    | 'type' (type_spec | '(' (type_spec % end end?)? ')')
names: NAME % ','
const_first: names type? '=' exprs
const_spec: names (type? '=' exprs)?
var_spec: names type ('=' exprs)? | names '=' exprs
type_spec: NAME type_parameters? '='? type
type_parameters: '[' (names constraint) % ',' ','? ']'
constraint: ('~'? type) % '|'

results: parameters (plain_type | parameters)?
parameters: '(' ((parameter % ',' | (names parameter) % ',') ','?)? ')'
parameter: '...'? type

type: plain_type | '(' type ')'
plain_type: type_name | '*' type | type_literal
type_name: NAME ('.' NAME)? ('[' type % ',' ','? ']')?
type_literal: composed_type | 'func' results | 'interface' '{' (element % end end?)? '}'
    | 'chan' '<-'? type | '<-' 'chan' type
composed_type: '[' expr? ']' type | 'map' '[' type ']' type | 'struct' '{' (field % end end?)? '}'
field: (names type | '*'? type_name) string?
element: NAME results | constraint

block: '{' (statements? '}' | OPEN)
inside: block | OPEN
statement: local | NAME ':' statement? | simple | ('go' | 'defer') call | 'return' exprs? | ('break' | 'continue') NAME?
    | 'goto' NAME | 'fallthrough' | block | if | switch | 'select' ('{' communication* '}' | '{'? OPEN) | for
if: 'if' (simple^? end)? expr^ inside ('else' (if | inside))?
switch: 'switch' (simple^? end)? (expr^ | (NAME ':=')? primary^ '.' '(' 'type' ')')? ('{' case* '}' | '{'? OPEN)
case: ('case' argument % ',' | 'default') ':' statements?
communication: ('case' (expr | expr '<-' expr | exprs '=' expr | names ':=' expr) | 'default') ':' statements?
for: 'for' for_header? inside
for_header: expr^ | simple^? end expr^? end simple^? | (exprs^ '=' | names ':=')? 'range' expr^

simple^: expr^ | exprs^ assign exprs^ | names ':=' exprs^ | expr^ '<-' expr^ | expr^ ('++' | '--')
assign: '=' | '+=' | '-=' | '*=' | '/=' | '%=' | '&=' | '|=' | '^=' | '<<=' | '>>=' | '&^='
exprs^: expr^ % ','
expr^: unary^ % binary
binary: '||' | '&&' | '==' | '!=' | '<' | '<=' | '>' | '>=' | '+' | '-' | '|' | '^' | '*' | '/' | '%' | '<<' | '>>'
    | '&' | '&^'
unary^: ('+' | '-' | '!' | '^' | '*' | '&' | '<-')* primary^
primary: operand | literal_name | literal_name value
primary_narrow: operand_narrow | literal_name_narrow
literal_name^: NAME | primary^ '.' NAME | primary^ '[' argument % ',' ','? ']'
operand^: NUMBER | RUNE | string | '(' argument ')' | 'func' results inside | literal_type value
    | type_literal '(' (argument ','?)? ')' | primary^ '[' expr? ':' (expr? | expr ':' expr) ']' | call^
    | primary^ '.' '(' type ')'
call^: primary^ '(' (argument % ',' '...'? ','?)? ')'
argument: expr | argument_type
argument_type: type_literal | '*' argument_type
literal_type: composed_type | '[' '...' ']' type
value: '{' (keyed % ',' ','?)? '}'
keyed: (keyed_value ':')? keyed_value
keyed_value: expr | value
"""
