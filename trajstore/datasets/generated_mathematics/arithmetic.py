"""Arithmetic: the four operations on integers and decimals, in other bases and nested, roots and surds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.notation import (
    Text,
    bracketed,
    decimal,
    expression,
    finite_decimal,
    in_base,
    positive,
    product,
    summed,
    whole,
)


def add_or_sub(rng: Random) -> Text:
    """A sum or difference of two decimals."""
    a, b = finite_decimal(rng, 7, 4), finite_decimal(rng, 7, 4)
    first, second = decimal(a), decimal(b)
    if rng.randint(0, 1):
        question = rng.choice(
            [f"How much is {first} + {bracketed(second)}?", f"Give the sum of {first} and {second}."]
        )
        return question, decimal(a + b)
    question = rng.choice(
        [f"How much is {first} - {bracketed(second)}?", f"Take {second} away from {first}."]
    )
    return question, decimal(a - b)


def add_or_sub_in_base(rng: Random) -> Text:
    """A sum or difference in another base."""
    base, a, b = rng.randint(2, 16), whole(rng, 5), whole(rng, 5)
    operator, value = rng.choice([("+", a + b), ("-", a - b)])
    numbers = f"{in_base(a, base)} {operator} {bracketed(in_base(b, base))}"
    return f"In base {base}, how much is {numbers}?", in_base(value, base)


def add_sub_multiple(rng: Random) -> Text:
    """Sums and differences, nested."""
    return _work_out(rng, "+-", 2)


def mul_div_multiple(rng: Random) -> Text:
    """Products and quotients, nested."""
    return _work_out(rng, "*/", 2)


def mixed(rng: Random) -> Text:
    """All four operations, nested."""
    return _work_out(rng, "+-*/", 2)


def _work_out(rng: Random, operators: str, digits: int) -> Text:
    drawn = expression(rng, rng.randint(3, 7), operators, digits)
    return rng.choice([f"Work out {drawn.text}.", f"What does {drawn.text} come to?"]), str(drawn.value)


def mul(rng: Random) -> Text:
    """A product of two decimals."""
    a, b = finite_decimal(rng, 5, 4), finite_decimal(rng, 5, 4)
    first, second = decimal(a), decimal(b)
    question = rng.choice(
        [f"How much is {first}*{bracketed(second)}?", f"Give the product of {first} and {second}."]
    )
    return question, decimal(a * b)


def div(rng: Random) -> Text:
    """A quotient of two integers, often a whole number."""
    b = whole(rng, 4, zero=False)
    a = b * whole(rng, 4) if rng.randint(0, 1) else whole(rng, 6)
    question = rng.choice([f"How much is {a} divided by {b}?", f"Give the quotient {a}/{bracketed(str(b))}."])
    return question, str(Fraction(a, b))


def nearest_integer_root(rng: Random) -> Text:
    """A root, rounded; none lies halfway, since no root of a whole number does."""
    degree, number = rng.choice([2, 2, 3, 4, 5]), positive(rng, 7)
    name = {2: "square root", 3: "cube root", 4: "fourth root", 5: "fifth root"}[degree]
    root = 0
    while (2 * root + 1) ** degree <= 2**degree * number:
        root += 1
    return f"Which whole number is nearest to the {name} of {number}?", str(root)


@dataclass(frozen=True)
class _Surd:
    """p + q·√n, as it is written and in simplest terms."""

    text: str
    p: int
    q: int
    n: int

    def simple(self) -> str:
        """p + q*sqrt(n), without what is zero."""
        parts = [str(self.p)] if self.p else []
        return summed(parts + ([product(self.q, f"sqrt({self.n})")] if self.q else []))


def simplify_surd(rng: Random) -> Text:
    """An expression in one square root: a sum, a product, a square or a quotient."""
    n = rng.choice([2, 3, 5, 6, 7, 10, 11, 13])
    kind = rng.choice(["sum", "product", "square", "quotient"])
    a = _surd(rng, n, 2 if kind != "sum" else 3)
    if kind == "product":
        b = _surd(rng, n, 2)
        a = _Surd(f"({a.text})*({b.text})", a.p * b.p + a.q * b.q * n, a.p * b.q + a.q * b.p, n)
    elif kind == "square":
        a = _Surd(f"({a.text})**2", a.p**2 + a.q**2 * n, 2 * a.p * a.q, n)
    elif kind == "quotient":
        # (p + q√n) · m√n / √n, with the factor m√n multiplied out
        m = rng.randint(2, 5)
        over = summed([text for text in (_root(a.p * m, n), str(a.q * m * n) if a.q else "") if text])
        a = _Surd(f"({over})/sqrt({n})", a.p * m, a.q * m, n)
    return f"Simplify {a.text}.", a.simple()


def _surd(rng: Random, n: int, count: int) -> _Surd:
    """A sum of `count` terms: at least one a multiple of √n, written as √(k²·n), at most one a whole number."""
    parts, p, q = [], 0, 0
    for number in range(count):
        c = rng.choice([-3, -2, -1, 1, 2, 3])
        if number == count - 1 and rng.randint(0, 2):
            p += 3 * c
            parts.append(str(3 * c))
        else:
            k = rng.randint(1, 6)
            q += c * k
            parts.append(product(c, f"sqrt({k * k * n})"))
    return _Surd(summed(parts), p, q, n)


def _root(coefficient: int, n: int) -> str:
    return product(coefficient, f"sqrt({n})") if coefficient else ""
