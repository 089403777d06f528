"""Polynomials: sums, coefficients, like terms, composition, values, products, and powers of one name."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.composed import evaluated, given
from trajstore.datasets.generated_mathematics.notation import (
    Polynomial,
    Text,
    function,
    names,
    polynomial,
    power,
    product,
    summed,
    terms,
    whole,
)


def _drawn(rng: Random, degree: int, digits: int = 1) -> list[int]:
    """A polynomial of that degree."""
    return [*(whole(rng, digits) for _ in range(degree)), whole(rng, digits, zero=False)]


def _add(first: Polynomial, second: Polynomial) -> list[int]:
    length = max(len(first), len(second))
    padded = [[*coefficients, *[0] * (length - len(coefficients))] for coefficients in (first, second)]
    return [a + b for a, b in zip(*padded, strict=True)]


def _multiply(first: Polynomial, second: Polynomial) -> list[int]:
    coefficients = [0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            coefficients[i + j] += a * b
    return coefficients


def add(rng: Random) -> Text:
    """A combination of two functions."""
    letters = names(rng)
    argument, f, g = next(letters), next(letters), next(letters)
    first, second = (_drawn(rng, rng.randint(0, 3), 2) for _ in range(2))
    a, b = (rng.choice([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]) for _ in range(2))
    question = summed([product(a, f"{f}({argument})"), product(b, f"{g}({argument})")])
    answer = _add([a * c for c in first], [b * c for c in second])
    sentences = f"{function(f, argument, first)} {function(g, argument, second)}"
    return f"{sentences} What is {question}?", polynomial(answer, argument)


def coefficient_named(rng: Random) -> Text:
    """One coefficient of a sum, once like terms are together."""
    letters = names(rng)
    name, degree = next(letters), rng.randint(1, 3)
    text, coefficients = _scattered(rng, degree, name, rng.randint(3, 5))
    labels = [next(letters) for _ in range(degree + 1)]
    form = summed([f"{label}*{power(name, e)}" if e else label for e, label in enumerate(labels)][::-1])
    exponent = rng.randint(0, degree)
    return f"Written as {form}, what is {labels[exponent]} in {text}?", str(coefficients[exponent])


def collect(rng: Random) -> Text:
    """Like terms put together."""
    name = next(names(rng))
    text, coefficients = _scattered(rng, rng.randint(1, 3), name, rng.randint(4, 8))
    return f"Put the like terms of {text} together.", polynomial(coefficients, name)


def _scattered(rng: Random, degree: int, name: str, count: int) -> tuple[str, list[int]]:
    """A sum of that many terms in random order, and its coefficients."""
    coefficients, shuffled = [0] * (degree + 1), []
    for _ in range(count):
        exponent, c = rng.randint(0, degree), whole(rng, 2, zero=False)
        coefficients[exponent] += c
        shuffled.append(product(c, power(name, exponent)))
    return summed(shuffled), coefficients


def compose(rng: Random) -> Text:
    """One function in another."""
    letters = names(rng)
    argument, f, g = next(letters), next(letters), next(letters)
    outer, inner = _drawn(rng, rng.randint(1, 2)), _drawn(rng, rng.randint(1, 2))
    answer: list[int] = [0]
    for c in reversed(outer):
        answer = _add(_multiply(answer, inner), [c])
    sentences = f"{function(f, argument, outer)} {function(g, argument, inner)}"
    return f"{sentences} What is {f}({g}({argument}))?", polynomial(answer, argument)


def evaluate(rng: Random) -> Text:
    """A function's value."""
    letters = names(rng)
    sentence, coefficients, f = _function(rng, letters)
    at = whole(rng, 2)
    return f"{sentence} What is {f}({at})?", str(evaluated(coefficients, at))


def evaluate_composed(rng: Random) -> Text:
    """A function's value at a place given by another problem."""
    letters = names(rng)
    sentence, coefficients, f = _function(rng, letters)
    at = whole(rng, 1)
    name, given_by = given(rng, at, letters)
    return f"{sentence} {given_by} What is {f}({name})?", str(evaluated(coefficients, at))


def _function(rng: Random, letters: Iterator[str]) -> tuple[str, list[int], str]:
    """A sentence that defines a function, its coefficients and its name."""
    argument, name, coefficients = next(letters), next(letters), _drawn(rng, rng.randint(1, 3))
    return function(name, argument, coefficients), coefficients, name


def expand(rng: Random) -> Text:
    """A product of sums multiplied out."""
    name = next(names(rng))
    parts, answer = [], [1]
    for _ in range(rng.randint(2, 3)):
        part = _drawn(rng, rng.randint(1, 2))
        written = terms(part, name)
        parts.append(f"({summed(rng.sample(written, len(written)))})")
        answer = _multiply(answer, part)
    return f"Multiply out {'*'.join(parts)}.", polynomial(answer, name)


def simplify_power(rng: Random) -> Text:
    """Powers of one positive name as a single one."""
    name = next(names(rng))
    text, exponent = _powers(rng, name, rng.randint(2, 4))
    if rng.randint(0, 1):
        outer = Fraction(rng.choice([-4, -3, -2, 2, 3, 4, 5]), rng.choice([1, 1, 2, 3]))
        text, exponent = power(f"({text})", outer), exponent * outer
    answer = power(name, exponent) or "1"
    return f"Write {text} as one power of {name}, where {name} is positive.", answer


def _powers(rng: Random, name: str, count: int) -> tuple[str, Fraction]:
    """A product or quotient of that many powers, and the exponent it comes to."""
    if count == 1:
        exponent = Fraction(rng.choice([-3, -2, -1, 1, 1, 1, 2, 3, 4]), rng.choice([1, 1, 1, 2, 3, 5]))
        return power(name, exponent), exponent
    left, right = _powers(rng, name, count - 1), _powers(rng, name, 1)
    if rng.randint(0, 1):
        return f"{left[0]}*{right[0]}", left[1] + right[1]
    return f"{left[0]}/{right[0]}", left[1] - right[1]
