"""A comparison of models kept in the store: as a finding, and its outliers as groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trajstore.errors import GroupError, listed
from trajstore.pipelines.finding_facts import Request, finding_name, group_hashes, name_part, versions
from trajstore.pipelines.groups.added_groups import (
    ADDED,
    NewGroup,
    add_groups,
    of_finding,
    require_groups_free,
    slug,
)
from trajstore.store.files.findings import Replace

if TYPE_CHECKING:
    from trajstore.pipelines.comparison.comparison import Compared, Question
    from trajstore.pipelines.trajectories import Selection
    from trajstore.store.store import Store

KIND = "compare"
"""Of the findings."""


def request(models: Sequence[str], question: Question, selection: Selection) -> Request:
    """The finding of a comparison; its default name has the two models or how many, the step, and the group."""
    who = "-vs-".join(models) if len(models) == 2 else f"{len(models)}-models"
    parts = [who, question.step, *([question.group] if question.group else [])]
    asked = {
        **dataclasses.asdict(question),
        "against": list(question.against),
        "datasets": None if selection.datasets is None else list(selection.datasets),
        "steps": selection.steps,
        "contexts": selection.contexts,
        "align": selection.align,
    }
    name = finding_name([name_part(part, None) for part in parts], [list(models), asked])
    return Request(KIND, name, {"asked": asked, "models": list(models)})


def keep(
    store: Store,
    name: str,
    found: Compared,
    question: Question,
    selection: Selection,
    *,
    replace: Replace = False,
) -> None:
    """Put a comparison into the store as a finding; raises `FindingExists` unless `replace`."""
    facts = _facts(store, found, question, selection)
    with store.add_finding(KIND, name, facts, replace=replace) as writer:
        writer.add("correlations", found.correlations)
        writer.add("outliers", found.outliers)
        writer.add("groups", found.enriched.rename({"group": "group_name"}))
        writer.add("outlier_steps", found.followed)


def _facts(store: Store, found: Compared, question: Question, selection: Selection) -> dict[str, Any]:
    """What a comparison is made of and how."""
    slices = {
        ground.dataset: {
            model: store.slice_facts(model, ground.dataset, ground.step).loss_sha256 for model in found.models
        }
        for ground in found.grounds
    }
    return {
        **request(found.models, question, selection).facts,
        "datasets": {
            ground.dataset: {
                "tokens_sha256": ground.sites.dataset.tokens_sha256,
                "tokens": len(ground.sites.tokens),
                "step": ground.step,
                "steps": list(map(int, ground.steps)),
                "loss_sha256": slices[ground.dataset],
            }
            for ground in found.grounds
        },
        "group_sha256": group_hashes(store, [question.group]).get(question.group or ""),
        "against": [list(each) for each in found.against],
        "versions": versions("numpy", "scipy"),
    }


def group_names(models: Sequence[str], question: Question, prefix: str | None = None) -> dict[str, str]:
    """The name of the group that each of two models wins: PREFIX_A_wins, by default compare_A_B_STEP_A_wins."""
    stem = prefix or _stem(models, question)
    return {model: f"{stem}_{slug(model)}_wins" for model in models}


def _stem(models: Sequence[str], question: Question) -> str:
    return "_".join(["compare", *map(slug, models), question.step])


def check_groups_free(
    store: Store,
    models: Sequence[str],
    question: Question,
    selection: Selection,
    prefix: str | None,
    finding: str,
) -> None:
    """Raise `GroupError` where a group of such a name is there that is not of this finding."""
    of = question.group or "_".join(selection.datasets or ["all"])
    other = f"{prefix or _stem(models, question)}_{slug(of)}"
    require_groups_free(store, group_names(models, question, prefix).values(), other, KIND, finding)


def keep_groups(
    store: Store,
    finding: str,
    found: Compared,
    question: Question,
    prefix: str | None = None,
    *,
    replace: bool = False,
) -> dict[str, int]:
    """Add the outliers as groups of a finding; returns their sizes by name. One without any is not added.

    Raises `GroupError` where a name is taken by other tokens, unless `replace`; then nothing is added.
    """
    names = group_names(found.models, question, prefix)
    if len(set(names.values())) < len(names):
        raise GroupError(f"{listed(found.models)} differ in signs only, so their groups would have one name.")
    a, b = found.models
    at = listed(f"{ground.step} on {ground.dataset}" for ground in found.grounds)
    of = f" of {question.group}" if question.group else ""
    new = []
    for winner, name in names.items():
        sites = found.outliers.filter(winner=winner).select("dataset", "context", "position")
        described = (
            f"Tokens{of} that {winner} wins among the outliers of {a} and {b} at step {at}: of the "
            f"{question.outliers:.3g} of tokens with the largest differences, those on which its loss is lower "
            f"{of_finding(KIND, finding)}. {ADDED}"
        )
        if sites.height:
            new.append(NewGroup(name, sites, described))
    add_groups(store, new, replace=replace)
    return {group.name: group.sites.height for group in new}
