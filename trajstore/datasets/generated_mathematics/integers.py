"""Numbers: bases, remainders, divisors and multiples, primes, digits and rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.composed import coprime, substituted
from trajstore.datasets.generated_mathematics.notation import (
    Text,
    bracketed,
    decimal,
    finite_decimal,
    in_base,
    names,
    positive,
    whole,
)

Maker = Callable[[Random], Text]
Asked = Callable[[Random, list[str], tuple[int, ...]], Text]
"""(rng, numbers as texts, their values) to a question about them and its answer."""

_DIGITS = ("units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands", "millions")
_ROUND = ("ten", "hundred", "thousand", "ten thousand", "hundred thousand")
_PLACES = (
    "a whole number",
    "one decimal place",
    "two decimal places",
    "three decimal places",
    "four decimal places",
)


def _both(
    ask: Asked, draw: Callable[[Random, int], tuple[int, ...]], digits: int, composed_digits: int
) -> tuple[Maker, Maker]:
    """A question about numbers drawn with up to `digits` digits; and one of which other problems give some of them."""

    def plain(rng: Random) -> Text:
        values = draw(rng, digits)
        return ask(rng, [str(value) for value in values], values)

    def composed(rng: Random) -> Text:
        values = draw(rng, composed_digits)
        texts, sentences = substituted(rng, list(values), rng.randint(1, len(values)), names(rng))
        question, answer = ask(rng, texts, values)
        return f"{sentences} {question}", answer

    return plain, composed


def base_conversion(rng: Random) -> Text:
    """A number of one base in another."""
    old, new = rng.sample(range(2, 17), 2)
    value = whole(rng, 6)
    return f"In base {old} a number is {in_base(value, old)}. Write it in base {new}.", in_base(value, new)


def _dividend(rng: Random, digits: int) -> tuple[int, int]:
    divisor = positive(rng, digits) + 1
    return divisor * positive(rng, digits) + rng.randrange(divisor), divisor


def _remainder(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    a, b = texts
    question = rng.choice(
        [f"What is left over when {a} is divided by {b}?", f"Divide {a} by {b}. What remains?"]
    )
    return question, str(values[0] % values[1])


div_remainder, div_remainder_composed = _both(_remainder, _dividend, 3, 1)


def _with_common_divisor(rng: Random, digits: int) -> tuple[int, int]:
    (first, second), common = coprime(rng, digits), positive(rng, digits)
    return first * common, second * common


def _gcd(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    word = rng.choice(["divisor", "factor"])
    return f"Which is the greatest common {word} of {texts[0]} and {texts[1]}?", str(math.gcd(*values))


gcd, gcd_composed = _both(_gcd, _with_common_divisor, 3, 1)


def _lcm(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    word = rng.choice(["least", "lowest"])
    return f"Which is the {word} common multiple of {texts[0]} and {texts[1]}?", str(math.lcm(*values))


def lcm(rng: Random) -> Text:
    """A least common multiple, or a common denominator."""
    first, second = _with_common_divisor(rng, 2)
    if first > 1 and second > 1 and rng.randint(0, 1):
        a, b = (_numerator(rng, n) for n in (first, second))
        return f"Which is the least common denominator of {a}/{first} and {b}/{second}?", str(
            math.lcm(first, second)
        )
    return _lcm(rng, [str(first), str(second)], (first, second))


def _numerator(rng: Random, denominator: int) -> int:
    """A number without a common divisor with the denominator."""
    while True:
        number = whole(rng, 2, zero=False)
        if math.gcd(number, denominator) == 1:
            return number


_, lcm_composed = _both(_lcm, _with_common_divisor, 2, 1)


def _perhaps_multiple(rng: Random, digits: int) -> tuple[int, int]:
    divisor = positive(rng, digits) + 1
    return divisor * positive(rng, digits) + rng.choice([0, rng.randrange(divisor)]), divisor


def _factor(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    question = rng.choice([f"Does {texts[1]} divide {texts[0]}?", f"Is {texts[0]} a multiple of {texts[1]}?"])
    return question, str(values[0] % values[1] == 0)


is_factor, is_factor_composed = _both(_factor, _perhaps_multiple, 4, 2)


def _prime_divisors(number: int) -> list[int]:
    """The different prime factors of a number above 0, in ascending order, by trial division."""
    divisors, rest, divisor = [], number, 2
    while divisor * divisor <= rest:
        if rest % divisor == 0:
            divisors.append(divisor)
            while rest % divisor == 0:
                rest //= divisor
        divisor += 1
    return [*divisors, rest] if rest > 1 else divisors


def _perhaps_prime(rng: Random, digits: int) -> tuple[int]:
    """A number above 1, odd if it is large, and as often prime as not."""
    number = positive(rng, digits) + 1
    if rng.randint(0, 1):
        while _prime_divisors(number) != [number]:
            number += 1
    return (number if number < 10 else number | 1,)


def _prime(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    prime = _prime_divisors(values[0]) == [values[0]]
    word, answer = rng.choice([("prime", prime), ("composite", not prime)])
    return f"Is {texts[0]} a {word} number?", str(answer)


is_prime, is_prime_composed = _both(_prime, _perhaps_prime, 7, 4)


def _prime_factors(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    question = rng.choice([f"Which primes divide {texts[0]}?", f"Name the prime factors of {texts[0]}."])
    return question, ", ".join(map(str, _prime_divisors(values[0])))


list_prime_factors, list_prime_factors_composed = _both(
    _prime_factors, lambda rng, digits: (positive(rng, digits) + 1,), 7, 4
)


def _place(rng: Random, texts: list[str], values: tuple[int, ...]) -> Text:
    place = rng.randrange(len(str(values[0])))
    return f"What is the {_DIGITS[place]} digit of {texts[0]}?", str(values[0] // 10**place % 10)


place_value, place_value_composed = _both(_place, lambda rng, digits: (positive(rng, digits),), 7, 4)


def round_number(rng: Random) -> Text:
    """A number rounded to a power of ten; none lies halfway."""
    while True:
        digits = rng.randint(0, 4)
        number = finite_decimal(rng, 8, 7) if rng.randint(0, 1) else Fraction(whole(rng, 7))
        unit = Fraction(1, 10**digits) if number.denominator > 1 else Fraction(10 ** (digits + 1))
        if (number / unit) % 1 != Fraction(1, 2):
            return f"Round {decimal(number)} to {_unit(unit)}.", decimal(round(number / unit) * unit)


def round_number_composed(rng: Random) -> Text:
    """The same of a sum or difference of two decimals."""
    name = next(names(rng))
    while True:
        unit, first, second = (
            Fraction(1, 10 ** rng.randint(0, 2)),
            finite_decimal(rng, 5, 4),
            finite_decimal(rng, 5, 4),
        )
        number = first - second
        if (number / unit) % 1 != Fraction(1, 2):
            sentence = f"Let {name} = {decimal(first)} - {bracketed(decimal(second))}."
            return f"{sentence} Round {name} to {_unit(unit)}.", decimal(round(number / unit) * unit)


def _unit(unit: Fraction) -> str:
    """A power of ten as what one rounds to."""
    if unit > 1:
        return f"the nearest {_ROUND[len(str(unit)) - 2]}"
    return _PLACES[len(str(unit.denominator)) - 1]
