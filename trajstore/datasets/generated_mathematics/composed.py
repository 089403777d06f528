"""Composed problems: sentences that give a name to a number or a function by a smaller problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from trajstore.datasets.generated_mathematics.notation import (
    Polynomial,
    combine,
    expression,
    function,
    number,
    polynomial,
    positive,
    product,
    summed,
    whole,
)


def given(rng: Random, value: int, letters: Iterator[str]) -> tuple[str, str]:
    """A fresh name, and the sentence or two from which its value follows."""
    name = next(letters)
    kinds = [
        lambda: _sum(rng, name, value),
        lambda: _equation(rng, name, value),
        lambda: _function_value(rng, name, value, letters),
    ]
    if value >= 0:
        kinds.append(lambda: _remainder(rng, name, value))
    if value >= 1:
        kinds.append(lambda: _divisor(rng, name, value))
    return name, rng.choice(kinds)()


def _sum(rng: Random, name: str, value: int) -> str:
    start = expression(rng, rng.randint(1, 2), "+-*", 2)
    return f"Let {name} = {combine('+', start, number(value - int(start.value))).text}."


def _equation(rng: Random, name: str, value: int) -> str:
    left, right = linear_sides(rng, name, value)
    return f"Suppose {left} = {right}."


def _function_value(rng: Random, name: str, value: int, letters: Iterator[str]) -> str:
    which, argument = next(letters), next(letters)
    coefficients, at = [0, whole(rng, 1), whole(rng, 1, zero=False)], whole(rng, 1)
    coefficients[0] = value - evaluated(coefficients, at)
    return f"{function(which, argument, coefficients)} Let {name} = {which}({at})."


def _remainder(rng: Random, name: str, value: int) -> str:
    divisor = value + positive(rng, 2)
    return f"Let {name} be the remainder when {value + divisor * positive(rng, 1)} is divided by {divisor}."


def _divisor(rng: Random, name: str, value: int) -> str:
    first, second = coprime(rng, 1)
    return f"Let {name} be the greatest common divisor of {value * first} and {value * second}."


def given_function(rng: Random, wanted: Polynomial, argument: str, letters: Iterator[str]) -> tuple[str, str]:
    """A fresh name, and sentences that define it as a combination of two other functions."""
    first, second, name = next(letters), next(letters), next(letters)
    times = rng.choice([-3, -2, 2, 3])
    inner = [whole(rng, 1) for _ in wanted]
    inner[-1] = inner[-1] or 1
    rest = [c - times * part for c, part in zip(wanted, inner, strict=True)]
    combined = summed([f"{second}({argument})", product(times, f"{first}({argument})")])
    sentences = [function(first, argument, inner), function(second, argument, rest)]
    return name, " ".join([*sentences, f"Let {name}({argument}) = {combined}."])


def linear_sides(rng: Random, name: str, solution: int, right: int | None = None) -> tuple[str, str]:
    """The two sides of a linear equation with one solution; its right side is the number `right` if given."""
    while True:
        a, b, c = whole(rng, 2, zero=False), whole(rng, 2), whole(rng, 2)
        if right is not None:
            b, c = right - a * solution, 0
        if a != c:
            break
    return polynomial([b, a], name), polynomial([(a - c) * solution + b, c], name)


def coprime(rng: Random, digits: int) -> tuple[int, int]:
    """Two different positive numbers without a common divisor."""
    while True:
        first, second = positive(rng, digits), positive(rng, digits)
        if first != second and math.gcd(first, second) == 1:
            return first, second


def evaluated(coefficients: Polynomial, at: int) -> int:
    """A polynomial's value."""
    return sum(c * at**exponent for exponent, c in enumerate(coefficients))


def substituted(rng: Random, values: list[int], count: int, letters: Iterator[str]) -> tuple[list[str], str]:
    """Whole numbers as texts, of which `count` at random are names instead, and the sentences that give those."""
    texts, sentences = [str(value) for value in values], []
    for place in sorted(rng.sample(range(len(values)), count)):
        texts[place], sentence = given(rng, values[place], letters)
        sentences.append(sentence)
    return texts, " ".join(sentences)
