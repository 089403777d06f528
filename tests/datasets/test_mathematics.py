"""Generated problems: each question is read again, by its words alone, and solved by sympy, scipy or Python."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import sympy
from scipy import stats
from sympy.parsing.sympy_parser import parse_expr, rationalize, standard_transformations

from trajstore.datasets import generated_mathematics
from trajstore.datasets.generated_mathematics import CATEGORIES, draw
from trajstore.errors import BadDataset

if TYPE_CHECKING:
    from collections.abc import Callable

Known = dict[str, Any]
"""Names that a question's first sentences give: numbers and functions."""

OF_EACH_AREA = {
    "algebra": 8,
    "arithmetic": 9,
    "calculus": 2,
    "comparison": 8,
    "measurement": 2,
    "numbers": 17,
    "polynomials": 8,
    "probability": 2,
}


def test_there_are_56_categories() -> None:
    assert Counter(name.split("__")[0] for name in CATEGORIES) == OF_EACH_AREA
    assert len(CATEGORIES) == sum(OF_EACH_AREA.values()) == 56
    assert list(CATEGORIES) == sorted(CATEGORIES)
    composed = {name.removesuffix("_composed") for name in CATEGORIES if name.endswith("_composed")}
    assert composed < set(CATEGORIES)  # each has its plain form


def test_a_seed_fixes_the_problems_for_good() -> None:
    digest = hashlib.sha256()
    for category in CATEGORIES:
        for problem in draw(category):
            digest.update(f"{category}\n{problem.text}\n".encode())
    # Whoever changes what is drawn raises GENERATOR with it: stores hold the problems of older ones.
    assert (generated_mathematics.GENERATOR, digest.hexdigest()[:16]) == (1, "ed5546d3482ac2f8")


def test_more_problems_add_to_the_end_and_none_comes_twice() -> None:
    for category in CATEGORIES:
        many = draw(category, 25, seed=3)
        assert draw(category, 10, seed=3) == many[:10]
        assert len({problem.question for problem in many}) == 25
        assert draw(category, 10, seed=4) != many[:10]


def test_an_exhausted_category(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        generated_mathematics._MAKERS, "algebra__linear_1d", lambda rng: (str(rng.randint(1, 4)), "")
    )
    with pytest.raises(BadDataset, match="algebra__linear_1d gave 4 different problems; 5 were asked for"):
        draw("algebra__linear_1d", 5)


def test_limits_and_letters() -> None:
    for category in CATEGORIES:
        for problem in draw(category, 20, seed=1):
            assert len(problem.question) <= 160
            assert 1 <= len(problem.answer) <= 30
            assert problem.text.isascii()
            assert problem.text.count("\n") == 1
            assert not re.search(r"[-+*/] ?[-+*/](?<!\*\*)|  |\(\)", problem.question), problem
            assert problem.question[-1] in "?." or " (a) " in problem.question


# Reading a question


def value(text: str, known: Known | None = None) -> Any:
    """An expression as sympy reads it, exact."""
    return parse_expr(text, dict(known or {}), (*standard_transformations, rationalize))


def given(question: str) -> tuple[Known, str]:
    """Return what the first sentences define, and the last one."""
    *sentences, last = re.split(r"(?<=[.?]) (?=[A-Z])", question)
    known: Known = {}
    for sentence in sentences:
        if found := re.fullmatch(r"Let (\w)\((\w)\) = (.+)\.", sentence):
            known[found[1]] = sympy.Lambda(sympy.Symbol(found[2]), value(found[3], known))
        elif found := re.fullmatch(r"Let (\w) be the remainder when (\d+) is divided by (\d+)\.", sentence):
            known[found[1]] = sympy.Integer(int(found[2]) % int(found[3]))
        elif found := re.fullmatch(r"Let (\w) be the greatest common divisor of (\d+) and (\d+)\.", sentence):
            known[found[1]] = sympy.Integer(math.gcd(int(found[2]), int(found[3])))
        elif found := re.fullmatch(r"Suppose (.+) = (.+)\.", sentence):
            equation = sympy.Eq(value(found[1], known), value(found[2], known))
            (name,) = equation.free_symbols
            ((known[str(name)]),) = sympy.solve(equation, name)
        elif found := re.fullmatch(r"Let (\w) = (.+)\.", sentence):
            known[found[1]] = value(found[2], known)
        else:
            last = f"{sentence} {last}"  # a question of two sentences
    return known, last


