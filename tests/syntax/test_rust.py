"""Rust: small texts that use what the language has, and errors that are found where they are made."""

from __future__ import annotations

import pytest

from engine.syntax import LANGUAGES, start
from tests.syntax.following import UNFINISHED, WHOLE, dead_at, verdict

FILE = r"""#!/usr/bin/env run
#![allow(dead_code)]
//! Shapes.
/* a /* nested */ comment */
pub(crate) mod inner { pub use super::{a::*, b as _, self as c}; }
extern crate alloc as memory;

#[derive(Debug, Clone)]
pub struct Pair<'a, K: ?Sized + 'a, const N: usize = 3>(pub &'a K, pub(in crate::x) [u8; N]) where K: Ord;
struct Unit;
enum Kind { A, #[b] B(u8, Vec<Vec<u8>>), C { x: u8, } = 3 }
union Bits { a: u32, b: f32 }
const NAMES: &[&str] = &["a", r"\b", r#"a "quoted" b"#, br##"x"#y"##, "c\
    d \u{e9}"];
static mut COUNT: u64 = 0xFF_u64 + 1e3 as u64;
type Callback<T> = Box<dyn for<'a> FnMut(&'a T) -> Result<(), Error> + Send + 'static>;

pub trait Shape: Clone + Sized {
    const SIDES: usize;
    type Item<'a>: Iterator<Item = &'a Self> where Self: 'a;
    fn area(&self, _: u8) -> f64;
    async fn name(self: Box<Self>) -> impl Future<Output = String> + '_ { "x".into() }
}

unsafe impl<T, const N: usize> Shape for Pair<'_, T, { N + 1 }> where T: Fn(u8) -> u8 + ?Sized, {
    fn area(&mut self, (a, b): (u8, u8), [x, .., y]: [u8; 3]) -> f64 {
        let Some(mut x) = self.0.1.get(..2) else { return 1. };
        let x: Vec<Vec<u8>>= vec![1; 2];
        let c = move |&a: &u8, b| -> u8 { a + b };
        'outer: for (i, x) in xs.iter().enumerate() {
            if let Some(1..=9 | 20..) = x && i >> 1 >= 2 || !done { continue 'outer } else if a == (S { b: 1 }).b { }
            while i < 3 { break 'outer; }
        }
        match x {
            Kind::B(n @ 1..=3, ref v) if n > 2 => n <<= 2,
            Kind::C { x, .. } | Kind::A => { loop { break x } }
            'a'..='z' | -1 => return,
            _ => |x| x + 1,
        }.iter().map(<T as Shape>::area).collect::<Vec<_>>()?;
        unsafe { *ptr = &raw const y; }
        if a { b } else { c }
        *y = Point { x: 1, y, ..Default::default() };
        println!("{}: {x:?}", #[cfg(a)] 'b', $c => 1.0);
        macro_rules! m { ($($x:expr),* ; 'a) => { $x + 1 }; }
        async move { f().await }.await
    }
}
extern "C" { fn print(fmt: *const c_char, ...) -> c_int; }
thread_local! { static X: u8 = 1; }
"""


def test_a_file_is_followed_to_its_end() -> None:
    assert verdict("rust", "module", FILE) == WHOLE


def test_units() -> None:
    assert LANGUAGES["rust"] == {"module", "statements", "statement", "expression", "type", "signature", "body"}


@pytest.mark.parametrize(("unit", "text"), [
    ("module", ""),
    ("statements", "let union = auto + gen; union.raw"),
    ("statements", "if a {} else {}\n-1"),
    ("statements", "match x { _ => {} }.foo();"),
    ("statements", "for i in 0.. { }"),
    ("statement", "let x = 1;"),
    ("statement", "x"),
    ("expression", "a::<T>(1..2, ..=3, 4.., ..)[x.0.1]?.await as u8 < b"),
    ("expression", "if x == (S { a: 1 }) { |a| a } else { return }"),
    ("type", "&'a mut dyn Fn(u8) -> Box<dyn A + 'a>"),
    ("type", "impl Iterator<Item = (u8, [T; N])> + Send"),
    ("signature", "pub async unsafe extern \"C\" fn f<'a, T>(&'a mut self, mut x: T) -> Result<T, E> where T: A"),
    ("body", "#![a]\nlet x = 1;\nx"),
    ("body", "{ x }"),
    ("body", 'let s = r###"a"##b"###;'),
])  # fmt: skip
def test_valid_texts(unit: str, text: str) -> None:
    assert verdict("rust", unit, text) == WHOLE


@pytest.mark.parametrize(("unit", "good", "rest"), [
    ("module", "fn f() { ", ")"),
    ("module", "fn f() { ..", ".1 }"),
    ("module", "fn f() { match x { 1... ", "=> 2 } }"),
    ("module", "fn f() {} ", ";"),
    ("module", "fn f(a", ") {}"),
    ("module", "let", " x = 1;"),
    ("module", "struct A { a: u8, b ", "}"),
    ("statements", "f(a ", "b)"),
    ("statements", "let x ", "1;"),
    ("statements", "if a {} ", "+ 1;"),
    ("statements", "if x == S { a:", " 1 } {}"),
    ("statements", "let a = 'ab", "'"),
    ("statements", "let a = \"\\", "q\";"),
    ("statements", "x = (1 + 2", "]"),
    ("statements", "fn f() { x } y ", "z"),
    ("statements", "let x = [1, 2", "}"),
    ("statements", "m!(a, [b", ")"),
    ("statements", "match x { 1 => 2 ", "3 => 4 }"),
    ("statement", "x; ", "y"),
    ("expression", "a", ";"),
    ("type", "", "1"),
    ("signature", "fn f(a: u8) ", "{"),
])  # fmt: skip
def test_an_error_is_found_where_it_is_made(unit: str, good: str, rest: str) -> None:
    assert verdict("rust", unit, good + rest) == good


@pytest.mark.parametrize("field", ["0", "1_0", "0.1.2", "1e2.b", "0x1", "0E2"])
def test_numbers_that_are_names_of_fields(field: str) -> None:
    assert start("rust", "expression").feed(f"a.{field}").whole


@pytest.mark.parametrize("field", ["0u8", "0f32", "0E-2", "1.5e+2", "0.1f64", "0usize"])
def test_a_field_has_no_suffix_and_no_sign(field: str) -> None:
    assert start("rust", "expression").feed(field).whole, "a number it is"
    assert dead_at("rust", f"a.{field};", "expression") is not None


@pytest.mark.parametrize("text", ["for x in y {", "if a {} else", "match x {", "impl A for B", "mod a {", "struct A {"])
def test_a_header_counts_where_part_of_a_text_is_asked_for(text: str) -> None:
    assert verdict("rust", "body", text, partial=True) == WHOLE
    assert verdict("rust", "body", text) == UNFINISHED


def test_a_chain_of_alternatives_is_followed_whatever_its_length() -> None:
    assert verdict("rust", "statements", "if a " + "|| b " * 60 + "{ } x = |a||b| || 1;") == WHOLE
