"""School mathematics in the 56 categories of DeepMind's mathematics dataset: questions and answers from a seed.

Categories and their names are those of Saxton, Grefenstette, Hill and Kohli (2019), "Analysing Mathematical Reasoning
Abilities of Neural Models"; the generators and their sentences are written anew from what the paper says of them. The
package `mathematics-dataset` (1.0.1, its last version) does not run any more: it imports a name that sympy has moved,
a third of its categories call `numpy.object` or `ndarray.itemset`, which numpy has removed, and it passes floats to
`random.randint`, which Python 3.12 refuses. So these are problems of the same kinds, and not the published ones. As
there, a question has at most 160 characters and an answer at most 30, and what is not rounded by name is exact.

A category's name is AREA__KIND; in those that end in `_composed`, some numbers or functions of the question are given
by smaller problems before it. Only Python's own library draws, and draws the same in each of its versions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from trajstore.arguments import defaults
from trajstore.arguments.choices import Prompting
from trajstore.arguments.spelling import option
from trajstore.datasets.generated_mathematics import (
    algebra,
    arithmetic,
    calculus,
    comparison,
    integers,
    measurement,
    polynomials,
    probability,
)
from trajstore.datasets.generated_mathematics.notation import Text
from trajstore.datasets.problem_sources import GENERATED
from trajstore.datasets.prompts import Problem, prompt_dataset
from trajstore.errors import BadDataset
from trajstore.progress import SILENT

if TYPE_CHECKING:
    from trajstore.progress import Progress
    from trajstore.store.files.datasets import NewDataset, Source

GENERATOR = 1
"""Version of the generators: the same one gives the same problems for a seed."""
LONGEST_QUESTION, LONGEST_ANSWER = 160, 30
"""Characters."""

_AREAS = {
    "algebra": algebra,
    "arithmetic": arithmetic,
    "calculus": calculus,
    "comparison": comparison,
    "measurement": measurement,
    "numbers": integers,
    "polynomials": polynomials,
    "probability": probability,
}
"""Modules, of which each public function makes a problem of the kind that it is named after."""
_MAKERS: dict[str, Callable[[Random], Text]] = {
    f"{area}__{kind}": make
    for area, module in _AREAS.items()
    for kind, make in vars(module).items()
    if inspect.isfunction(make) and make.__module__ == module.__name__ and not kind.startswith("_")
}
CATEGORIES = tuple(sorted(_MAKERS))
"""The 56 names, sorted."""

_TRIES = 100
"""Draws for each problem wanted before a category counts as exhausted."""


def mathematics_dataset(
    tokenizer: str,
    prompting: Prompting,
    *,
    problems: int = 10,
    length: int = defaults.LENGTH,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NewDataset:
    """So many problems of each category as a dataset, zero-shot or few-shot; see `prompt_dataset`.

    The same `problems`, `seed` and tokenizer give both promptings the same items. Raises `BadDataset` and
    `TokenizerNotFound`.
    """
    if problems < 1 or seed < 0:
        raise BadDataset(
            f"{problems} problems with seed {seed}: {option('problems')} is 1 or more, {option('seed')} 0 or more."
        )
    made = [problem for category in CATEGORIES for problem in draw(category, problems, seed)]
    source: Source = {"source": GENERATED, "problems": problems, "seed": seed, "generator": GENERATOR}
    return prompt_dataset(made, tokenizer, prompting, length=length, source=source, progress=progress)


def draw(category: str, count: int = 10, seed: int = 0) -> list[Problem]:
    """Different problems of a category; the same seed gives the same ones, and a larger count adds to the end.

    Raises `BadDataset` where the category has not so many.
    """
    rng = Random(f"{seed} {category}")  # noqa: S311 — draws problems, keeps no secrets
    problems: dict[str, str] = {}
    for _ in range(_TRIES * count):
        if len(problems) == count:
            break
        question, answer = _MAKERS[category](rng)
        if len(question) <= LONGEST_QUESTION and len(answer) <= LONGEST_ANSWER:
            problems.setdefault(question, answer)
    if len(problems) < count:
        raise BadDataset(f"{category} gave {len(problems)} different problems; {count} were asked for.")
    return [Problem(category, question, answer) for question, answer in problems.items()]