def match(pattern: str, text: str) -> re.Match[str]:
    found = re.fullmatch(pattern, text)
    assert found is not None, (pattern, text)
    return found


def listed(text: str) -> list[str]:
    return re.split(r", | and | or ", text)


# One check a kind of problem: (known, last sentence, answer)


def linear_1d(known: Known, asked: str, answer: str) -> None:
    found = match(r"(?:For which (\w) is|Which value of (\w) makes) (.+) = (.+)\?", asked)
    name = sympy.Symbol(found[1] or found[2])
    assert sympy.solve(value(found[3], known) - value(found[4], known), name) == [int(answer)]


def linear_2d(known: Known, asked: str, answer: str) -> None:
    found = match(r"If (.+) = (.+) and (.+) = (.+), what is (\w)\?", asked)
    solution = sympy.solve([value(found[n], known) - value(found[n + 1], known) for n in (1, 3)], dict=True)
    assert [each[sympy.Symbol(found[5])] for each in solution] == [int(answer)]


def polynomial_roots(known: Known, asked: str, answer: str) -> None:
    if found := re.fullmatch(r"Factorise (.+)\.", asked):
        polynomial = value(found[1], known)
        assert sympy.expand(polynomial - value(answer)) == 0
        for factor in re.findall(r"\([^)]+\)|\w+", re.sub(r"\*\*\d", "", answer)):
            whole = sympy.Poly(value(factor), *polynomial.free_symbols)
            assert whole.degree() <= 1
            assert whole.content() == 1 or not whole.degree()
    else:
        found = match(r"For which values of (\w) is (.+) = 0\?", asked)
        roots = sympy.solve(value(found[2], known), sympy.Symbol(found[1]))
        assert [sympy.Rational(root) for root in answer.split(", ")] == sorted(roots)


def sequence_next_term(known: Known, asked: str, answer: str) -> None:
    found = match(r"(?:Which number follows (.+)\?)|(?:How does (.+) continue\?)", asked)
    differences = [int(term) for term in (found[1] or found[2]).split(", ")]
    total = 0
    while any(differences):  # the next one is the sum of each row's last
        assert len(differences) > 1
        total += differences[-1]
        differences = [b - a for a, b in itertools.pairwise(differences)]
    assert differences  # constant before the terms ran out: no other polynomial of that degree fits
    assert total == int(answer)


def sequence_nth_term(known: Known, asked: str, answer: str) -> None:
    found = match(r"Give term number (\w) of (.+), counted from 1\.", asked)
    terms = [int(term) for term in found[2].split(", ")]
    rule = value(answer)
    assert [rule.subs(sympy.Symbol(found[1]), n) for n in range(1, len(terms) + 1)] == terms
    assert sympy.Poly(rule, sympy.Symbol(found[1])).degree() <= len(terms) - 2


def calculation(known: Known, asked: str, answer: str) -> None:
    forms = {
        r"How much is (\S+) divided by (\S+)\?": "({0})/({1})",
        r"How much is (.+)\?": "{0}",
        r"Give the sum of (\S+) and (\S+)\.": "{0} + ({1})",
        r"Give the product of (\S+) and (\S+)\.": "{0}*({1})",
        r"Give the quotient (.+)\.": "{0}",
        r"Take (\S+) away from (\S+)\.": "{1} - ({0})",
        r"Work out (.+)\.": "{0}",
        r"What does (.+) come to\?": "{0}",
    }
    form, found = next((f, m) for p, f in forms.items() if (m := re.fullmatch(p, asked)))
    exact = value(form.format(*found.groups()))
    assert exact == sympy.Rational(answer)
    assert "." in answer or answer == str(exact)


def add_or_sub_in_base(known: Known, asked: str, answer: str) -> None:
    found = match(r"In base (\d+), how much is (-?\w+) ([-+]) \(?(-?\w+)\)?\?", asked)
    base, first, second = int(found[1]), int(found[2], int(found[1])), int(found[4], int(found[1]))
    assert int(answer, base) == (first + second if found[3] == "+" else first - second)


def nearest_integer_root(known: Known, asked: str, answer: str) -> None:
    found = match(r"Which whole number is nearest to the (\w+) root of (\d+)\?", asked)
    degree = {"square": 2, "cube": 3, "fourth": 4, "fifth": 5}[found[1]]
    assert round(sympy.root(int(found[2]), degree).evalf(40)) == int(answer)


