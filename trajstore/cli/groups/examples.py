"""group examples: members of a group in their context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.arguments import defaults
from trajstore.cli import options
from trajstore.cli.name_lists import complete_groups
from trajstore.cli.output import has_colors, open_store, print_json, print_table, say

if TYPE_CHECKING:
    from trajstore.pipelines.token_context import Examples


def examples(
    name: Annotated[str, typer.Argument(autocompletion=complete_groups, help="The group's name.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of tokens to show.")] = defaults.EXAMPLES,
    dataset: Annotated[
        list[str] | None, options.datasets("Datasets or globs; commas join them [default: all].")
    ] = None,
    width: Annotated[
        int, typer.Option(min=0, help="Tokens to show on either side.")
    ] = defaults.EXAMPLE_WIDTH,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other tokens.")] = 0,
    align: options.Align = "predict",
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL[@STEP]", help="Show the tokens' losses at a checkpoint, the last by default."
        ),
    ] = None,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Show tokens of a group in their context.

    They are drawn at random from as many datasets and contexts as can be.

    The token is in brackets, or coloured on a terminal that has colours. Line breaks, tabs and what has no sign
    of its own are made visible. With --align after, the tokens marked are those that follow the group's.

    \b
    Example:
      trajstore group examples induction_bigram -n 5 -d code --loss tiny-2l-seed0@1448
    """
    from trajstore.pipelines.token_context import examples as draw

    with open_store(store) as opened:
        sample = draw(opened, name, n, dataset, width, seed, align, loss)
    if as_json:
        print_json(_as_json(sample))
        return
    _say_sizes(sample)
    if sample.tokens.height:
        _print(sample)


def _say_sizes(sample: Examples) -> None:
    """Print the number of members in each dataset, and what is shown of them."""
    say(": ".join(filter(None, [sample.group, sample.description])))
    if not sample.sizes:
        say("It has no tokens in the datasets asked for.")
        return
    what = "Tokens" if sample.align == "predict" else "Tokens that follow one of the group"
    sizes = ", ".join(f"{size:,} in {dataset}" for dataset, size in sample.sizes.items())
    at = "" if sample.checkpoint is None else "; loss (nats) of {} at step {}".format(*sample.checkpoint)
    say(f"{what}: {sizes}. {sample.tokens.height} drawn at random with seed {sample.seed}{at}:")


def _print(sample: Examples) -> None:
    """A line for each token."""
    from rich.text import Text

    from trajstore.text import shown

    colored = has_colors()
    rows: list[list[Any]] = []
    for token in sample.tokens.iter_rows(named=True):
        before, own, after = (shown(token[part]) for part in ("before", "marked", "after"))
        text = Text.assemble(before, (own, "black on yellow") if colored else f"[{own}]", after)
        loss = [] if sample.checkpoint is None else [token["loss"]]
        rows.append([token["dataset"], token["context"], token["position"], *loss, text])
    named = [] if sample.checkpoint is None else ["loss"]
    print_table(["dataset", "context", "position", *named, "text"], rows)


def _as_json(sample: Examples) -> dict[str, Any]:
    checkpoint = sample.checkpoint and {"model": sample.checkpoint[0], "step": sample.checkpoint[1]}
    return {
        **{name: value for name, value in vars(sample).items() if name != "tokens"},
        "checkpoint": checkpoint,
        "tokens": sample.tokens.to_dicts(),
    }
