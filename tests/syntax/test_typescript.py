"""TypeScript: what is valid is alive throughout and whole, mistakes are found."""

from __future__ import annotations

import pytest

from engine.syntax import LANGUAGES, start
from tests.syntax.following import dead_at

CLASS = """@injected({ a: 1 })
export default abstract class Stack<out T extends object = {}> extends Base<T> implements Iterable<T>, B.C {
  static #count = 0
  declare readonly name?: string; private items!: T[]
  [key: string]: unknown
  static { Stack.#count++ }
  constructor(private readonly max: number, @inject() public log?: Log) { super() }
  get size(): number { return this.items.length }
  abstract push(item: T): this
  async *drain<U>(this: Stack<T>, { a, b: [c = 1], ...rest }: Some): AsyncGenerator<U, void> {
    for await (const item of this.items) yield* other(item)
  }
}
"""
VALID = [
    "a = (t) =>\n  class extends B {\n    readonly c = t\n  } as any",
    "a = (t) => class {} ? b : c",
    "",
    "#!/usr/bin/env node\nimport a, { type B, c as d } from 'x'\nimport * as e from \"y\" with { type: 'json' }\n"
    "import type { F } from './f'; import g = require('g'); export * as h from 'h'; export { a as default, B }",
    CLASS,
    "let a = b\n++c\nvar d, e: number = 1, { f, g: [h] } = i\nreturn\n",
    "x = a ? (b) : c => d; y = a ? (b): c => d : e; z = a < b, c > (d); w = f<T>(x)<U>`t`",
    "const r = /[/]\\/x/gi.test(a / b / c), s = a++ / 2 / (b) / /=x/.y; if (a) /b/.test(c)",
    "`a ${b + `c ${{ d: 1 }.d}`} \\` $ {`",
    "type A<T> = T extends (infer U extends string)[] ? { -readonly [K in keyof T as `x${K}`]?: T[K] } : B<B<T>>",
    "type B = | 'a' | -1 | typeof x.y[number] | import('z').Q<R> | [a?: B, ...rest: C[]]",
    "type B = unique symbol | (new () => D)[]",
    "type E = (a: number, ...b: F[]) => asserts a is G; let h: Map<string, Set<number>>= i",
    "interface I extends J<K>, L { a?: b; readonly c: d, <T>(e: T): f\n new (g: h): i\n get j(): k }",
    "interface I { [l: m]: n; o?(): p }",
    "declare global { interface W { a: 1 } }\ndeclare module 'm' { export = n }",
    "namespace A.B { const enum C { D = 1 << 2, 'e' } }",
    "function f(a: string): void\nfunction f(a?: any) { label: while (1) { if (a) break label; else continue } }",
    "switch (a) { case 1: case 2: b(); break\n default: { } }\ndo x(); while (y) try { } catch { } finally { }",
    "a?.b?.[c]?.(d)!.e ??= new F(...g)(h) as const; i = <T,>(x: T) => ({ ...x, [j]: k, l })",
    "m = { async *n() {}, get o() { return 1 }, 'p'() {}, q: a ? .5 : b?.5:1 }",
    "type = of; let async = await, get = set; module.exports = type; abstract\nclass K {}",
    "const o = { if: 1, class: 2, 'a': 3, 0x1f: 4n } satisfies P; o.if.delete; (a as any) = b; export {}",
    "for (let i = 0, n = a.length; i < n; i++) ; for (const k in o) f(k); for (const [a, b] of c) {}",
    "a >>= b >>> c >= d << e; x = a < b && c > d; if (a < b || c >= (d)) e",
    "/* a\n b */ let c /* d\n */ let e // f\n",
]


@pytest.mark.parametrize("text", VALID)
def test_what_is_valid_is_alive_throughout_and_whole(text: str) -> None:
    assert dead_at("typescript", text) is None
    assert start("typescript", "module").feed(text).whole