def simplify_surd(known: Known, asked: str, answer: str) -> None:
    wanted = value(match(r"Simplify (.+)\.", asked)[1])
    assert sympy.expand(sympy.radsimp(wanted)) == value(answer)
    assert answer.count("sqrt") <= 1
    assert all(str(n) in answer for n in re.findall(r"sqrt\((\d+)\)", str(value(answer))))


def differentiate(known: Known, asked: str, answer: str) -> None:
    found = match(r"Find the (\w+) derivative of (.+?)(?: with respect to (\w))?\.", asked)
    function = value(found[2], known)
    name = sympy.Symbol(found[3] or match(r"\w\((\w)\)", found[2])[1])
    order = {"first": 1, "second": 2, "third": 3}[found[1]]
    assert sympy.expand(sympy.diff(function, name, order) - value(answer)) == 0


def closest(known: Known, asked: str, answer: str) -> None:
    if found := re.fullmatch(r"Which is nearest to (\S+)\? (\(a\) .+)", asked):
        choices = dict(re.findall(r"\((\w)\) (\S+)", found[2]))
        target = found[1]
    else:
        found = match(r"Which of (.+) is nearest to (\S+)\?", asked)
        choices, target = {text: text for text in listed(found[1])}, found[2]
    distance = {each: abs(value(text, known) - value(target, known)) for each, text in choices.items()}
    assert [each for each, far in distance.items() if far == min(distance.values())] == [answer]


def kth_biggest(known: Known, asked: str, answer: str) -> None:
    found = match(r"Which is the (?:(\w+) )?(largest|smallest) of (.+)\?", asked)
    place = {None: 0, "second": 1, "third": 2, "fourth": 3}[found[1]]
    ordered = sorted(listed(found[3]), key=lambda text: value(text, known), reverse=found[2] == "largest")
    assert ordered[place] == answer


def pair(known: Known, asked: str, answer: str) -> None:
    if found := re.fullmatch(r"Which is (larger|smaller), (\S+) or (\S+)\?", asked):
        best = (max if found[1] == "larger" else min)(found[2], found[3], key=lambda text: value(text, known))
        assert best == answer
        return
    found = match(r"Is (\S+) (larger than|smaller than|equal to|at least|at most) (\S+)\?", asked)
    a, b = value(found[1], known), value(found[3], known)
    truth = {
        "larger than": a > b,
        "smaller than": a < b,
        "equal to": a == b,
        "at least": a >= b,
        "at most": a <= b,
    }
    assert answer == str(bool(truth[found[2]]))


def sort(known: Known, asked: str, answer: str) -> None:
    found = match(r"Put (.+) in (ascending|descending) order\.", asked)
    numbers = listed(found[1])
    falling = found[2] == "descending"
    assert answer.split(", ") == sorted(numbers, key=lambda text: value(text, known), reverse=falling)


def unit(name: str) -> Fraction:
    """A unit in grams, metres, litres or seconds."""
    clock = {"minutes": {"minutes": 1}, "hours": {"hours": 1}, "days": {"days": 1}, "weeks": {"weeks": 1}}
    if name in clock:
        return Fraction(int(timedelta(**clock[name]).total_seconds()))
    powers = {"nano": -9, "micro": -6, "milli": -3, "centi": -2, "kilo": 3}
    prefix = next((prefix for prefix in powers if name.startswith(prefix)), "")
    if name == "tonnes":
        return Fraction(1000 * 1000)
    assert name.removeprefix(prefix) in ("grams", "metres", "litres", "seconds")
    return Fraction(10) ** powers.get(prefix, 0)


def conversion(known: Known, asked: str, answer: str) -> None:
    found = match(r"How many (\w+) make (\S+) (\w+)\?", asked)
    assert Fraction(answer) == Fraction(found[2]) * unit(found[3]) / unit(found[1])


def time(known: Known, asked: str, answer: str) -> None:
    def clock(text: str) -> datetime:
        return datetime.strptime(text, "%I:%M %p")

    if found := re.fullmatch(r"How many minutes pass from (.+) to (.+)\?", asked):
        assert (clock(found[2]) - clock(found[1])) % timedelta(days=1) == timedelta(minutes=int(answer))
        return
    found = match(r"What time is it (\d+) minutes (before|after) (.+)\?", asked)
    away = timedelta(minutes=int(found[1])) * (1 if found[2] == "after" else -1)
    assert (clock(found[3]) + away).time() == clock(answer).time()


