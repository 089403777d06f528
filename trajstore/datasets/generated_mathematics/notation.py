"""Notation of numbers, sums, polynomials and expressions in a problem, and the letters that name them.

Products are `*`, powers `**`, fractions `a/b` in lowest terms, as Python writes them. Numbers are exact throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

LETTERS = "abcdfghjkmnpqrstuvwxyz"
"""Names of numbers and functions: without e, i, l and o, which read as numbers."""

Text = tuple[str, str]
"""Question and answer."""
Exact = int | Fraction
Polynomial = Sequence[int]
"""Coefficients, that of the power 0 first."""


def names(rng: Random) -> Iterator[str]:
    """The letters in random order."""
    return iter(rng.sample(LETTERS, len(LETTERS)))


def whole(rng: Random, digits: int, *, zero: bool = True) -> int:
    """A number of either sign with 1 to `digits` digits, every length equally likely."""
    limit: int = 10 ** rng.randint(1, digits) - 1
    while True:
        number = rng.randint(-limit, limit)
        if number or zero:
            return number


def positive(rng: Random, digits: int) -> int:
    """A number above 0 with 1 to `digits` digits, every length equally likely."""
    return abs(whole(rng, digits, zero=False))


def finite_decimal(rng: Random, digits: int, places: int) -> Fraction:
    """A number of either sign with up to `digits` digits, at most `places` of them after the point."""
    return Fraction(whole(rng, digits), 10 ** rng.randint(0, places))


def decimal(value: Exact) -> str:
    """A number that has finitely many decimals, with all of them."""
    exact, places = Fraction(value), 0
    while (exact * 10**places).denominator != 1:
        places += 1
    digits = f"{abs(int(exact * 10**places)):0{places + 1}}"
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if exact < 0 else text


def in_base(value: int, base: int) -> str:
    """A number's digits in a base from 2 to 16."""
    digits, rest = "", abs(value)
    while rest or not digits:
        rest, digit = divmod(rest, base)
        digits = _DIGITS[digit] + digits
    return f"-{digits}" if value < 0 else digits


_DIGITS = "0123456789abcdef"


def bracketed(text: str) -> str:
    """A number as it stands after an operator: in brackets if it is negative."""
    return f"({text})" if text.startswith("-") else text


def listed(texts: Sequence[str], last: str = ", ") -> str:
    """Texts joined by commas, the last two by `last`."""
    return last.join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else list(texts))


def summed(terms: Sequence[str]) -> str:
    """Terms as a sum, each with its own sign; 0 where there are none."""
    if not terms:
        return "0"
    rest = (f" - {term[1:]}" if term.startswith("-") else f" + {term}" for term in terms[1:])
    return terms[0] + "".join(rest)


def product(coefficient: int, factor: str) -> str:
    """A coefficient times a factor; the factor may be empty, for 1."""
    if not factor:
        return str(coefficient)
    return {1: factor, -1: f"-{factor}"}.get(coefficient, f"{coefficient}*{factor}")


def power(name: str, exponent: Exact) -> str:
    """A power: nothing for the exponent 0, brackets around one that is no natural number."""
    if exponent == 0:
        return ""
    if exponent == 1:
        return name
    natural = Fraction(exponent).denominator == 1 and exponent > 0
    return f"{name}**{exponent}" if natural else f"{name}**({exponent})"


def terms(coefficients: Polynomial, name: str) -> list[str]:
    """The terms of a polynomial that are not zero, highest power first."""
    products = [product(c, power(name, exponent)) for exponent, c in enumerate(coefficients) if c]
    return products[::-1]


def polynomial(coefficients: Polynomial, name: str) -> str:
    """A polynomial, highest power first: `3*x**2 - x + 4`."""
    return summed(terms(coefficients, name))


def monomials(coefficients: Mapping[tuple[int, int], int], first: str, second: str) -> list[str]:
    """The terms of a polynomial in two names that are not zero, highest powers first."""
    terms = []
    for (one, two), coefficient in sorted(coefficients.items(), reverse=True):
        if coefficient:
            factors = [text for text in (power(first, one), power(second, two)) if text]
            terms.append(product(coefficient, "*".join(factors)))
    return terms


def function(name: str, argument: str, coefficients: Polynomial) -> str:
    """A sentence that defines a function."""
    return f"Let {name}({argument}) = {polynomial(coefficients, argument)}."


_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True)
class Expression:
    """An expression as it is written, and what it comes to."""

    text: str
    value: Fraction
    binds: int = 3
    """1 for a sum or a negative number, 2 for a product or quotient, 3 for what needs no brackets."""

    def wrapped(self, least: int) -> str:
        """The text, in brackets where it binds less than that."""
        return self.text if self.binds >= least else f"({self.text})"


def number(value: int) -> Expression:
    """A whole number as an expression."""
    return Expression(str(value), Fraction(value), 3 if value >= 0 else 1)


def combine(operator: str, left: Expression, right: Expression) -> Expression:
    """Two expressions under `+`, `-`, `*` or `/`; raises `ZeroDivisionError`."""
    strength = _STRENGTH[operator]
    value = {
        "+": lambda: left.value + right.value,
        "-": lambda: left.value - right.value,
        "*": lambda: left.value * right.value,
        "/": lambda: left.value / right.value,
    }[operator]()
    sign = f" {operator} " if strength == 1 else operator
    return Expression(left.wrapped(strength) + sign + right.wrapped(strength + 1), value, strength)


def expression(rng: Random, numbers: int, operators: str, digits: int) -> Expression:
    """A random expression of that many numbers; one that divides by zero is drawn again."""
    while True:
        try:
            return _drawn(rng, numbers, operators, digits)
        except ZeroDivisionError:
            continue


def _drawn(rng: Random, numbers: int, operators: str, digits: int) -> Expression:
    if numbers == 1:
        return number(whole(rng, digits, zero=False))
    left = rng.randint(1, numbers - 1)
    return combine(
        rng.choice(operators),
        _drawn(rng, left, operators, digits),
        _drawn(rng, numbers - left, operators, digits),
    )
