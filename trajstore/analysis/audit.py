"""What is suspicious about the slices of a store: checkpoints that are not what their step says, and mixed origins.

Takes what footers say and how far the losses of a run's steps lie apart (nats), gives findings. That a finding is no
error is for its reader to say: steps 0 and 1 may well be alike. Opens no store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajstore.analysis.placing import Misplaced, out_of_place
from trajstore.errors import runs

if TYPE_CHECKING:
    from trajstore.store.slices import SliceFacts

SAME_WEIGHTS = "same weights"
EQUAL_LOSSES = "equal losses"
OUT_OF_PLACE = "out of place"
KNOWN_BAD = "known bad"
MIXED = "mixed origin"
DAMAGED = "damaged"

_SHOWN = len("sha256:") + 12
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """Something that somebody should look at."""

    finding: str
    """Its kind: same weights, equal losses, out of place, known bad, mixed origin, damaged."""
    model: str
    datasets: tuple[str, ...]
    """On which it shows; sorted."""
    steps: tuple[int, ...]
    """Those that it is about; of a mixed origin, those that are not as most are."""
    what: str


@dataclass(frozen=True)
class Distances:
    """How far the losses of a model's steps on one dataset lie apart."""

    steps: tuple[int, ...]
    """Ascending."""
    apart: np.ndarray
    """Root mean square differences, float64 (steps, steps), nats."""


def audit(
    slices: Sequence[SliceFacts],
    distances: Mapping[tuple[str, str], Distances],
    known_bad: Callable[[SliceFacts], str | None],
) -> list[Finding]:
    """All findings, by model and kind.

    `distances` are by (model, dataset), of the slices that can be compared; `known_bad` says what is said of a slice's
    checkpoint elsewhere, or None. A pair of steps that have the same weights is not named again for its equal losses,
    nor as out of place: the finding itself says which of the two is.
    """
    found: list[Finding] = []
    for model, own in _grouped(slices, lambda each: each.model).items():
        by_dataset = _grouped(own, lambda each: each.dataset)
        weights = _alike(own, lambda each: each.provenance.weights)
        losses = {
            name: [
                group for group in _alike(those, lambda each: each.loss_sha256) if not _within(group, weights)
            ]
            for name, those in by_dataset.items()
        }
        odd = {
            name: out_of_place(on.steps, on.apart, _joined([*weights, *losses[name]], on.steps))
            for name in by_dataset
            if (on := distances.get((model, name))) is not None
        }
        twins = {step for groups in (weights, *losses.values()) for group in groups for step in group}
        found += _same_weights(model, own, weights, odd)
        found += _equal_losses(model, losses, odd)
        found += _out_of_place(model, odd, twins)
        found += _known_bad(model, own, known_bad)
        found += _mixed(model, by_dataset)
    return found


def _grouped(slices: Iterable[SliceFacts], key: Callable[[SliceFacts], str]) -> dict[str, list[SliceFacts]]:
    """Slices by a key, both in order."""
    found: dict[str, list[SliceFacts]] = defaultdict(list)
    for each in sorted(slices, key=lambda one: (one.model, one.dataset, one.step)):
        found[key(each)].append(each)
    return dict(found)


def _alike(slices: Iterable[SliceFacts], key: Callable[[SliceFacts], str | None]) -> list[tuple[int, ...]]:
    """Sets of two steps or more that share a value, each ascending; None is no value."""
    steps: dict[str, set[int]] = defaultdict(set)
    for each in slices:
        if (value := key(each)) is not None:
            steps[value].add(each.step)
    return sorted(tuple(sorted(group)) for group in steps.values() if len(group) > 1)


def _within(group: Sequence[int], others: Iterable[Sequence[int]]) -> bool:
    """Whether one of the other groups has all of the group's steps."""
    return any(set(group) <= set(other) for other in others)


def _joined(groups: Iterable[Sequence[int]], steps: Sequence[int]) -> list[list[int]]:
    """The groups within these steps; those that share a step are one."""
    found: list[set[int]] = []
    for group in groups:
        new = set(group).intersection(steps)
        for other in [each for each in found if each & new]:
            found.remove(other)
            new |= other
        found.append(new)
    return [sorted(group) for group in found if len(group) > 1]


Odd = Mapping[str, Sequence[Misplaced]]
"""Steps that are out of place, by dataset."""