def base_conversion(known: Known, asked: str, answer: str) -> None:
    found = match(r"In base (\d+) a number is (\S+)\. Write it in base (\d+)\.", asked)
    assert int(found[2], int(found[1])) == int(answer, int(found[3]))


def numbers(pattern: str, of: Callable[..., object]) -> Callable[[Known, str, str], None]:
    """A check of an answer that Python computes from the numbers in the question."""

    def check(known: Known, asked: str, answer: str) -> None:
        found = match(pattern, asked)
        exact = [int(value(text, known)) for text in found.groups() if text is not None]
        assert str(of(*exact)) == answer

    return check


def is_factor(known: Known, asked: str, answer: str) -> None:
    if found := re.fullmatch(r"Is (\S+) a multiple of (\S+)\?", asked):
        number, divisor = found[1], found[2]
    else:
        found = match(r"Does (\S+) divide (\S+)\?", asked)
        divisor, number = found[1], found[2]
    assert answer == str(value(number, known) % value(divisor, known) == 0)


def is_prime(known: Known, asked: str, answer: str) -> None:
    found = match(r"Is (\S+) a (prime|composite) number\?", asked)
    number = value(found[1], known)
    assert number > 1
    assert answer == str(sympy.isprime(number) == (found[2] == "prime"))


def lcm(known: Known, asked: str, answer: str) -> None:
    if found := re.fullmatch(r"Which is the least common denominator of (\S+) and (\S+)\?", asked):
        assert sympy.Rational(answer) == sympy.ilcm(*(sympy.Rational(found[n]).q for n in (1, 2)))
    else:
        found = match(r"Which is the (?:least|lowest) common multiple of (\S+) and (\S+)\?", asked)
        assert sympy.ilcm(value(found[1], known), value(found[2], known)) == int(answer)


def place_value(known: Known, asked: str, answer: str) -> None:
    found = match(r"What is the (.+) digit of (\S+)\?", asked)
    place = ["units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands", "millions"]
    assert str(value(found[2], known))[-1 - place.index(found[1])] == answer


