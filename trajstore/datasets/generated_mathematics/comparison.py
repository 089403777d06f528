"""Comparison: which of some numbers is nearest, larger, or in which place, and all of them in order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.composed import substituted
from trajstore.datasets.generated_mathematics.notation import (
    Text,
    decimal,
    finite_decimal,
    listed,
    names,
    whole,
)

Written = tuple[str, Fraction]
"""A number as it is written, and its value."""

_PLACES = ("", "second ", "third ", "fourth ")


def _numbers(rng: Random, count: int) -> list[Written]:
    """Different numbers: whole ones, decimals and fractions."""
    spellings: dict[Fraction, str] = {}
    while len(spellings) < count:
        kind = rng.choice(["whole", "whole", "decimal", "fraction"])
        if kind == "fraction":
            value = Fraction(whole(rng, 2), rng.randint(2, 20))
            spellings.setdefault(value, str(value))
        else:
            value = finite_decimal(rng, 4, 3 if kind == "decimal" else 0)
            spellings.setdefault(value, decimal(value))
    return [(text, value) for value, text in spellings.items()]


def _given_numbers(rng: Random, count: int) -> tuple[list[Written], str]:
    """Different whole numbers, one or two of which are names, and the sentences that give those."""
    values: list[int] = []
    while len(values) < count:
        if (value := whole(rng, 2)) not in values:
            values.append(value)
    texts, sentences = substituted(rng, values, rng.randint(1, 2), names(rng))
    return [(text, Fraction(value)) for text, value in zip(texts, values, strict=True)], f"{sentences} "


def closest(rng: Random) -> Text:
    """The nearest of several numbers to one."""
    while True:
        numbers = _numbers(rng, rng.randint(4, 6))
        if _one_is_nearest(numbers):
            return _closest(rng, numbers)


def closest_composed(rng: Random) -> Text:
    """The same with numbers given by other problems."""
    while True:
        numbers, sentences = _given_numbers(rng, rng.randint(4, 5))
        if _one_is_nearest(numbers):
            return _closest(rng, numbers, sentences)


def _one_is_nearest(numbers: Sequence[Written]) -> bool:
    distances = sorted(abs(numbers[0][1] - value) for _, value in numbers[1:])
    return distances[0] < distances[1]


def _closest(rng: Random, numbers: Sequence[Written], sentences: str = "") -> Text:
    (target, value), choices = numbers[0], numbers[1:]
    place = min(range(len(choices)), key=lambda n: abs(value - choices[n][1]))
    if rng.randint(0, 1):
        options = " ".join(f"({'abcdef'[n]}) {text}" for n, (text, _) in enumerate(choices))
        return f"{sentences}Which is nearest to {target}? {options}", "abcdef"[place]
    return f"{sentences}Which of {_listed(choices)} is nearest to {target}?", choices[place][0]


def kth_biggest(rng: Random) -> Text:
    """The number in some place from above or below."""
    return _kth(rng, _numbers(rng, rng.randint(3, 6)))


def kth_biggest_composed(rng: Random) -> Text:
    """The same with numbers given by other problems."""
    return _kth(rng, *_given_numbers(rng, rng.randint(3, 5)))


def _kth(rng: Random, numbers: Sequence[Written], sentences: str = "") -> Text:
    end, falling = rng.choice([("largest", True), ("smallest", False)])
    place = rng.randrange(min(len(numbers), len(_PLACES)))
    ordered = sorted(numbers, key=lambda entry: entry[1], reverse=falling)
    question = f"Which is the {_PLACES[place]}{end} of {_listed(numbers)}?"
    return sentences + question, ordered[place][0]


def pair(rng: Random) -> Text:
    """Two numbers."""
    numbers = _numbers(rng, 2)
    if not rng.randint(0, 3):  # numbers near each other, or one number written twice
        value = finite_decimal(rng, 4, 3)
        near = value + Fraction(rng.randint(-1, 1), 1000)
        numbers = [(decimal(value), value), (str(near), near)]
    return _pair(rng, numbers)


def pair_composed(rng: Random) -> Text:
    """The same with numbers given by other problems."""
    numbers, sentences = _given_numbers(rng, 2)
    return _pair(rng, numbers, sentences)


def _pair(rng: Random, numbers: Sequence[Written], sentences: str = "") -> Text:
    (first, a), (second, b) = numbers
    claims = {
        "larger than": a > b,
        "smaller than": a < b,
        "equal to": a == b,
        "at least": a >= b,
        "at most": a <= b,
    }
    if a != b and rng.randint(0, 1):
        word, chosen = rng.choice([("larger", max), ("smaller", min)])
        value = chosen(a, b)
        return f"{sentences}Which is {word}, {first} or {second}?", first if value == a else second
    claim = rng.choice(list(claims))
    return f"{sentences}Is {first} {claim} {second}?", str(claims[claim])


def sort(rng: Random) -> Text:
    """Several numbers in order."""
    return _sort(rng, _numbers(rng, rng.randint(3, 6)))


def sort_composed(rng: Random) -> Text:
    """The same with numbers given by other problems."""
    return _sort(rng, *_given_numbers(rng, rng.randint(3, 5)))


def _sort(rng: Random, numbers: Sequence[Written], sentences: str = "") -> Text:
    order, falling = rng.choice([("ascending", False), ("descending", True)])
    ordered = sorted(numbers, key=lambda entry: entry[1], reverse=falling)
    question = f"Put {_listed(numbers, ' and ')} in {order} order."
    return sentences + question, listed([text for text, _ in ordered])


def _listed(numbers: Sequence[Written], last: str = ", ") -> str:
    return listed([text for text, _ in numbers], last)
