"""Measurement: units of length, mass, volume and time, and times of the day."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from trajstore.datasets.generated_mathematics.notation import Text, decimal, finite_decimal, positive

_METRIC = (
    {
        "nanometres": Fraction(1, 10**9),
        "micrometres": Fraction(1, 10**6),
        "millimetres": Fraction(1, 1000),
        "centimetres": Fraction(1, 100),
        "metres": Fraction(1),
        "kilometres": Fraction(1000),
    },
    {
        "micrograms": Fraction(1, 10**6),
        "milligrams": Fraction(1, 1000),
        "grams": Fraction(1),
        "kilograms": Fraction(1000),
        "tonnes": Fraction(10**6),
    },
    {"millilitres": Fraction(1, 1000), "centilitres": Fraction(1, 100), "litres": Fraction(1)},
    {
        "nanoseconds": Fraction(1, 10**9),
        "microseconds": Fraction(1, 10**6),
        "milliseconds": Fraction(1, 1000),
        "seconds": Fraction(1),
    },
)
_CLOCK = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800}

_DAY = 24 * 60


def conversion(rng: Random) -> Text:
    """A measure in another unit: metric ones in decimals, the clock's in fractions."""
    if rng.randint(0, 3):
        units = rng.choice(_METRIC)
        start, end = rng.sample(list(units), 2)
        amount = abs(finite_decimal(rng, 5, 4)) or Fraction(1, 2)
        value = amount * units[start] / units[end]
        return f"How many {end} make {decimal(amount)} {start}?", decimal(value)
    start, end = rng.sample(list(_CLOCK), 2)
    amount = Fraction(positive(rng, 2), rng.choice([1, 2, 3, 4, 5, 6, 8, 10]))
    value = amount * _CLOCK[start] / _CLOCK[end]
    return f"How many {end} make {amount} {start}?", str(value)


def time(rng: Random) -> Text:
    """The minutes between two times of the day, or the time some minutes before or after one."""
    start, minutes = rng.randrange(_DAY), rng.randint(1, 719)
    end = (start + minutes) % _DAY
    kind = rng.choice(["between", "after", "before"])
    if kind == "between":
        return f"How many minutes pass from {_clock(start)} to {_clock(end)}?", str(minutes)
    if kind == "after":
        return f"What time is it {minutes} minutes after {_clock(start)}?", _clock(end)
    return f"What time is it {minutes} minutes before {_clock(end)}?", _clock(start)


def _clock(minute: int) -> str:
    """A minute of the day as people write it: 1:09 PM."""
    hour, rest = divmod(minute, 60)
    return f"{(hour - 1) % 12 + 1}:{rest:02} {'AM' if hour < 12 else 'PM'}"
