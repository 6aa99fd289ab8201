r"""SQL as sqlglot's own dialect has it, which is permissive: most keywords are names too, clauses may come in any
order, and statements that it does not know are commands, of any tokens. Queries and changes of rows are followed
closely.
"""

from __future__ import annotations

import re


def _words(text: str) -> list[str]:
    return text.split()


_RESERVED = _words("""
    AND AS BETWEEN UNCACHE CREATE CROSS DISTINCT DROP ELSE EXCEPT FETCH FOR FROM GLOB HAVING ILIKE INNER INSERT
    INTERSECT INTO JOIN LATERAL LIKE NOT NOTNULL ON OR XOR OUTER QUALIFY REGEXP RETURNING RLIKE ROLLBACK SELECT
    TABLESAMPLE THEN UNION USING VALUES WHEN WHERE WITH ALTER GRANT REVOKE
""")
_JOINERS = _words("ANTI ASOF FULL LEFT LOCK NATURAL RIGHT SEMI WINDOW")
"""Names too, but no alias of a table."""
_LOOSE = _words("""
    CONVERT TRY_CONVERT CHAR CHR DECODE EXTRACT GAP_FILL JSON_OBJECT JSON_OBJECTAGG JSON_TABLE MATCH NORMALIZE
    OPENJSON OVERLAY POSITION STRING_AGG SUBSTRING TRIM WEIGHT_STRING XMLELEMENT XMLTABLE CEIL FLOOR INITCAP
    ARG_MAX ARG_MIN MAX_BY MIN_BY ARGMAX ARGMIN
""")
"""Functions with keywords among their arguments; sqlglot does not ask for their closing parenthesis."""
_CASTS = _words("CAST TRY_CAST SAFE_CAST")
_COMMANDS = _words("""
    ALTER ANALYZE CACHE COMMENT COPY DECLARE DESC DESCRIBE DROP GRANT REVOKE KILL LOAD PIVOT UNPIVOT REFRESH SET
    TRUNCATE UNCACHE USE BEGIN COMMIT ROLLBACK WHILE IF CALL EXPLAIN OPTIMIZE PREPARE VACUUM EXECUTE FETCH SHOW
    RENAME SUMMARIZE PRAGMA ELSE
""")
_TYPES = _words("""
    ARRAY BIGDECIMAL BIGINT BIGNUM BIGNUMERIC BINARY BIT BLOB BOOL BOOLEAN BPCHAR BYTE BYTEA CHAR CHARACTER CLOB
    DATE DATEMULTIRANGE DATERANGE DATETIME DEC DECFLOAT DECIMAL DECIMAL128 DECIMAL256 DECIMAL32 DECIMAL64 DOUBLE
    ENUM FIXED FLOAT FLOAT4 FLOAT8 GEOGRAPHY GEOMETRY HUGEINT INET INT INT1 INT128 INT16 INT2 INT256 INT32 INT4
    INT4MULTIRANGE INT4RANGE INT64 INT8 INT8MULTIRANGE INT8RANGE INTEGER INTERVAL JSON JSONB LIST LONG LONGBLOB
    LONGTEXT LONGVARCHAR MAP MEDIUMBLOB MEDIUMINT MEDIUMTEXT NCHAR NULL NULLABLE NUMBER NUMERIC NUMMULTIRANGE
    NUMRANGE NVARCHAR NVARCHAR2 OBJECT RANGE REAL REF SHORT SMALLINT STR STRING STRUCT TEXT TIME TIMESTAMP
    TIMESTAMPLTZ TIMESTAMPNTZ TIMESTAMPTZ TIMESTAMP_LTZ TIMESTAMP_NTZ TIMETZ TIME_NS TINYBLOB TINYINT TINYTEXT
    TSMULTIRANGE TSRANGE TSTZMULTIRANGE TSTZRANGE UHUGEINT UINT UINT128 UINT256 UNION UNKNOWN UUID VARBINARY
    VARCHAR VARCHAR2 VARIANT VECTOR
""")
_MARKS = _words(r"""
    , . : :: .: ?:: = == <> != < <= > >= <=> := -> ->> => #> #>> <-> <<->> ?? ~ ~~~ ~~ ~~* ~* -|- &< &> |> +
    - * / % ^ & | || |/ ||/ ! ? @ @@ # ** {% {%+ {%- %} +%} -%} {{+ {{- +}} -}}
""")