def round_number(known: Known, asked: str, answer: str) -> None:
    found = match(r"Round (\S+) to (.+)\.", asked)
    number = value(found[1], known)
    exact = Decimal(int(number.p)) / Decimal(int(number.q))
    places = {"a whole number": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    nearest = {"ten": 1, "hundred": 2, "thousand": 3, "ten thousand": 4, "hundred thousand": 5}
    if found[2].startswith("the nearest "):
        rounded = exact.quantize(Decimal(1).scaleb(nearest[found[2].removeprefix("the nearest ")]))
    else:
        rounded = round(exact, places[re.sub(r" decimal places?", "", found[2])])
    assert Decimal(answer) == rounded


def same_polynomial(pattern: str) -> Callable[[Known, str, str], None]:
    """A check of an answer that is equal to an expression in the question, and has one term a power."""

    def check(known: Known, asked: str, answer: str) -> None:
        wanted = sympy.expand(value(match(pattern, asked)[1], known))
        assert sympy.expand(wanted - value(answer)) == 0
        assert len(re.split(r" [-+] ", answer)) == len(sympy.Add.make_args(wanted))

    return check


def coefficient_named(known: Known, asked: str, answer: str) -> None:
    found = match(r"Written as (.+), what is (\w) in (.+)\?", asked)
    expression = value(found[3])
    (name,) = expression.free_symbols or {sympy.Symbol("none")}
    labels = re.findall(r"(\w)(?:\*(\w)(?:\*\*(\d))?)?(?: \+ |$)", found[1])
    (exponent,) = [int(e or 1) if n else 0 for label, n, e in labels if label == found[2]]
    assert sympy.Poly(expression, name).coeff_monomial(name**exponent) == int(answer)


def simplify_power(known: Known, asked: str, answer: str) -> None:
    found = match(r"Write (.+) as one power of (\w), where (\w) is positive\.", asked)
    positive = {found[2]: sympy.Symbol(found[2], positive=True)}
    assert found[2] == found[3]
    assert sympy.powsimp(value(found[1], positive), force=True) == value(answer, positive)


def bag(asked: str) -> tuple[Counter[str], int, str]:
    found = match(
        r"(Two|Three|Four) letters are drawn from (.+) and not put back\. How likely is (.+)\?", asked
    )
    letters = found[2]
    there = Counter(letters)
    if letters.startswith("{"):
        there = Counter({letter: int(n) for letter, n in re.findall(r"(\w): (\d)", letters)})
    return there, {"Two": 2, "Three": 3, "Four": 4}[found[1]], found[3]


def likely(there: Counter[str], wanted: Counter[str]) -> float:
    """The probability of so many of each letter."""
    drawn = stats.multivariate_hypergeom(list(there.values()), wanted.total())
    return float(drawn.pmf([wanted[letter] for letter in there]))


def swr_p_level_set(known: Known, asked: str, answer: str) -> None:
    there, count, level = bag(asked)
    wanted = Counter({letter: int(n) for n, letter in re.findall(r"(\d) (\w)", level)})
    assert wanted.total() == count
    assert float(Fraction(answer)) == pytest.approx(likely(there, wanted), rel=1e-9)


def swr_p_sequence(known: Known, asked: str, answer: str) -> None:
    there, count, sequence = bag(asked)
    wanted = Counter(match(r"the sequence (\w+)", sequence)[1])
    assert wanted.total() == count
    orders = math.factorial(count) / math.prod(map(math.factorial, wanted.values()))
    assert float(Fraction(answer)) == pytest.approx(likely(there, wanted) / orders, rel=1e-9)


CHECKS: dict[str, Callable[[Known, str, str], None]] = {
    "linear_1d": linear_1d,
    "linear_2d": linear_2d,
    "polynomial_roots": polynomial_roots,
    "sequence_next_term": sequence_next_term,
    "sequence_nth_term": sequence_nth_term,
    **dict.fromkeys(
        ("add_or_sub", "add_sub_multiple", "div", "mixed", "mul", "mul_div_multiple"), calculation
    ),
    "add_or_sub_in_base": add_or_sub_in_base,
    "nearest_integer_root": nearest_integer_root,
    "simplify_surd": simplify_surd,
    "differentiate": differentiate,
    "closest": closest,
    "kth_biggest": kth_biggest,
    "pair": pair,
    "sort": sort,
    "conversion": conversion,
    "time": time,
    "base_conversion": base_conversion,
    "div_remainder": numbers(
        r"(?:What is left over when |Divide )(\S+)(?: is divided)? by (\S+?)(?:\?|\. What remains\?)",
        lambda a, b: a % b,
    ),
    "gcd": numbers(r"Which is the greatest common (?:divisor|factor) of (\S+) and (\S+)\?", math.gcd),
    "is_factor": is_factor,
    "is_prime": is_prime,
    "lcm": lcm,
    "list_prime_factors": numbers(
        r"(?:Which primes divide |Name the prime factors of )(\S+)[?.]",
        lambda n: ", ".join(map(str, sympy.primefactors(n))),
    ),
    "place_value": place_value,
    "round_number": round_number,
    "add": same_polynomial(r"What is (.+)\?"),
    "coefficient_named": coefficient_named,
    "collect": same_polynomial(r"Put the like terms of (.+) together\."),
    "compose": same_polynomial(r"What is (.+)\?"),
    "evaluate": same_polynomial(r"What is (.+)\?"),
    "expand": same_polynomial(r"Multiply out (.+)\."),
    "simplify_power": simplify_power,
    "swr_p_level_set": swr_p_level_set,
    "swr_p_sequence": swr_p_sequence,
}


def solved(category: str, count: int, seed: int) -> None:
    """Check so many problems; a composed one must define something first."""
    kind = category.split("__")[1]
    for problem in draw(category, count, seed):
        known, asked = given(problem.question)
        assert bool(known) == (kind.endswith("_composed") or kind in ("add", "compose", "evaluate")), problem
        try:
            CHECKS[kind.removesuffix("_composed")](known, asked, problem.answer)
        except Exception as error:
            raise AssertionError(problem) from error


@pytest.mark.parametrize("category", CATEGORIES)
def test_answers(category: str) -> None:
    solved(category, 10, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("category", CATEGORIES)
def test_many_answers(category: str) -> None:
    solved(category, 150, seed=7)
