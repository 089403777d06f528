"""The error that models do not have a measure: the command that measures it, or the names that it may stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import option
from trajstore.arguments.suggestions import nearest
from trajstore.errors import NotMeasured, listed

if TYPE_CHECKING:
    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.store.store import Store

_MOST_NAMES = 4
"""Of models in a command; of more any may be named."""


def not_measured(
    store: Store, name: str, models: Sequence[str], datasets: Sequence[str] | None = None
) -> NotMeasured:
    """Return the error that these models have no measure of this name on these datasets."""
    from trajstore.measures.definitions import SETS, available  # a module for each, only where one is missing

    values = store.measures(models)
    names = set(values["name"])
    definitions = {entry.definition.name: entry.definition for entry in available()[0]}
    if elsewhere := values.filter(name=name)["dataset"].drop_nulls().unique().sort().to_list():
        mend = f"It is measured on {listed(elsewhere)}."
        if name in definitions and not definitions[name].on_probe:
            mend += f" {_command(definitions[name], models, datasets)}"
    elif name in SETS:
        mend = f"{name} stands for {listed(SETS[name])}: name one of these."
    elif name in definitions:
        mend = _command(definitions[name], models, datasets)
    else:
        mend = f"{nearest(name, sorted(names | definitions.keys()))} See: trajstore measure list".lstrip()
    return NotMeasured(name, models, sorted(names), mend, datasets)


def _command(definition: MeasureDefinition, models: Sequence[str], datasets: Sequence[str] | None) -> str:
    """Return the command that measures it."""
    from trajstore.measures.definitions import LABELS, REQUIRED

    model = ",".join(models) if len(models) <= _MOST_NAMES else "MODEL"
    dataset = ",".join(datasets or ["D"])
    if definition.argument:
        return f"It comes with scoring: trajstore score MODEL -d {dataset} {option(definition.argument, 'K')}"
    if definition.on_probe:
        return f"Measure it: trajstore measure {definition.name} -m {model} --probe repeats"
    words = [f"trajstore measure {definition.name} -m {model}"]
    words += [f"-d {dataset}"] if definition.on_contexts else []
    required = [name for name, value in definition.parameters.items() if value is REQUIRED and name != LABELS]
    words += [f"-p {name}=VALUE" for name in required]
    return f"Measure it: {' '.join(words)}"
