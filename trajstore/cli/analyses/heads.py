"""heads kinds: what attention heads became during training."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.arguments import defaults
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.option_blocks import (
    FindingOptions,
    OutputOptions,
    SelectionOptions,
    default_name,
    keep,
    say_kept,
)
from trajstore.cli.output import print_json, print_rows, say
from trajstore.errors import listed


@dataclass_options(name=default_name("the model or how many"))
def kinds(
    *,
    selected: Annotated[SelectionOptions, Only("model dataset steps")],
    apart: Annotated[
        float,
        typer.Option(
            metavar="DISTANCE",
            help="Root mean square distance of the measures of two heads of a cluster, at most.",
        ),
    ] = defaults.APART,
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Kinds of attention heads: clusters of those whose measures took the same course.

    The measures are prefix_matching, previous_token, duplicate_token and bos_attractor, at the steps that all models
    have. A cluster has the name of the ideal that its mean is nearest to at the last step: that of a kind has 1 of
    its measure and 0 of the others, that of none 0 of all. Kept as a finding: head_kinds in SQL.

    \b
    Example:
      trajstore measure heads -m tiny-2l-seed0 --probe repeats
      trajstore heads kinds -m tiny-2l-seed0 --plot kinds.png
    """
    from trajstore.pipelines.measures.head_kinds import head_kinds, request

    with output.open() as store:
        place = finding.place(request(selected.selection, apart), store)
        result = head_kinds(store, selected.selection, apart=apart)
        keep(result, place)
    rows = result.frame.to_dicts()
    if output.as_json:
        print_json({"finding": place.name, "heads": rows})
    elif output.plot is None:
        print_rows(rows, False, result.frame.columns)
    for kind, models in result.left_out.items():
        say(f"{kind} is not looked for: {listed(models)} not measured so.")
    output.draw(result)
    say_kept(place, f"FROM head_kinds WHERE finding = '{place.name}'")


COMMANDS = (kinds,)
