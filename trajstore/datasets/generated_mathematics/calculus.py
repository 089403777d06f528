"""Calculus: derivatives of polynomials, some with a second variable that stays as it is."""

from __future__ import annotations

from random import Random

from trajstore.datasets.generated_mathematics.composed import given_function
from trajstore.datasets.generated_mathematics.notation import (
    Polynomial,
    Text,
    monomials,
    names,
    polynomial,
    summed,
    whole,
)

_ORDERS = ("first", "second", "third")


def differentiate(rng: Random) -> Text:
    """A derivative of a polynomial in one or two variables."""
    letters = names(rng)
    name, other = next(letters), next(letters)
    order, two = rng.randint(1, 3), rng.randint(0, 1)
    coefficients = {
        (rng.randint(0, 5), rng.randint(0, 2) * two): whole(rng, 2, zero=False)
        for _ in range(rng.randint(2, 4))
    }
    shuffled = monomials(coefficients, name, other)
    rng.shuffle(shuffled)
    for _ in range(order):
        coefficients = {(a - 1, b): a * c for (a, b), c in coefficients.items() if a}
    answer = summed(monomials(coefficients, name, other))
    return f"Find the {_ORDERS[order - 1]} derivative of {summed(shuffled)} with respect to {name}.", answer


def differentiate_composed(rng: Random) -> Text:
    """A derivative of a function that two others make up."""
    letters = names(rng)
    argument, order = next(letters), rng.randint(1, 2)
    degree = rng.randint(order, 4)
    wanted: Polynomial = [*(whole(rng, 2) for _ in range(degree)), whole(rng, 2, zero=False)]
    function, sentences = given_function(rng, wanted, argument, letters)
    question = f"{sentences} Find the {_ORDERS[order - 1]} derivative of {function}({argument})."
    for _ in range(order):
        wanted = [exponent * c for exponent, c in enumerate(wanted)][1:]
    return question, polynomial(wanted, argument)
