"""SQL as sqlglot reads it: what is valid is alive throughout and whole, mistakes are found."""

from __future__ import annotations

import pytest

from engine.syntax import LANGUAGES, start
from tests.syntax.following import dead_at

VALID = [
    "",
    "SELECT 1;\n-- c\nSELECT 'it''s' /* a /* nested */ comment */;",
    "select a.b, count(*) as n, sum(distinct c) filter (where c > 0) from t as x left join u using (id)\n"
    "where a in (1, 2) group by 1, rollup (b) having count(*) > 1 order by n desc nulls last limit 10 offset 5",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9), u AS (SELECT * FROM t) SELECT 2",
    "SELECT CASE WHEN a THEN 1 ELSE 2 END, CAST(\"x y\" AS DECIMAL(10, 2)), x::int[], {'a': 1}, [1, 2][0], a -> '$.b'",
    "SELECT SUM(a) OVER (PARTITION BY a ORDER BY b ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM t, u",
    "SELECT EXTRACT(year FROM d), TRIM(BOTH ' ' FROM s), d + INTERVAL '1' day, DATE '2020-01-01', NOT a IS NULL",
    "SELECT * EXCEPT (a) FROM (SELECT 1 AS a) AS s CROSS JOIN UNNEST([1, 2]) AS v WHERE EXISTS (SELECT 1 FROM w)",
    "(SELECT 1) UNION (SELECT 2) ORDER BY 1",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, NULL) ON CONFLICT (a) DO UPDATE SET b = 'y' RETURNING a",
    "UPDATE t SET a = a + 1, b = DEFAULT FROM u WHERE t.id = u.id",
    "DELETE FROM t WHERE a BETWEEN 1 AND 2",
    "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = s.a\n"
    "WHEN NOT MATCHED THEN INSERT (a) VALUES (s.a)",
    "CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL DEFAULT 'x', CHECK (id > 0))",
    "CREATE OR REPLACE VIEW v AS SELECT * FROM t",
    "ALTER TABLE t ADD COLUMN c INT; DROP TABLE IF EXISTS t; EXPLAIN SELECT 1; SET x = 1",
    "SELECT format, first, date, table, left FROM values",
    "SELECT a AS select_, FROM t",
    "a + b * (c - 1)",
    "SELECT a @x, f {'b': 1} FROM t WHERE c BETWEEN 1 2",
    "SELECT a <@b, a ^@b, a ? 'b', a #>> 'b', a MOD FROM t",
]


@pytest.mark.parametrize("text", VALID)
def test_what_is_valid_is_alive_throughout_and_whole(text: str) -> None:
    assert dead_at("sql", text) is None
    assert start("sql", "module").feed(text).whole


@pytest.mark.parametrize(("good", "bad"), [
    ("SELECT a FORM t", " WHERE b"),
    ("SELCT a", ", b FROM t"),
    ("SELECT a FROM t WEHRE ", "b = 1"),
    ("SELECT a FROM t GROUP ", "a;"),
    ("SELECT a FROM t ORDER BY b", ")"),
    ("SELECT f(a ", "FROM t"),
    ("SELECT (a + 1 ", "FROM t"),
    ("SELECT a FROM t WHERE ", "= 1"),
    ("SELECT CASE WHEN a THEN 1 ", "FROM t"),
    ("INSERT INTO t (a VALUES (1)", ";"),
    ("UPDATE t SET a = 1 ", "WERE b = 2"),
    ("SELECT CAST(a ", "OVER int)"),
])  # fmt: skip
def test_a_mistake_is_found(good: str, bad: str) -> None:
    assert dead_at("sql", good) is None
    assert dead_at("sql", good + bad) is not None


@pytest.mark.parametrize("operator", ["XOR", "MOD", "~", "#-", "&&", "@>", "@?", "?&", "?|"])
def test_operators_of_other_dialects_are_none(operator: str) -> None:
    assert dead_at("sql", f"SELECT a FROM t WHERE a = 1 {operator} 'b'") is not None


@pytest.mark.parametrize(
    "text",
    ["SELECT 'a", "SELECT (1", "SELECT a FROM", "WITH t AS (", "CASE WHEN a", "SELECT f(a, ", "SELECT 1 /* a", "{# a"],
)
def test_what_is_not_finished_is_alive_and_not_whole(text: str) -> None:
    assert dead_at("sql", text) is None
    assert not start("sql", "module").feed(text).whole


def test_units() -> None:
    assert LANGUAGES["sql"] == {"module", "statements", "statement", "expression", "type"}
    assert dead_at("sql", "SELECT 1; SELECT 2", "statement") == 8
    assert dead_at("sql", "a + 1 > 2 AND b", "expression") is None
    assert dead_at("sql", "SELECT 1", "expression") is not None
    assert start("sql", "type").feed("DECIMAL(10, 2)").whole
    assert start("sql", "type").feed("ARRAY<STRUCT<a INT>>").whole
    with pytest.raises(ValueError, match="not as 'tsql'"):
        start("sql", "module", dialect="tsql")
