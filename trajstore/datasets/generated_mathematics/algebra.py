"""Algebra: linear equations in one and two unknowns, roots and factors of polynomials, sequences."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.composed import evaluated, given, given_function, linear_sides
from trajstore.datasets.generated_mathematics.notation import (
    Polynomial,
    Text,
    listed,
    names,
    polynomial,
    product,
    summed,
    whole,
)


def linear_1d(rng: Random) -> Text:
    """One unknown."""
    name, solution = next(names(rng)), whole(rng, 2)
    left, right = linear_sides(rng, name, solution)
    return f"{_find(rng, name)} {left} = {right}?", str(solution)


def linear_1d_composed(rng: Random) -> Text:
    """One unknown; the right side is given by another problem."""
    letters = names(rng)
    value, solution = whole(rng, 2), whole(rng, 2)
    known, sentence = given(rng, value, letters)
    name = next(letters)
    left, _ = linear_sides(rng, name, solution, right=value)
    return f"{sentence} {_find(rng, name)} {left} = {known}?", str(solution)


def _find(rng: Random, name: str) -> str:
    return rng.choice([f"For which {name} is", f"Which value of {name} makes"])


def linear_2d(rng: Random) -> Text:
    """Two unknowns, of which one is asked for."""
    letters = names(rng)
    (first, second), rights, letter, solution = _system(rng, letters)
    return f"If {first} = {rights[0]} and {second} = {rights[1]}, what is {letter}?", str(solution)


def linear_2d_composed(rng: Random) -> Text:
    """Two unknowns; one right side is given by another problem."""
    letters = names(rng)
    (first, second), rights, letter, solution = _system(rng, letters, digits=1)
    known, sentence = given(rng, rights[0], letters)
    return f"{sentence} If {first} = {known} and {second} = {rights[1]}, what is {letter}?", str(solution)


def _system(
    rng: Random, letters: Iterator[str], digits: int = 2
) -> tuple[tuple[str, str], tuple[int, int], str, int]:
    """The left and right sides of two equations, the unknown asked for, and its value."""
    one, two = next(letters), next(letters)
    x, y = whole(rng, 2), whole(rng, 2)
    while True:
        a, b, c, d = (whole(rng, digits) for _ in range(4))
        if a * d != b * c:
            break
    lefts = [summed([product(p, n) for p, n in ((u, one), (v, two)) if p]) for u, v in ((a, b), (c, d))]
    letter, value = rng.choice([(one, x), (two, y)])
    return (lefts[0], lefts[1]), (a * x + b * y, c * x + d * y), letter, value


def polynomial_roots(rng: Random) -> Text:
    """Every root, or the factors."""
    name = next(names(rng))
    factors, scale, expanded = _factors(rng)
    if rng.randint(0, 1):
        return f"For which values of {name} is {polynomial(expanded, name)} = 0?", _roots(factors)
    return f"Factorise {polynomial(expanded, name)}.", _factorised(factors, scale, name)


def polynomial_roots_composed(rng: Random) -> Text:
    """The same of a function that two others make up."""
    letters = names(rng)
    argument = next(letters)
    factors, scale, expanded = _factors(rng, degree=2)
    function, sentences = given_function(rng, expanded, argument, letters)
    if rng.randint(0, 1):
        return f"{sentences} For which values of {argument} is {function}({argument}) = 0?", _roots(factors)
    return f"{sentences} Factorise {function}({argument}).", _factorised(factors, scale, argument)


def _factors(rng: Random, degree: int | None = None) -> tuple[list[tuple[int, int]], int, Polynomial]:
    """Linear factors p·x + q in lowest terms with p > 0, a scale, and all of them multiplied."""
    factors = []
    for _ in range(degree or rng.randint(2, 3)):
        root = Fraction(whole(rng, 2), rng.choice([1, 1, 1, 2, 3]))
        factors.append((root.denominator, -root.numerator))
    scale = rng.choice([-2, -1, 1, 1, 2, 3])
    expanded: list[int] = [scale]
    for p, q in factors:
        up, down = [0, *(p * c for c in expanded)], [*(q * c for c in expanded), 0]
        expanded = [a + b for a, b in zip(up, down, strict=True)]
    return sorted(factors, key=lambda factor: Fraction(-factor[1], factor[0])), scale, expanded


def _roots(factors: list[tuple[int, int]]) -> str:
    """Each root once, in ascending order."""
    return listed([str(root) for root in sorted({Fraction(-q, p) for p, q in factors})])


def _factorised(factors: list[tuple[int, int]], scale: int, name: str) -> str:
    """The factors in order of their roots, one that is the name alone first, repeated ones as powers."""
    parts = []
    for factor in sorted(dict.fromkeys(factors), key=lambda factor: factor != (1, 0)):
        p, q = factor
        base = name if (p, q) == (1, 0) else f"({polynomial([q, p], name)})"
        times = factors.count(factor)
        parts.append(base if times == 1 else f"{base}**{times}")
    return product(scale, "*".join(parts))


def sequence_next_term(rng: Random) -> Text:
    """The next term of a sequence that a polynomial makes."""
    rule, shown = _sequence(rng)
    start = ", ".join(str(evaluated(rule, place)) for place in range(1, shown + 1))
    question = rng.choice([f"Which number follows {start}?", f"How does {start} continue?"])
    return question, str(evaluated(rule, shown + 1))


def sequence_nth_term(rng: Random) -> Text:
    """The polynomial that makes a sequence."""
    rule, shown = _sequence(rng)
    name = next(names(rng))
    start = ", ".join(str(evaluated(rule, place)) for place in range(1, shown + 1))
    return f"Give term number {name} of {start}, counted from 1.", polynomial(rule, name)


def _sequence(rng: Random) -> tuple[Polynomial, int]:
    """A polynomial of degree 1 to 3, and how many terms to show: more than would fix it."""
    degree = rng.randint(1, 3)
    rule = [
        whole(rng, 3 - degree // 2),
        *(whole(rng, 2) for _ in range(degree - 1)),
        whole(rng, 1, zero=False),
    ]
    return rule, degree + rng.randint(2, 4)