def _either(words: list[str]) -> str:
    return " | ".join(f"'{word}'" for word in words)


_GRAMMAR = rf"""
unit module = module
unit statements = module
unit statement = statement
unit expression = expression
unit type = type
ignorecase
@SOFT@

mode text *
    skip /\s+|--[^\n\r]*/
    skip /\/\*/ -> push comment
    skip /\{{#/ -> push jinja
    TYPE /{"|".join(_TYPES)}/
    NAME /[^\s\d()\[\]{{}}&\^:,.\-=><%!|+;\/\\*~?@#'`"][^\s()\[\]{{}}&\^:,.\-=><%!|+;\/\\*~?@#'`"]*/
    QUOTED /"[^"]*"/
    STRING /N?'[^']*'/
    NUMBER /\d+\.?\d*(E[+\-]?\d*)?/
    FRACTION /\.\d+(E[+\-]?\d*)?/
    BACK /\\|`/
mode comment
    skip /[^*\/]+/
    skip /\*|\//
    skip /\*\// -> pop
    skip /\/\*/ -> push comment
mode jinja
    skip /[^#]+/
    skip /#/
    skip /#\}}/ -> pop

module: statement? (';' statement?)*
statement: command | create | query | insert | update | delete | merge | with statement | item | from insert+
command: ({_either(_COMMANDS)}) free*
create: 'CREATE' head* ('TABLE' (unpaired | ')')* ('(' columns ')' free*)? | special free*)?
columns: (unpaired | '(' columns ')')*
unpaired: word | mark | BACK | '[' | ']' | '{{' | '}}'
head: 'OR' | id | loosely | castlike
special: joiner | STRING | QUOTED | NUMBER | FRACTION | unordered | mark | '(' | ')' | '[' | ']' | '{{' | '}}' | BACK
unordered: {_either([word for word in _RESERVED if word != "OR"])}

free: word | mark | '(' | ')' | '[' | ']' | '{{' | '}}' | BACK
loose: inside*
inside: word | mark | BACK | '(' loose ')' | '[' loose ']' | '{{' loose '}}'
word: id | joiner | special_name | STRING | QUOTED | NUMBER | FRACTION | reserved
reserved: {_either(_RESERVED)}
mark: {_either(_MARKS)}
id: NAME | TYPE
joiner: {_either(_JOINERS)}
plain: id | QUOTED+ | special_name
special_name: 'TABLE' | loosely | castlike
name: plain | joiner
anyname: name | reserved
names: anyname? (',' anyname?)*
path: name ('.' anyname?)* | ('.' anyname)+

with: 'WITH' | 'WITH' 'RECURSIVE'? cte ((',' | 'WITH' | ',' 'WITH') 'RECURSIVE'? cte)* search*
cte: (name | STRING) ('(' loose ')')? ('USING' 'KEY' '(' loose ')')? 'AS'? ('NOT'? 'MATERIALIZED')? '(' statement ')'
search: ('SEARCH' | 'CYCLE') (id | QUOTED | NUMBER | STRING | 'USING')+

query: select modifier* (setop query)? | '(' query ')' suffixes (',' table)* modifier* (setop query)? | with query
setop: side* ('UNION' | 'EXCEPT' | 'INTERSECT') ('ALL' | 'DISTINCT')? ('BY' 'NAME'
    | 'STRICT'? 'CORRESPONDING')? (('ON' | 'BY') '(' names ')')?
side: 'LEFT' | 'RIGHT' | 'FULL' | 'INNER' | 'OUTER'
select: from? 'SELECT' choice items (into? from)?
    | 'SELECT' choice items into
    | from
    | values tablealias?
    | 'TABLE' 'ONLY'? (path | '(' path ')') '*'?
choice: 'AS' | (('ALL' | distinct)? ('AS' ('STRUCT' | 'VALUE'))? | 'TOP' (NUMBER | '(' expr ')') id* (distinct
    | 'ALL')?)
distinct: 'DISTINCT' ('ON' '(' exprs ')')?
values: ('VALUES' | 'FORMAT' 'VALUES') exprs
into: id* 'INTO' ('TEMP' | 'TEMPORARY')? id? 'TABLE'? table
items: item? (',' item?)*
item: expr alias? | star
star: (path '.')? '*' starchange+ alias?
starchange: ('EXCEPT' | 'EXCLUDE' | 'REPLACE' | 'RENAME' | 'ILIKE' | 'LIKE') ('(' items ')' | name | STRING | expr)
alias: name | '@' anyparam | 'AS' | 'AS' (anyname | STRING | param | '(' names ')')
exprs: expr? (',' expr?)*

from: 'FROM' tables
tables: table (',' table? | join)*
table: 'ONLY'? (path | '$' '{{' pairs '}}' | call | param | lateral | '(' tables ')' | '(' query ')'
    | '(' values tablealias? ')' | bracket | STRING) suffixes
    | 'LATERAL' 'VIEW' 'OUTER'? call name? ('AS' names)?
    | values suffixes
    | 'ROWS' 'FROM' '(' loose ')' suffixes
    | '(' ('PIVOT' | 'UNPIVOT') loose ')' suffixes
lateral: 'LATERAL' ('(' query ')' | call | path)
suffixes: suffix* (tablealias suffix*)?
suffix: '*'
    | 'TABLESAMPLE' id? ('(' loose ')' | NUMBER id?)
    | pivot
    | 'WITH' ('ORDINALITY' | 'OFFSET' alias? | '(' loose ')')
    | ('FOR' ('SYSTEM_TIME' | 'SYSTEM' 'TIME' | 'TIMESTAMP' | 'VERSION' | 'SYSTEM_VERSION') | 'TIMESTAMP'
    | 'VERSION') ('AS' 'OF' expr | 'FROM' expr 'TO' expr | 'BETWEEN' expr | 'IN' '(' exprs ')' | 'ALL')
    | ':' name
    | ('USE' | 'FORCE' | 'IGNORE') ('INDEX' | 'KEY') ('FOR' ('JOIN' | 'ORDER' 'BY' | 'GROUP' 'BY'))? '(' loose ')'
    | ('AT' | 'BEFORE' | 'END' | 'CHANGES') '(' loose ')'
    | 'NOT'? 'INDEXED' ('BY' path)?
    | 'AT' name
    | bracket
    | '{{' pairs '}}'
    | 'PARTITION' '(' loose ')'
pivot: ('PIVOT' | 'UNPIVOT' | 'MATCH_RECOGNIZE') plain* '(' loose ')' tablealias?
tablealias: plain ('(' loose ')')? | 'AS' (anyname | STRING | NUMBER)? ('(' loose ')')?
join: joinkind* 'JOIN' table on* pivot* | 'STRAIGHT_JOIN' table on* | ('CROSS' | 'OUTER') 'APPLY' table
    | 'LATERAL' 'VIEW' 'OUTER'? call name? ('AS' names)? | lateral suffixes
joinkind: 'NATURAL' | 'ASOF' | 'POSITIONAL' | side | 'CROSS' | 'SEMI' | 'ANTI' | 'DIRECTED' | 'ARRAY' | 'ANY'
    | 'GLOBAL' | 'PASTE'
on: 'ON' expr? | 'USING' ('(' loose ')' | names) | 'MATCH_CONDITION' '(' expr ')'

modifier: where
    | 'GROUP' 'BY' ('ALL'
    | 'DISTINCT')? grouped? (',' grouped?)* ('WITH' name)* ('GROUPING' 'SETS' '(' loose ')')? 'TOTALS'?
    | 'HAVING' expr
    | 'QUALIFY' expr
    | 'WINDOW' named (',' named)*
    | order
    | limit
    | 'OFFSET' expr ('ROW' | 'ROWS')?
    | 'FETCH' (id | NUMBER | '(' loose ')' | param | 'WITH')*
    | 'FOR' (id | NUMBER | STRING | ',' | '.' | '(' loose ')')+
    | 'LOCK' 'IN' id+
    | 'TABLESAMPLE' id? ('(' loose ')' | NUMBER id?)
    | 'USING' id (id? '(' loose ')' | expr '%'? id?) (id '(' loose ')')?
    | ('START' 'WITH' expr)? 'CONNECT' 'BY' id? expr
    | 'START' 'WITH' expr
    | join
    | 'SETTINGS' exprs
    | 'FORMAT' name
    | '|>' pipe
    | returning
grouped: expr | 'GROUPING' 'SETS' '(' loose ')'
where: 'WHERE' expr
order: ('ORDER' id? | 'SORT' | 'CLUSTER' | 'DISTRIBUTE') 'BY' ordered? (',' ordered?)*
ordered: expr ('ASC' | 'DESC')* ('NULLS' ('FIRST' | 'LAST'))? fill?
fill: 'WITH' id ('FROM' expr)? ('TO' expr)? ('STEP' expr)? (id '(' loose ')')?
limit: 'LIMIT' 'NOT' expr | 'LIMIT' term '%'? 'PERCENT'? ((',' | 'OFFSET') term)? ('ROW'
    | 'ROWS')? ('BY' exprs)? ('WITH' id)?
named: name 'AS'? '(' window ')'
window: id? ('PARTITION' 'BY' 'EXCLUDING'? exprs)? order* frame?
frame: ('ROWS' | 'RANGE' | 'GROUPS') 'BETWEEN'? bound ('AND' bound)? (id ('GROUP' | id)+)?
bound: expr | expr id | id id | id 'ROW'
returning: 'RETURNING' items ('INTO' names)?
pipe: 'SELECT' choice items | id items | 'AS' name | 'DISTINCT' | order | limit | where | join (',' table)*
    | setop query (',' query)*
    | id items 'GROUP' ('AND' 'ORDER')? 'BY' items | ('PIVOT' | 'UNPIVOT') '(' loose ')' alias?
    | 'TABLESAMPLE' id? '(' loose ')'

insert: 'INSERT' into_word* target? (query | 'DEFAULT' 'VALUES' | 'SET' exprs alias? | 'TABLE' path | 'VALUE' exprs)?
    modifier* conflict? returning?
    | 'INSERT' 'OVERWRITE'? 'LOCAL'? 'DIRECTORY' free*
    | 'INSERT' ('ALL' | 'FIRST' | 'WHEN') loose
into_word: 'IGNORE' | 'LOCAL' | 'DIRECTORY' | 'FUNCTION' | 'OR' (id | 'ROLLBACK') | 'INTO' | 'OVERWRITE'
    | 'ROLLBACK' | 'TABLE' | STRING
target: (path | param | call | '(' query ')')
    ('PARTITION' '(' loose ')')? ('IF' 'NOT'? 'EXISTS')? ('(' loose ')')? ('AS' plain? ('(' loose ')')?)?
    ('(' loose ')')? ('BY' id)? ('REPLACE' (where | 'USING' '(' loose ')'))?
conflict: 'ON' ('CONFLICT' | 'DUPLICATE' 'KEY') inside*
update: 'UPDATE' ('OR' id)? tables ('SET' exprs)? updates*
updates: from | modifier | 'SET' exprs
delete: 'DELETE' (tables 'FROM' | 'FROM')? tables ('USING' tables)? modifier*
merge: 'MERGE' 'INTO'? table 'USING' table on? when* returning?
when: 'WHEN' 'NOT'? 'MATCHED' ('BY' id)? ('AND' expr)? 'THEN' action
action: 'INSERT' ('(' loose ')')? ('VALUES' '(' loose ')' | id)? where? | 'INSERT' ('*' | 'ALL'? 'BY' id)
    | 'UPDATE' ('SET' exprs | '*') where?
    | 'DELETE' where? | id+

expression: item
expr: operand (binary operand | 'ISNULL' | 'NOTNULL' | escape)*
term: operand (('+' | '-' | '*' | '/' | '%' | 'DIV' | 'COLLATE') operand)*
escape: 'NOT' 'NULL' | 'NOT'? 'BETWEEN' operand operand | 'ESCAPE' (STRING | name) | 'AT' 'TIME' 'ZONE' operand
    | 'IS' 'NOT'? ('DISTINCT' 'FROM' operand | 'JSON' ('VALUE' | 'SCALAR' | 'ARRAY' | 'OBJECT')? (('WITH'
    | 'WITHOUT')? 'UNIQUE' 'KEYS'?)? | id 'NORMALIZED')
    | 'FOR' operand (',' operand)* 'IN' operand ('IF' operand)?
binary: 'AND' | 'OR' | '=' | '==' | '<>' | '!=' | '<' | '<=' | '>' | '>=' | '<=>' | ':=' | '->' | '->>'
    | '=>' | '#>' | '#>>'
    | '<->' | '<<->>' | '??' | 'NOT'? like ('ANY' | 'ALL' | 'SOME')? | '-|-' | '&<' | '&>' | '+'
    | '-' | '*' | '/' | '%' | '^' | '&' | '|'
    | '||' | '**' | '?' | ':' | 'DIV' | 'COLLATE' | 'OVERLAPS'
    | 'OPERATOR' '(' loose ')' | '<' '<' | '>' '>' | '|' '|'
like: 'LIKE' | 'ILIKE' | 'RLIKE' | 'REGEXP' | 'GLOB' | '~~~' | '~~' | '~~*' | '~*' | 'SIMILAR' 'TO'
    | 'BETWEEN' ('SYMMETRIC' | 'ASYMMETRIC')? | 'IN' | 'IS' 'NOT'? | 'OVERLAPS'
operand: prefix* primary postfix*
prefix: '+' | '-' | '~' | '!' | 'NOT' | '|/' | '||/' | 'PRIOR' | 'CONNECT_BY_ROOT'
primary: ('MAP' | '$') '{{' pairs '}}' | STRING+ ('UESCAPE' STRING)?
    | NUMBER
    | FRACTION
    | '*' | '*' 'COLUMNS' '(' args ')'
    | 'VALUES'
    | BACK
    | param
    | TYPE ('(' loose ')')? STRING+
    | '(' exprs ')'
    | '(' item (',' item?)* ')' after*
    | '(' query ')'
    | 'EXISTS' '(' query ')'
    | bracket
    | '{{' pairs '}}'
    | 'CASE' expr? ('WHEN' expr 'THEN'? expr)* ('ELSE' expr)? 'END' over?
    | 'IF' expr 'THEN' expr ('ELSE' expr)? 'END'?
    | call
    | name
    | id ('WITH' | 'WITHOUT') id+ STRING
    | 'NEXT' 'VALUE' 'FOR' path over?
    | 'INTERVAL' term span*
    | name '<' types? '>' ('(' args ')')?
span: call | id | NUMBER | STRING | 'TO' | '+' | '(' loose ')'
param: '?' | '@' anyparam | '@@' anyparam ('.' anyparam)* | ':' (id | NUMBER | QUOTED) | '@' '@' anyparam
    | '{{' '{{' loose '}}' '}}'
anyparam: '(' exprs ')' | id | NUMBER | QUOTED | STRING | '{{' loose '}}' | reserved
bracket: '[' pairs ']'
pairs: pair? (',' pair?)*
pair: item | name call | slice? ':' slice? (':' slice?)?
slice: expr | '-'
postfix: '.' anyname ('(' args ')' after*)? | '.' '*' | '.' STRING | '.' NUMBER | FRACTION id? | bracket
    | '::' type | '.:' type | '?::' type
    | '(' '+' ')' | '{{' pairs '}}' | 'TO' id
call: loosely '(' wideargs ')'? after* | castlike '(' (expr | query) ('AS' type casting* | ',' expr) ')'? after*
    | funcname ('.' anyname)* '(' args ')' after*
funcname: id | QUOTED | joiner | 'TABLE' | 'LIKE' | 'ILIKE' | 'GLOB' | 'XOR' | 'REGEXP' | 'RLIKE' | 'INSERT'
    | 'VALUES' | 'GROUP' 'ING'
loosely: {_either(_LOOSE)}
castlike: {_either(_CASTS)}
casting: 'FORMAT' expr | 'DEFAULT' expr 'ON' id+ | ',' expr | 'AT' 'TIME' 'ZONE' operand | id
wideargs: widearg? (',' widearg?)*
widearg: arg widetail*
args: arg? (',' arg?)*
arg: id '=>' query | order | ('DISTINCT' | 'ALL' | 'BOTH' | 'LEADING' | 'TRAILING' | 'KEY' | 'DEFAULT')? (expr
    | query) argtail* | star | 'AS' type
argtail: 'AS' (anyname | STRING | '(' names ')') | order | limit | 'HAVING' ('MAX' | 'MIN') expr | ('IGNORE'
    | 'RESPECT') 'NULLS' | jsontail
jsontail: ('NULL' | 'ABSENT' | 'ERROR' | 'EMPTY' | 'DEFAULT' expr) 'ON' id
    | 'RETURNING' type ('FORMAT' id ('ENCODING' id)?)? | 'FORMAT' 'JSON'
    | ('WITH' | 'WITHOUT') ('UNIQUE' | 'ARRAY' | 'WRAPPER' | id)+ | 'SEPARATOR' expr
widetail: alias | 'AS' type | id '(' loose ')' | id STRING
    | ('FROM' | 'FOR' | 'USING' | 'ON' | 'WITH' | 'VALUES' | 'WITHOUT' | 'RETURNING' | id | ':' | 'IN') argword*
argword: expr | 'ON' | 'WITH' | 'AS' type | 'UNIQUE' | id
after: 'AGAINST' '(' loose ')' | 'FILTER' '(' 'WHERE'? expr ')' | 'WITHIN' 'GROUP' '(' order? ')' | ('IGNORE'
    | 'RESPECT') 'NULLS'
    | 'FROM' ('FIRST' | 'LAST') | 'KEEP' '(' loose ')' | over | 'PER' name | 'WITH' '(' loose ')' | '(' args ')'
over: 'OVER' (name | '(' window ')')
type: name ('.' anyname)* typepart*
typepart: '(' loose ')' | '<' types '>' | '<' '>' | '[' loose ']' | 'ARRAY' | ('WITH' | 'WITHOUT') id+ | id+
    | 'NOT' 'NULL'
    | 'COLLATE' name | 'FOR' id+
types: typearg (',' typearg)*
typearg: type | name ':' type | NUMBER | anyname type
"""


def _soft(text: str) -> str:
    names = {*_RESERVED, *_JOINERS, *_LOOSE, *_CASTS, "TABLE"}
    words = sorted(set(re.findall(r"'([A-Z_$]+)'", text.partition("module:")[2])) - names)
    return text.replace("@SOFT@", "soft " + " ".join(f"'{word}'" for word in words))


def grammar(dialect: str | None) -> str:
    if dialect not in (None, "sqlglot"):
        raise ValueError(f"syntax: sql is followed as 'sqlglot' reads it by itself, not as {dialect!r}")
    return _soft(_GRAMMAR)