def _same_weights(
    model: str, slices: Sequence[SliceFacts], alike: Sequence[tuple[int, ...]], odd: Odd
) -> Iterable[Finding]:
    for group in alike:
        inside = [each for each in slices if each.step in group]
        weights = next(each.provenance.weights for each in inside if each.provenance.weights)
        what = f"the same weights ({weights[:_SHOWN]}…) under {len(group)} steps{_which(group, odd)}"
        yield Finding(SAME_WEIGHTS, model, tuple(sorted({each.dataset for each in inside})), group, what)


def _equal_losses(model: str, equal: Mapping[str, Sequence[tuple[int, ...]]], odd: Odd) -> Iterable[Finding]:
    on: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for dataset, groups in equal.items():
        for group in groups:
            on[group].append(dataset)
    for group, names in on.items():
        what = f"losses that are equal to the bit under {len(group)} steps{_which(group, odd)}"
        yield Finding(EQUAL_LOSSES, model, tuple(names), group, what)


def _which(group: Sequence[int], odd: Odd) -> str:
    """Which of the steps are out of place, as far as that is seen."""
    wrong = sorted({each.step for those in odd.values() for each in those if each.step in group})
    if not wrong:
        return ""
    return f"; {runs(wrong)} {'is' if len(wrong) == 1 else 'are'} out of place"


def _out_of_place(model: str, odd: Odd, twins: set[int]) -> Iterable[Finding]:
    """One finding a step, with the figures of the dataset that shows it best."""
    steps = sorted({each.step for those in odd.values() for each in those} - twins)
    for step in steps:
        on = {name: each for name, those in odd.items() for each in those if each.step == step}
        clearest = min(on, key=lambda name: on[name].ratio)
        figures = on[clearest]
        what = (
            f"its losses on {clearest} are {figures.far:.2g} nats (root mean square) from those around step "
            f"{figures.like}, but {figures.near:.2g} from its neighbours'"
        )
        yield Finding(OUT_OF_PLACE, model, tuple(sorted(on)), (step,), what)


def _known_bad(
    model: str, slices: Sequence[SliceFacts], known_bad: Callable[[SliceFacts], str | None]
) -> Iterable[Finding]:
    steps: dict[str, list[SliceFacts]] = defaultdict(list)
    for each in slices:
        if reason := known_bad(each):
            steps[reason].append(each)
    for reason, those in steps.items():
        names = tuple(sorted({each.dataset for each in those}))
        yield Finding(KNOWN_BAD, model, names, tuple(sorted({each.step for each in those})), reason)


def _mixed(model: str, by_dataset: Mapping[str, Sequence[SliceFacts]]) -> Iterable[Finding]:
    """What differs between slices that stand side by side; what differs together is one finding."""
    on: dict[tuple[tuple[int, ...], str], list[str]] = defaultdict(list)
    for dataset, slices in by_dataset.items():
        origins = [_origin(each) for each in slices]
        fields: dict[Hashable, list[str]] = defaultdict(list)
        for field in dict.fromkeys(field for origin in origins for field in origin):
            values = [origin.get(field, _UNKNOWN) for origin in origins]
            if len(set(values)) > 1:
                fields[tuple(values.index(value) for value in values)].append(field)
        for differing in fields.values():
            on[_told(slices, origins, differing)].append(dataset)
    for (steps, what), names in on.items():
        yield Finding(MIXED, model, tuple(names), steps, what)


def _told(
    slices: Sequence[SliceFacts], origins: Sequence[Mapping[str, str]], fields: Sequence[str]
) -> tuple[tuple[int, ...], str]:
    """(the steps that are not as most are, which values are where)."""
    values = [", ".join(f"{field} {origin.get(field, _UNKNOWN)}" for field in fields) for origin in origins]
    usual, number = Counter(values).most_common(1)[0]
    steps: dict[str, list[int]] = defaultdict(list)
    for each, value in zip(slices, values, strict=True):
        steps[value].append(each.step)
    others = [f"{value} at {runs(those)}" for value, those in steps.items() if value != usual]
    odd = tuple(sorted(step for value, those in steps.items() if value != usual for step in those))
    return odd, f"{'; '.join(others)}; {usual} at the {number} others"


def _origin(slice_: SliceFacts) -> dict[str, str]:
    """How a slice came about, as far as that can move losses: what must be the same all along a trajectory."""
    origin = slice_.provenance
    fields = {
        "dtype": origin.dtype,
        "vocab": origin.vocab,
        "attention": origin.attention,
        "device": origin.device,
        **origin.versions,
    }
    return {field: value for field, value in fields.items() if value is not None}