@pytest.mark.parametrize(("good", "bad"), [
    ("cosnt a", " = 1"),
    ("b ", "#!a"),
    ("0", "8"),
    ("1_", "_0"),
    ("x = 0x1", "_;"),
    ("'\\x", "1'"),
    ("'\\", "1'"),
    ("'\\u{11", "0000}'"),
    ("const a: ", "= 1"),
    ("const x = f(a, b", ";"),
    ("const x = f(a, [b", ")"),
    ("if ", "a {"),
    ("function f(a ", "string)"),
    ("const a = 'b", "\n"),
    ("let a = { b: 1, c: 2 ", ";"),
    ("fro (", "const a of b) {"),
    ("x = a ", "b"),
    ("class A { constructor(a ", "{ }"),
    ("interface A { b: string ", "c: d }"),
    ("a = b", ")"),
    ("import { a } ", "form 'b'"),
    ("`${a", ";"),
    ("type A = { a: ", "}"),
    ("x = /a[/]", "\n"),
])  # fmt: skip
def test_a_mistake_is_found(good: str, bad: str) -> None:
    assert dead_at("typescript", good) is None
    assert dead_at("typescript", good + bad) is not None


@pytest.mark.parametrize("text", ["(", "a +", "`${x", "if (a) {", "class A", "/* a", "x = {", "'a", "export", "/a"])
def test_what_is_not_finished_is_alive_and_not_whole(text: str) -> None:
    assert dead_at("typescript", text) is None
    assert not start("typescript", "module").feed(text).whole


def test_units() -> None:
    assert LANGUAGES["typescript"] == {"module", "statements", "statement", "expression", "type", "signature", "body"}
    assert dead_at("typescript", "a = b; c = d", "statement") == 7
    assert start("typescript", "expression").feed("(a: b) => ({ c })").whole
    assert dead_at("typescript", "const a = 1", "expression") is not None
    assert start("typescript", "type").feed("{ a: b }[] | Record<string, C>").whole
    for text in ("function f<T>(a: T): a is U", "export async function g(a = 1)", "m(a: b): c", "(a: b) => c"):
        assert start("typescript", "signature").feed(text).whole
    assert dead_at("typescript", "function f() {", "signature") is not None
    assert start("typescript", "body").feed("const a = 1\nreturn a").whole


@pytest.mark.parametrize(
    "text",
    ["function f(a: b): c", "function f() {", "class A extends B {", "if (a)", "for (const a of b) {", "x = (a) => {"],
)
def test_a_header_is_enough_when_part_of_a_text_is_asked_for(text: str) -> None:
    assert start("typescript", "module", partial=True).feed(text).whole
    assert not start("typescript", "module", partial=True).feed(text + " (").whole


def test_what_is_held_does_not_grow_with_the_text() -> None:
    state, sizes = start("typescript", "module"), []
    for _ in range(60):
        state = state.feed("if (a) { f(`x${b}`, (c) => d) }\nlet e = g<h>(i)\n")
        sizes.append(state.size)
    assert max(sizes) == max(sizes[:3])


@pytest.mark.parametrize("line", ["a\n(b)\n", "x = a < b\n/c/d\n", "a\n`b`\n", "for (;;) a ? (b) : c => d\n"])
def test_readings_of_a_line_meet_again(line: str) -> None:
    state, readings = start("typescript", "module"), []
    for character in line * 20:
        state = state.feed(character)
        readings.append(len(state.readings))
    assert not state.lost
    assert max(readings) == max(readings[: 4 * len(line)])


@pytest.mark.parametrize(("text", "valid"), [
    ("1_000n + 0xf_f + 1_0.5_0e1_0 + .5", True), ("1__0", False), ("1_", False), ("0x_f", False),
    (r"'\x41\u0041\u{1F600}\q\0'", True), (r"'\x4'", False), (r"'\u{}'", False), (r"'\u00'", False), (r"`\u`", True),
])  # fmt: skip
def test_numbers_and_escapes_are_those_of_the_language(text: str, valid: bool) -> None:
    assert start("typescript", "expression").feed(text).whole is valid
