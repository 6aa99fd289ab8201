r"""Java 24, without previews. Unicode escapes are known in names, characters and strings.

`name` begins types and expressions alike, so that one stack follows it up to the token that tells which it is. The
narrow rules are those of statements before `else`, in which no `if` is without one.
"""

GRAMMAR = r"""
unit module = file
unit statements = text
unit statement = one_statement
unit expression = expr
unit type = result
unit signature = signature
unit body = text
soft 'record' 'sealed' 'non' 'permits' 'yield' 'when' 'module' 'open' 'requires' 'transitive' 'exports' 'opens' 'to'
    'uses' 'provides' 'with'

mode line *
    skip /[ \t\r\n\f\ufeff\x1a]+|\/\/[^\n\r]*/
    skip /\/\*/ -> goto comment
    NAME /([^\W\d]|[$\xa2-\xa5\u20a0-\u20bf]|\\u+\h{4})(\w|[$\xa2-\xa5\u20a0-\u20bf]|\\u+\h{4})*/
    NUMBER /0(_*[0-7])*[lL]?|[1-9](_*[0-9])*[lL]?|0[bB][01](_*[01])*[lL]?|0[xX]\h(_*\h)*[lL]?/
    NUMBER /[0-9](_*[0-9])*(\.([0-9](_*[0-9])*)?([eE][+\-]?[0-9](_*[0-9])*)?[fFdD]?|[fFdD])/
    NUMBER /[0-9](_*[0-9])*[eE][+\-]?[0-9](_*[0-9])*[fFdD]?/
    NUMBER /\.[0-9](_*[0-9])*([eE][+\-]?[0-9](_*[0-9])*)?[fFdD]?/
    NUMBER /0[xX](\h(_*\h)*\.?)?(\h(_*\h)*)?[pP][+\-]?[0-9](_*[0-9])*[fFdD]?/
    NUMBER /0[xX](\h(_*\h)*)?\.(\h(_*\h)*)?[pP][+\-]?[0-9](_*[0-9])*[fFdD]?/
    CHARACTER /'([^'\\\n\r]|(\\|\\u+005[cC])([btnfrs"'\\]|[0-3]?[0-7]?[0-7]|\\u+005[cC])|\\u+\h{4})'/
    STRING /"([^"\\\n\r]|(\\|\\u+005[cC])([btnfrs"'\\]|[0-7]|\\u+005[cC])|\\u+\h{4})*"/
    OPENING /"{3}[ \t\f]*\r?\n/ -> goto text
mode comment
    skip /([^*]|\*+[^*\/])+/
    skip /\**\*\// -> goto line
mode text
    skip /([^"\\]|\\([btnfrs"'\\\n\r0-7]|u+\h{4}))+|""?/
    CLOSING /"{3}/ -> goto line

file: package? import* top_type* | import* annotation* 'open'? 'module' name '{' directive* '}'
package: annotation* 'package' name ';' ';'*
import: 'import' 'static'? name ('.' '*')? ';' ';'*
directive: 'requires' ('transitive' | 'static')* name ';'
    | ('exports' | 'opens') name ('to' name % ',')? ';'
    | 'uses' name ';'
    | 'provides' name 'with' name % ',' ';'
top_type: modifiers? declaration ';'*
reserved: 'goto' | 'const'
id: NAME | '_'

name: NAME % '.'
annotation: '@' name ('(' ((NAME '=' element) % ',' | element)? ')')?
element: conditional | annotation | '{' (element % ',')? ','? '}'
modifiers: modifier+ | modifier* access modifier*
access: 'public' | 'protected' | 'private'
modifier: annotation | 'static' | 'abstract' | 'final' | 'native' | 'synchronized'
    | 'transient' | 'volatile' | 'strictfp' | 'default' | 'sealed' | 'non' '-' 'sealed'

result: type | 'void'
type: annotation* bare_type
bare_type: (primitive | class_type) dims?
primitive: 'boolean' | 'byte' | 'short' | 'int' | 'long' | 'char' | 'float' | 'double'
class_type: name | generic
generic: name type_arguments | generic '.' NAME type_arguments? | class_type '.' annotation+ NAME type_arguments?
dims: (annotation* '[' ']')+
type_arguments: '<' type_argument % ',' '>'
type_argument: type | annotation* '?' (('extends' | 'super') type)?
type_parameters: '<' (annotation* NAME ('extends' type % '&')?) % ',' '>'

declaration: class | interface | enum | record | annotation_type
class: 'class' NAME type_parameters? extends? implements? permits? members
interface: 'interface' NAME type_parameters? ('extends' type % ',')? permits? members
extends: 'extends' type
implements: 'implements' type % ','
permits: 'permits' type % ','
enum: 'enum' NAME implements? ('{' (enum_constant % ',')? ','? (';' member*)? '}' | '{'? OPEN)
enum_constant: annotation* NAME arguments? members?
record: 'record' NAME type_parameters? '(' (component % ',')? ')' implements? ('{' record_member* '}' | '{'? OPEN)
component: type (annotation* '...')? NAME
record_member: member | modifiers? NAME inside
annotation_type: '@' 'interface' NAME members
members: '{' (member* '}' | OPEN) | OPEN
member: ';' | 'static'? block | modifiers? (declaration | bare_type variable % ',' ';' | method | constructor)
method: type_parameters? (type | 'void') NAME parameters dims? throws? (inside | ('default' element)? ';')
constructor: type_parameters? NAME parameters throws? inside
signature: modifiers? type_parameters? (type | 'void')? NAME parameters dims? throws? ';'?
throws: 'throws' type % ','
parameters: '(' (receiver | (receiver ',')? parameter % ',')? ')'
parameter: parameter_modifier* bare_type (annotation* '...')? id dims?
parameter_modifier: annotation | 'final'
receiver: type (NAME '.')* 'this'
variable: id dims? ('=' initializer)?
initializer: expr | array
array: '{' (initializer % ',')? ','? '}'

block: '{' (statements? '}' | OPEN)
inside: block | OPEN
text: statement*
statements: statement+
one_statement: statement
statement: local_modifier* (class | interface | enum | record) | local ';' | inner
local: parameter_modifier* bare_type variable % ','
local_modifier: annotation | 'final' | 'abstract' | 'static' | 'strictfp'
inner^: block | ';' | NAME ':' inside_statement^ | act ';' | if^ | for^ | try | switch
    | 'while' '(' expr ')' inside_statement^
    | 'do' inner 'while' '(' expr ')' ';'
    | 'return' expr? ';' | ('break' | 'continue') NAME? ';' | ('throw' | 'yield') expr ';'
    | 'synchronized' '(' expr ')' inside
    | 'assert' expr (':' expr)? ';'
inside_statement^: inner^ | OPEN
if: 'if' '(' expr ')' (inside_statement | inner_narrow 'else' inside_statement)
if_narrow: 'if' '(' expr ')' inner_narrow 'else' inside_statement_narrow
for^: 'for' '(' (local | act % ',')? ';' expr? ';' (act % ',')? ')' inside_statement^
    | 'for' '(' parameter_modifier* bare_type id dims? ':' expr ')' inside_statement^
try: 'try' resources inside | 'try' resources? block catch+ | 'try' resources? block catch* 'finally' inside
    | 'try' '{'? OPEN
catch: 'catch' '(' parameter_modifier* bare_type % '|' id ')' inside
resources: '(' (parameter_modifier* bare_type id '=' expr | primary) % ';' ';'? ')'
switch: 'switch' '(' expr ')' ('{' (group* label* '}' | rule* '}' | OPEN) | OPEN)
label: (case | 'default') ':'
group: label+ statements
rule: (case | 'default') '->' (expr ';' | inside | 'throw' expr ';')
case: 'case' (constant % ',' | (pattern | '_') % ',' guard? | 'null' ',' 'default')
constant: chain ('?' expr ':' chain)?
guard: 'when' expr
pattern: parameter_modifier* bare_type id | bare_type '(' ((pattern | '_') % ',')? ')'

act: primary assign expr | ('++' | '--') unary | primary ('++' | '--')+ | call | creation
expr: (primary assign)* (conditional | lambda)
assign: '=' | '+=' | '-=' | '*=' | '/=' | '%=' | '&=' | '|=' | '^=' | '<<=' | '>>=' | '>>>='
lambda: (id | '(' (id % ',')? ')' | parameters) '->' (expr | inside)
conditional: chain | chain '?' expr ':' (conditional | lambda)
chain: unary | chain binary unary | chain 'instanceof' (type | pattern)
binary: '||' | '&&' | '|' | '^' | '&' | '==' | '!=' | '<' | '>' | '<=' | '>=' | '<<' | '>' '>' | '>' '>' '>'
    | '+' | '-' | '*' | '/' | '%'
unary: ('+' | '-' | '++' | '--')* unsigned
unsigned: ('~' | '!') unary | primary ('++' | '--')* | switch
    | '(' primitive ')' unary | '(' type % '&' ')' (unsigned | lambda)
primary: name | complex | new_array
complex: NUMBER | CHARACTER | STRING | OPENING CLOSING | 'true' | 'false' | 'null' | 'this' | name '.' 'this'
    | '(' expr ')' | field | call | creation | (name | complex) '[' expr ']'
    | 'new' annotation* (primitive | class_type) dims array
    | (name | primitive) dims? '.' 'class' | 'void' '.' 'class'
    | (primary | super | (name | primitive) dims | generic dims?) '::' type_arguments? (NAME | 'new')
super: (name '.')? 'super'
field: (complex | new_array | super) '.' NAME
call: (name | field) arguments | (primary | super) '.' type_arguments NAME arguments
    | (primary '.')? type_arguments? ('this' | 'super') arguments
arguments: '(' (expr % ',')? ')'
creation: (primary '.')? 'new' type_arguments? annotation* (class_type | class_type '<' '>') arguments members?
new_array: 'new' annotation* (primitive | class_type) (annotation* '[' expr ']')+ dims?
"""
