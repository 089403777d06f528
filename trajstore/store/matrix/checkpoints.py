"""Checkpoints of a matrix's rows: models by name or glob, steps by SPEC, among the slices that are there.

What is named is meant: a model named in full must have losses on the datasets, and each of the steps. Models that a
glob takes in, or that nobody chose, give the rows that they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trajstore.errors import NotScored, UnknownName, UnknownStep, listed
from trajstore.store.matrix.steps import parts, resolve

Scored = Mapping[str, Mapping[str, Sequence[int]]]
"""Steps by dataset by model, of the models meant, in order."""


def named(patterns: str | Sequence[str] | None) -> list[str]:
    """Return the patterns that are names in full and no globs."""
    several = [patterns] if isinstance(patterns, str) else patterns or []
    return [pattern for pattern in several if not any(sign in pattern for sign in "*?[")]


def checkpoints(
    scored: Scored,
    datasets: Sequence[str],
    patterns: str | Sequence[str] | None,
    steps: str | int | Sequence[int],
) -> list[tuple[str, int]]:
    """(model, step) of the rows, in the order of the models; raises `NotScored`, `UnknownStep` or `BadSteps`."""
    existing = {
        model: sorted({step for name in datasets for step in on.get(name, ())})
        for model, on in scored.items()
    }
    kept = {model: on for model, on in existing.items() if on}
    strict = named(patterns)
    lacking = [model for model in existing if model not in kept and model in strict]
    if lacking or not kept:
        raise NotScored(lacking or list(existing), datasets, scored)
    steps_of: dict[str, set[int]] = {model: set() for model in kept}
    where = " on " + ", ".join(datasets)
    for part in parts(steps):
        without = []
        for model, available in kept.items():
            try:
                steps_of[model].update(resolve(part, available, model + where))
            except UnknownStep:
                without.append(model)
        if refused := [model for model in without if model in strict or len(without) == len(kept)]:
            every = [step for model in refused for step in kept[model]]
            hint = "Choose models with -m." if len(without) < len(kept) else ""
            resolve(part, every, listed(refused) + where, hint)
    return [(model, step) for model, chosen in steps_of.items() for step in sorted(chosen)]


def chosen_slices(
    scored: Scored,
    datasets: Sequence[str] | None,
    patterns: str | Sequence[str],
    steps: str | int | Sequence[int],
) -> list[tuple[str, str, int]]:
    """(model, dataset, step) of the slices at these steps on these datasets, all by default.

    A step counts as there where the model has it on one of the datasets. Raises as `checkpoints`, and `UnknownName`.
    """
    known = sorted({name for on in scored.values() for name in on})
    for name in datasets or ():
        if name not in known:
            raise UnknownName(f"dataset with losses of {listed(scored)}", name, known)
    if not known and steps == "all":
        return []
    names = known if datasets is None else list(datasets)
    return [
        (model, name, step)
        for model, step in checkpoints(scored, names, patterns, steps)
        for name in names
        if step in scored[model].get(name, ())
    ]
