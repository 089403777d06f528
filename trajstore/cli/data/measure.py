"""measure list: what can be measured of a checkpoint beside its losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.cli import options
from trajstore.cli.output import print_rows, say

if TYPE_CHECKING:
    from trajstore.measures.definitions import MeasureDefinition


def list_(as_json: options.Json = False) -> None:
    """List the measures, trajstore's own and those that installed packages add.

    \b
    Example:
      trajstore measure list
    """
    from trajstore.arguments.spelling import option
    from trajstore.measures.definitions import available

    measures, problems = available()
    rows = [
        {
            "measure": measure.definition.name,
            "formula": measure.definition.formula,
            "unit": measure.definition.unit,
            "axes": ", ".join(measure.definition.axes),
            "score with": option(*_argument(measure.definition)),
            "package": measure.package,
        }
        for measure in measures
    ]
    print_rows(rows, as_json)
    for problem in problems:
        say(str(problem), needed=True)


def _argument(definition: MeasureDefinition) -> tuple[str, str]:
    """The argument of `score` that asks for a measure, and its value."""
    return (definition.argument, "K") if definition.argument else ("measures", definition.name)


COMMANDS = (list_,)
