r"""Rust of the edition 2021, with what its parser takes before features are asked for, as code left out by `cfg` may.

`&&`, `>>` and `>=` are read as their parts, since generics and references end or begin with those. The narrow rules are
those of headers, where `{` after a path begins the block. Rules that begin with `first` are those of a statement's
beginning, where what ends with a block is a statement by itself unless `.` or `?` follows. Operands of closures and
jumps are `unary` alone: what comes after them reads the same in the expression around.
"""

import re

_MODES = r"""
unit module = file in begin
unit statements = statements
unit statement = one_statement
unit expression = expr
unit type = type
unit signature = signature
unit body = content
soft 'union' 'auto' 'default' 'raw' 'safe' 'gen' 'yeet'

mode line *
    skip /[\s\u200e\u200f\u2028\u2029]+|\/\/[^\n]*/
    skip /\/\*/ -> push comment
    NAME /(r#)?\i\I*/
    LIFETIME /'(r#)?\i\I*/
    CHARACTER /b?'([^'\\\n\r\t]|\\(["'\\nrt0]|x\h\h|u\{\h(_*\h){0,5}_*\}))'/
    WHOLE /[0-9][0-9_]*/
    INDEX /0x_*\h(_*\h)*_*|0[bo][0-7_]*[0-7][0-7_]*/
    INDEX /[0-9][0-9_]*(\.[0-9][0-9_]*([eE]_*[0-9][0-9_]*)?|[eE]_*[0-9][0-9_]*)/
    NUMBER /([0-9][0-9_]*|0x_*\h(_*\h)*_*|0[bo][0-7_]*[0-7][0-7_]*)[iu](8|16|32|64|128|size)/
    NUMBER /[0-9][0-9_]*(\.[0-9][0-9_]*)?([eE][+\-]?_*[0-9][0-9_]*)?f(16|32|64|128)/
    NUMBER /[0-9][0-9_]*(\.[0-9][0-9_]*)?[eE][+\-]_*[0-9][0-9_]*/
    QUOTE /[bc]?"/ -> push string
    QUOTE0 /[bc]?r"/ -> push raw0
    QUOTE1 /[bc]?r#"/ -> push raw1
    QUOTE2 /[bc]?r##"/ -> push raw2
    QUOTE3 /[bc]?r###"/ -> push raw3
    QUOTE4 /[bc]?r####"/ -> push raw4
    QUOTE5 /[bc]?r#####+"/ -> push raw5
mode begin
    skip /\ufeff/
    skip /#![^\[\n][^\n]*/ -> goto line
    '#' -> goto line
    otherwise -> goto line
mode comment
    skip /[^*\/]+|\*|\//
    skip /\/\*/ -> push comment
    skip /\*\// -> pop
mode string
    skip /[^"\\]+|\\(["'\\nrt0\n]|\r\n|x\h\h|u\{\h(_*\h){0,5}_*\})/
    UNQUOTE /"/ -> pop
mode raw0
    skip /[^"]+/
    UNQUOTE /"/ -> pop
mode raw1
    skip /[^"]+|"/
    UNQUOTE /"#/ -> pop
mode raw2
    skip /[^"]+|"#?/
    UNQUOTE /"##/ -> pop
mode raw3
    skip /[^"]+|"#{0,2}/
    UNQUOTE /"###/ -> pop
mode raw4
    skip /[^"]+|"#{0,3}/
    UNQUOTE /"####/ -> pop
mode raw5
    skip /[^"]+|"#{0,4}/
    UNQUOTE /"#####+/ -> pop
"""

