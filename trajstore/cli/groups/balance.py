"""group balance: matched subsets of two groups."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.cli import options
from trajstore.cli.name_lists import complete_groups
from trajstore.cli.output import open_store, print_frame, print_json, say
from trajstore.display import count


def balance(
    first: Annotated[str, typer.Argument(metavar="A", autocompletion=complete_groups, help="A group.")],
    second: Annotated[str, typer.Argument(metavar="B", autocompletion=complete_groups, help="Another.")],
    on: Annotated[
        str, typer.Option(metavar="WHAT", help="position, frequency, or both joined by a comma.")
    ] = "position,frequency",
    position_bins: Annotated[
        int | None,
        typer.Option(min=1, help="Match positions in so many ranges of equal width [default: exactly]."),
    ] = None,
    name_a: Annotated[
        str | None, typer.Option(help="Name of the subset of A [default: A_balanced_with_B].")
    ] = None,
    name_b: Annotated[
        str | None, typer.Option(help="Name of the subset of B [default: B_balanced_with_A].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other tokens.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the subsets in place of groups of their names.")
    ] = False,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Make matched subsets of two groups.

    A comparison of these is not one of places or of rare words.

    In each dataset both subsets have as many tokens at each position and of each frequency (how often the token
    occurs in the dataset: 1, 2-3, 4-7, …), and no more could be kept. Tokens at position 0, which have no loss,
    and those in both groups are left out. The subsets are groups of their own, kept as tables: what A and B
    become later changes nothing.

    \b
    Example:
      trajstore group balance closing_bracket opening_bracket --on position,frequency --position-bins 8
    """
    from trajstore.pipelines.groups.matching import balance_groups

    with open_store(store) as opened:
        made = balance_groups(
            opened,
            first,
            second,
            [feature.strip() for feature in on.split(",")],
            names=(name_a, name_b),
            position_bins=position_bins,
            seed=seed,
            replace=replace,
        )
    if as_json:
        print_json({"groups": made.groups, "names": made.names, "counts": made.counts.to_dicts()})
        return
    print_frame(made.counts)
    say(
        f"Added {made.names[0]} and {made.names[1]}, {count(int(made.counts['kept'].sum()) // 2, 'token')} each."
    )
