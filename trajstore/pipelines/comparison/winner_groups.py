"""The outliers of two models as groups of a store: of tokens that either of them wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajstore.errors import GroupError, listed
from trajstore.pipelines.comparison.result import KIND
from trajstore.pipelines.groups.added_groups import (
    ADDED,
    NewGroup,
    add_groups,
    of_finding,
    require_groups_free,
    slug,
)

if TYPE_CHECKING:
    from trajstore.pipelines.comparison.result import Compared, Question
    from trajstore.store.matrix.selection import Selection
    from trajstore.store.store import Store


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
    compared: Compared,
    question: Question,
    prefix: str | None = None,
    *,
    replace: bool = False,
) -> dict[str, int]:
    """Add the outliers as groups of a finding; returns their sizes by name. One without any is not added.

    Raises `GroupError` where a name is taken by other tokens, unless `replace`; then nothing is added.
    """
    names = group_names(compared.models, question, prefix)
    if len(set(names.values())) < len(names):
        raise GroupError(
            f"{listed(compared.models)} differ in signs only, so their groups would have one name."
        )
    a, b = compared.models
    at = listed(f"{ground.step} on {ground.dataset}" for ground in compared.grounds)
    of = f" of {question.group}" if question.group else ""
    new = []
    for winner, name in names.items():
        sites = compared.outliers.filter(winner=winner).select("dataset", "context", "position")
        described = (
            f"Tokens{of} that {winner} wins among the outliers of {a} and {b} at step {at}: of the "
            f"{question.outliers:.3g} of tokens with the largest differences, those on which its loss is lower "
            f"{of_finding(KIND, finding)}. {ADDED}"
        )
        if sites.height:
            new.append(NewGroup(name, sites, described))
    add_groups(store, new, replace=replace)
    return {group.name: group.sites.height for group in new}