_RULES = r"""
file: inner_attribute* item*
attribute: '#' '[' meta ']'
inner_attribute: '#' '!' '[' meta ']'
meta: use_path (group | '=' expr)? | 'unsafe' '(' meta ')'
string: (QUOTE | QUOTE0 | QUOTE1 | QUOTE2 | QUOTE3 | QUOTE4 | QUOTE5) UNQUOTE
index: WHOLE | INDEX
literal: string | CHARACTER | NUMBER | index | WHOLE '.' | 'true' | 'false'
tree: NAME | LIFETIME | CHARACTER | NUMBER | index | string | token | group
group: '(' tree* ')' | braces | '[' tree* ']'
braces: '{' tree* '}'
reserved: 'abstract' | 'final' | 'override' | 'priv' | 'typeof' | 'unsized' | 'virtual' | '$' | '=>' | '->'

item: attribute* visibility? (declaration | macro ';' | macro_braces)
visibility: 'pub' ('(' ('crate' | 'self' | 'super' | 'in' use_path) ')')?
declaration: function | constant | alias | static | module | 'use' use ';' | struct | enum | union | trait | impl
    | 'extern' 'crate' ident ('as' new_name)? ';'
    | 'unsafe'? 'extern' string? members
    | path '!' NAME (braces | ('(' tree* ')' | '[' tree* ']') ';')
    | 'macro' NAME ('(' tree* ')')? (braces | OPEN)
new_name: NAME | '_'
module: 'unsafe'? 'mod' NAME (';' | '{' inner_attribute* (item* '}' | OPEN) | OPEN)
use_path: '::'? ident % '::'
use: use_path ('as' new_name)? | (use_path? '::')? ('*' | '{' (use % ',' ','?)? '}')
signature: attribute* visibility? function_head ';'?
function: function_head (inside | ';')
function_head: qualifier* 'fn' NAME generics? '(' (argument % ',' ','?)? ')' ('->' type)? where?
qualifier: 'const' | 'async' | 'unsafe' | 'safe' | 'default' | 'extern' string? | 'gen'
argument: attribute* (pattern ':' (type | '...') | '...' | ('&' LIFETIME?)? 'mut'? 'self' (':' type)?)
constant: 'default'? 'const' new_name generics? ':' type ('=' expr)? where? ';'
alias: 'default'? 'type' NAME generics? (':' bounds?)? where? ('=' type)? where? ';'
static: ('unsafe' | 'safe')? 'static' 'mut'? NAME ':' type ('=' expr)? ';'
struct: 'struct' NAME generics? (where? (fields | ';') | tuple_fields where? ';')
union: 'union' NAME generics? where? fields
fields: '{' ((attribute* visibility? NAME ':' type ('=' expr)?) % ',' ','?)? '}' | '{'? OPEN
tuple_fields: '(' ((attribute* visibility? type) % ',' ','?)? ')'
enum: 'enum' NAME generics? where? ('{' (variant % ',' ','?)? '}' | '{'? OPEN)
variant: attribute* visibility? NAME (fields | tuple_fields)? ('=' expr)?
trait: trait_word* 'trait' NAME generics? ((':' bounds?)? where? members | '=' bounds? where? ';')
trait_word: 'unsafe' | 'auto' | 'const'
impl: 'default'? 'unsafe'? 'impl' generics? 'const'? '!'? type ('for' type)? where? members
members: '{' inner_attribute* (member* '}' | OPEN) | OPEN
member: attribute* visibility? (function | constant | alias | static | macro ';' | macro_braces)

generics: '<' (generic % ',' ','?)? '>'
generic: attribute* (LIFETIME (':' (LIFETIME % '+' '+'?)?)? | NAME (':' bounds?)? ('=' type)? | constant_generic)
constant_generic: 'const' NAME ':' type ('=' (type | constant_argument))?
constant_argument: '-'? literal | block
where: 'where' (predicate % ',' ','?)?
predicate: LIFETIME ':' (LIFETIME % '+' '+'?)? | binder? type ':' bounds?
binder: 'for' generics
bounds: bound % '+' '+'?
bound: LIFETIME | bound_word* binder? bound_word* (type_path | '(' bound ')')
    | 'use' '<' (use_path | LIFETIME) % ',' '>'
bound_word: '?' | '~'? 'const' | 'async'
type: plain_type | plain_type '+' bounds?
plain_type: '(' ((attribute* type) % ',' ','?)? ')' | '!' | '_' | '*' ('const' | 'mut') plain_type
    | '&' LIFETIME? 'mut'? plain_type | '[' type (';' expr)? ']' | ('impl' | 'dyn') bound | type_path '!' group
    | binder? type_path | type_qualified | binder? pointer_word* 'fn' '(' (pointer_argument % ',' ','?)? ')' returns?
pointer_word: 'unsafe' | 'extern' string? | 'const' | 'async'
pointer_argument: attribute* (new_name ':')? (type | '...') | attribute* '...'
returns: '->' plain_type
type_path: '::'? type_segment % '::'
type_segment: ident | ident '::'? (arguments | '(' (type % ',' ','?)? ')' returns?)
type_qualified: '<' type ('as' type_path)? '>' ('::' type_segment)+
arguments: '<' (generic_argument % ',' ','?)? '>'
generic_argument: LIFETIME | type | constant_argument | NAME arguments? ('=' (type | constant_argument) | ':' bounds)
ident: NAME | 'self' | 'super' | 'crate' | 'Self'
path: '::'? segment % '::'
segment: ident | ident '::' arguments
qualified: '<' type ('as' type_path)? '>' ('::' segment)+

pattern: '|'? one_pattern % '|'
one_pattern: end_pattern | end_pattern (dots end_pattern? | '...' end_pattern) | dots end_pattern? | '_'
    | '&' 'mut'? one_pattern | 'box' one_pattern | binding ('@' one_pattern)? | NAME '@' one_pattern
    | '(' (pattern % ',' ','?)? ')' | '[' (pattern % ',' ','?)? ']' | path '!' group
    | (path | qualified) ('(' (pattern % ',' ','?)? ')' | '{' (field_pattern % ',' ','?)? '}')
end_pattern: '-'? literal | path | qualified | 'const' block
binding: ('ref' 'mut'? | 'mut' | 'mut' 'ref' 'mut'?) NAME
field_pattern: attribute* ('..' | 'box'? binding | 'box'? NAME | (NAME | index) ':' pattern)

block: '{' (content? '}' | inner_attribute* OPEN)
inside: block | OPEN
content: inner_attribute* statements?
statements: statement* (attribute* first_expr)?
one_statement: statement | first_expr
statement: ';' | attribute* (visibility? declaration | let | first_expr ';' | block_like | macro_braces)
let: 'super'? 'let' pattern (':' type)? ('=' expr ('else' inside)?)? ';'
macro: path '!' ('(' tree* ')' | '[' tree* ']')
macro_braces: path '!' braces

expr^: range^ % assign
assign: '=' | '+=' | '-=' | '*=' | '/=' | '%=' | '^=' | '&=' | '|=' | '<' '<=' | '>' '>' '='
range^: chain^ | dots chain^? | chain^ dots chain^?
dots: '..' | '..='
chain^: unary^ | chain^ binary unary^ | chain^ 'as' plain_type
binary: '+' | '-' | '*' | '/' | '%' | '^' | '&' | '|' | '||' | '==' | '!=' | '<' | '<=' | '<' '<'
    | '>' | '>' '=' | '>' '>'
unary: (prefix | attribute)* (postfix | closure | jump)
unary_narrow: (prefix | attribute)* (postfix^ | closure^ | jump^ | 'let' pattern '=' unary^)
prefix: '-' | '!' | '*' | '&' | '&' 'mut' | '&' 'raw' ('const' | 'mut') | 'box'
closure^: closure_head operand^ | closure_head returns inside
closure_head: binder? closure_word* ('||' | '|' closure_arguments? ('||' closure_arguments?)* '|')
closure_arguments: closure_argument % ',' ','?
closure_word: 'const' | 'static' | 'async' | 'gen' | 'move'
closure_argument: attribute* one_pattern (':' type)?
jump^: ('return' | 'break' LIFETIME? | 'yield' | 'become' | 'do' 'yeet') operand^? | 'continue' LIFETIME?
operand^: unary^ | dots unary^?
postfix^: primary^ | postfix^ suffix
suffix: '?' | '.' (segment | index | 'await') | '[' expr ']' | '(' (expr % ',' ','?)? ')'
primary: simple | block_like | macro_braces | (path | qualified) value
primary_narrow: simple | block_like | macro_braces
simple: literal | '_' | path | qualified | macro | '(' inner_attribute* (expr % ',' ','?)? ')'
    | '[' inner_attribute* (expr % ',' ','? | expr ';' expr)? ']'
value: '{' inner_attribute* (field_value % ',' ','?)? '}' | '{' (field_value % ',' ',')? '..' expr? '}'
field_value: attribute* (NAME | index) (':' expr)?

first_expr: first_range | first_range assign expr
first_range: first_chain | dots chain? | first_chain dots chain?
first_chain: first_unary | first_chain binary unary | first_chain 'as' plain_type
first_unary: prefix unary | first_postfix | closure | jump
first_postfix: first_primary | first_postfix suffix
first_primary: simple | (path | qualified) value | (block_like | macro_braces) ('?' | '.' (segment | index | 'await'))

block_like: (block_word* | LIFETIME ':') block | (LIFETIME ':')? loop | if | match
block_word: 'unsafe' | 'const' | 'try' | 'async' | 'gen' | 'move'
loop: 'loop' inside | 'while' expr^ inside | 'for' pattern 'in' expr^ inside
if: 'if' expr^ inside ('else' (inside | if))?
match: 'match' expr^ ('{' inner_attribute* (arm* last_arm? '}' | OPEN) | OPEN)
arm: case (first_expr ',' | block_like ','? | macro_braces ',')
last_arm: case (first_expr | macro_braces)
case: attribute* pattern ('if' guard)? '=>'
guard: (expr | 'let' pattern '=' expr) % ('&' '&')
"""
_LITERAL = re.compile(r"'[^']+'")
_TOKENS = sorted(set(_LITERAL.findall(_RULES)) - {f"'{bracket}'" for bracket in "()[]{}"})

GRAMMAR = _MODES + _RULES + "token: " + " | ".join(_TOKENS)
