"""Go: small texts that use what the language has, and errors that are found where they are made."""

from __future__ import annotations

import pytest

from engine.syntax import LANGUAGES
from tests.syntax.following import UNFINISHED, WHOLE, verdict

FILE = """// Package shapes is about areas.
package shapes

import "fmt"
import (
	m "math"
	_ "embed"; . "errors"
)

const (
	Circle Kind = iota /* the
	first */
	Square
)

var ErrNone, errSome = New("none"), New(`some
"of" them`)

type (
	Kind     int
	Pair[K comparable, V ~int | ~[]byte] struct {
		K, _ K `json:"k"`
		*Box[V]
		fmt.Stringer
	}
	Set[T any] = map[T]struct{}
	Grid [2 * N][N]float64
)

type Shape interface {
	Area() (area float64, err error)
	fmt.Stringer
	~int | *Kind
}

func assembly(x, y *byte, n ...int) (ok bool)

func (p *Pair[K, V]) Each(f func(K, V) bool, out chan<- K, in <-chan V) {
outer:
	for i, x := range p.items[1:len(p.items)-1:9] {
		switch y := x.(type) {
		case nil, []int, map[string]*Kind:
			continue outer
		default:
			p.sum[i] += y &^ 0x1F << 2
		}
	}
	for i := 0; i < 10; i++ {
	}
	for range 3 { }
	if v, ok := <-in; !ok && v == (Pair[int, int]{}) {
		return
	} else if f := func() bool { return T{} == u }; f() {
		out <- Keys[string, V](x)[0]
	}
	select {
	case v := <-in:
		go func() { print(v) }()
	case out <- 1:
	default:
		defer p.mu.Unlock()
	}
	a, b = []T{{1, 2}, {X: 3}}, [...]string{2: "a", '\\n': "\\u00e9"}
	goto outer
}
"""


def test_a_file_is_followed_to_its_end() -> None:
    assert verdict("go", "module", FILE) == WHOLE


def test_units() -> None:
    assert LANGUAGES["go"] == {"module", "statements", "statement", "expression", "type", "signature", "body"}


@pytest.mark.parametrize(("unit", "text"), [
    ("module", "package p"),
    ("module", "package p; func f() { return }"),
    ("statements", ""),
    ("statements", "x := 1; f(x)\nif x > 0 { }\n"),
    ("statement", "if x == (T{}) {\n}\n"),
    ("statement", "for range []int{1} { }"),
    ("expression", "a.b[int](c...).(T)\n"),
    ("expression", "[]int{1,\n2,\n}[0] + 0x1p-2 + .5e3i + 1_000"),
    ("type", "map[string]func(a, b int, c ...T) (<-chan T, error)"),
    ("signature", "func (t *T) M(int, ...string) error"),
    ("signature", "func F[P any, Q ~int | ~string](p P) Q"),
    ("body", "{ return 1 }"),
    ("body", "var x, y = `a\n`, '\\''\nreturn\n"),
])  # fmt: skip
def test_valid_texts(unit: str, text: str) -> None:
    assert verdict("go", unit, text) == WHOLE


@pytest.mark.parametrize(("unit", "good", "rest"), [
    ("module", "package p\nfunc f() {}\n", "import"),
    ("module", "package p\nfunc f()\n", "{"),
    ("module", "package p\n", "x := 1"),
    ("module", "package p\nconst (\n\ta", "\n)"),
    ("module", "package p\nfunc (t T) m", "[P any]()"),
    ("statements", "if x == T{} ", "{}"),
    ("statements", "f(a,\nb", "\n)"),
    ("statements", 's := "a', '\n"'),
    ("statements", "c := 'a", "b'"),
    ("statements", "a.b ", ":= 1"),
    ("statements", "func ", "f() {}"),
    ("statements", "if x \n", "{"),
    ("statements", "", "}"),
    ("statements", "{\n}\nelse", " {}"),
    ("statements", "retrun ", "1"),
    ("statements", "x = (1 + 2", "]"),
    ("statement", "x = 1; ", "y = 2"),
    ("expression", "a", ";"),
    ("type", "", "1"),
    ("signature", "func f(a int) ", "{"),
    ("signature", "func f(a int, b", ")"),
])  # fmt: skip
def test_an_error_is_found_where_it_is_made(unit: str, good: str, rest: str) -> None:
    assert verdict("go", unit, good + rest) == good


@pytest.mark.parametrize("text", ["for x := range y {", "if a", "switch x {", "select {", "f := func()"])
def test_a_header_counts_where_part_of_a_text_is_asked_for(text: str) -> None:
    assert verdict("go", "body", text, partial=True) == WHOLE
    assert verdict("go", "body", text) == UNFINISHED or text == "f := func()"
