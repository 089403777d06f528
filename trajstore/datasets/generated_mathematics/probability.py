"""Probability: letters drawn from a bag without being put back, by how many of each, and in which order."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.notation import LETTERS, Text, listed

_WORDS = {2: "Two", 3: "Three", 4: "Four"}


def _bag(rng: Random) -> tuple[str, list[str], list[str]]:
    """A bag as it is written, its letters, and those of them that are drawn."""
    kinds = rng.sample(LETTERS, rng.randint(2, 5))
    counts = {letter: rng.randint(1, 6) for letter in kinds}
    letters = [letter for letter in kinds for _ in range(counts[letter])]
    rng.shuffle(letters)
    drawn = rng.sample(letters, min(rng.randint(2, 4), len(letters)))
    if rng.randint(0, 1):
        return "".join(letters), letters, drawn
    return "{" + ", ".join(f"{letter}: {count}" for letter, count in counts.items()) + "}", letters, drawn


def swr_p_level_set(rng: Random) -> Text:
    """The probability of so many of each letter."""
    bag, letters, drawn = _bag(rng)
    wanted, available = Counter(drawn), Counter(letters)
    ways = math.prod(math.comb(available[letter], count) for letter, count in wanted.items())
    level = listed([f"{count} {letter}" for letter, count in wanted.items()], " and ")
    return _question(bag, len(drawn), level), str(Fraction(ways, math.comb(len(letters), len(drawn))))


def swr_p_sequence(rng: Random) -> Text:
    """The probability of letters in an order."""
    bag, letters, drawn = _bag(rng)
    left, probability = Counter(letters), Fraction(1)
    for letter in drawn:
        probability *= Fraction(left[letter], left.total())
        left[letter] -= 1
    return _question(bag, len(drawn), f"the sequence {''.join(drawn)}"), str(probability)


def _question(bag: str, count: int, wanted: str) -> str:
    return f"{_WORDS[count]} letters are drawn from {bag} and not put back. How likely is {wanted}?"
