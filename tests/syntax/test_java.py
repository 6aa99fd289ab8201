"""Java: small texts that use what the language has, and errors that are found where they are made."""

from __future__ import annotations

import pytest

from engine.syntax import LANGUAGES
from tests.syntax.following import UNFINISHED, WHOLE, verdict

FILE = r'''/** Shapes. */
@Generated(value = {"a", "b"}, by = @Tool("x"))
package org.shapes;

import java.util.*;
import static java.lang.Math.abs;;

public sealed abstract class Shape<T extends Comparable<? super T> & Cloneable> extends Base<List<Map<T, int[]>>>
        implements A, B permits Circle, Square {
    static final int[] SIDES = {1, 2, 0x1F_FFL, 'a', '\u0041', '\''}, none[];
    static { load(); }
    { count++; }

    @Override protected <K, V> Map<K, ? extends V>[] of(final K key, V @NonNull ... values) throws IOException, E {
        var text = """
            a "quoted" \
            ""\"""" + "";
        outer:
        for (int i = 0, j = 10; i < j && !done; i++, --j) {
            if (i >> 1 >>> 2 == 3) continue outer; else if (i < j) break; else { ; }
        }
        for (final var x : values) do { f(x); } while (x != null);
        int n = switch (day) {
            case MONDAY, TUESDAY -> 6;
            case Point(int x, Line(var a, _)) when x > 0 -> { yield x; }
            case String s -> s.length();
            case null, default -> throw new E();
        };
        switch (n) { case 1: case 2: return null; default: f(); }
        try (var in = open(); this.out) { } catch (A | B _) { } finally { }
        synchronized (this) { assert n > 0 : "n"; }
        Function<String, Integer>[] f = (Function<String, Integer>[]) new Function<?, ?>[2];
        g = (a, b) -> a < b ? (int) -a : (Runnable & Serializable) () -> { };
        h = List<String>::new; k = int[]::clone; m = super::<T>go; c = int[][].class;
        if (o instanceof final String s && s.a().b[0] instanceof Foo<?>) x = y = (z) + 1;
        new Outer<>(1) { int x; }.<T>call().new Inner();
        int[][] grid = new int[3][4][], row = new int[][] {{1}, {2,},}[0];
        record Pair(int a, String... b) { Pair { a = 1; } }
        return i < n;
    }
    Shape() { this(1); }
    abstract void area(Shape<T> this);
}
non-sealed interface A { default void f() { } int X = 1; }
enum Color implements A { @Deprecated RED(1) { void f() { } }, GREEN, ; int x; }
@interface Tool { String value() default "a"; }
'''


def test_a_file_is_followed_to_its_end() -> None:
    assert verdict("java", "module", FILE) == WHOLE


def test_units() -> None:
    assert LANGUAGES["java"] == {"module", "statements", "statement", "expression", "type", "signature", "body"}


@pytest.mark.parametrize(("unit", "text"), [
    ("module", ""),
    ("module", "open module a.b { requires transitive c; exports d to e, f; provides g with h.i; }"),
    ("statements", "int x = 1; yield = record - when;\n"),
    ("statement", "List<List<String>> x = a > b ? c : d;"),
    ("statement", "if (a) if (b) c(); else d();"),
    ("expression", "a.b(1).<T>c(x -> x + 1, Foo::bar)[2].d"),
    ("expression", "f(a < b, c > d) + (a) - b"),
    ("type", "java.util.Map<String, ? extends int[]>[]"),
    ("type", "void"),
    ("signature", "public static <T> List<T> of(T... items) throws IOException"),
    ("body", "{ return 1; }"),
    ("body", "this.x = x;\nreturn;\n"),
])  # fmt: skip
def test_valid_texts(unit: str, text: str) -> None:
    assert verdict("java", unit, text) == WHOLE


@pytest.mark.parametrize(("unit", "good", "rest"), [
    ("module", "class A { } ", "x;"),
    ("module", "class A { void f() { } ", ")"),
    ("module", "class A { int x = 1", "}"),
    ("module", "class A { public int", "; }"),
    ("module", "class A { } i", "mport b;"),
    ("module", "enum E { A ", "B }"),
    ("statements", "f(a", ";"),
    ("statements", "a +", " b;"),
    ("statements", "a[1", ";"),
    ("statements", "x = (1 + 2", "]"),
    ("statements", 's = "a', '\n"'),
    ("statements", "c = 'a", "b'"),
    ("statements", "public", " int x;"),
    ("statements", "retrun x ", "+ 1;"),
    ("statements", "for (int i = 0; i < n; i++", ";"),
    ("statements", "try { } f", "();"),
    ("statements", "int goto", " = 1;"),
    ("statements", "switch (x) { case 1: f(); case 2 -", "> g(); }"),
    ("statement", "f(); ", "g();"),
    ("expression", "a", ";"),
    ("expression", "a ", "b"),
    ("type", "", "1"),
    ("signature", "void f(int a) ", "{"),
])  # fmt: skip
def test_an_error_is_found_where_it_is_made(unit: str, good: str, rest: str) -> None:
    assert verdict("java", unit, good + rest) == good


@pytest.mark.parametrize(
    "text", ["for (int x : xs)", "for (;;) {", "if (a)", "if (a) b(); else {", "switch (x) {", "try {"]
)
def test_a_header_counts_where_part_of_a_text_is_asked_for(text: str) -> None:
    assert verdict("java", "body", text, partial=True) == WHOLE
    assert verdict("java", "body", text) == UNFINISHED


def test_a_chain_of_conditions_is_followed_whatever_its_length() -> None:
    assert verdict("java", "statements", "if (a) b(); else " * 300 + "if (a) if (b) c(); else d();") == WHOLE
