"""shapes: which form each token's loss follows over log step, and when it is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli import options
from trajstore.cli.dataclass_options import dataclass_options
from trajstore.cli.name_lists import require_datasets
from trajstore.cli.option_blocks import FindingOptions, OutputOptions, default_name, keep
from trajstore.cli.output import bars, print_json, print_table, say

if TYPE_CHECKING:
    import polars as pl


@dataclass_options(name=default_name("the dataset or how many, the group or how many"))
def shapes(
    *,
    dataset: Annotated[list[str] | None, options.datasets("Datasets; commas join them [required].")] = None,
    model: options.Models = None,
    group: Annotated[
        list[str] | None,
        options.groups("Take only the tokens of these groups, with shares for each; commas join them."),
    ] = None,
    steps: options.Steps = "all",
    contexts: options.Contexts = None,
    align: options.Align = "predict",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the tokens that noise is told from, and of simulated noise.")
    ] = 0,
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Tell the shape of each token's loss over log step.

    It is constant, line, power law, sigmoid, step, a turn, or other.

    All forms are fitted to each token, under noise that is correlated from checkpoint to checkpoint, and the one of
    lowest BIC is taken; where another is within 6 of it, or it leaves more than short-range noise, the shape is
    undecided. Sigmoid and step are S-shaped; a power law may be flat at first, and may have a late drop; two changes
    are other. Prints the share of each shape by model, medians of when and by how much losses change, and for several
    models whether they agree. A shape, midpoint, width, drop and more of every token are kept as a finding: shapes in
    SQL.

    \b
    Example:
      trajstore shapes -m 'tiny-2l-*' -d code -d docs --name first --plot shapes.png
      trajstore shapes -m tiny-2l-seed0 -d code -g stopword -g digits
    """
    from trajstore.pipelines.shapes import ShapeOptions
    from trajstore.pipelines.shapes import shapes as fit
    from trajstore.store.matrix.selection import Selection

    with output.open() as store:
        datasets = require_datasets(store, dataset)
        selection = Selection(datasets, model, steps, contexts, align)
        question = ShapeOptions.of(datasets, selection, group or (), seed)
        place = finding.place(question.request, store)
        result = fit(store, selection, group or (), seed, bars())
        keep(result, place)
        shares, pairs = result.shares(), result.agreement()
        if output.as_json:
            print_json({"finding": place.name, "shares": shares.to_dicts(), "agreement": pairs.to_dicts()})
        elif output.plot is None:
            _print(shares, pairs)
        for absent in [name for name in question.groups if name not in shares["group"]]:
            say(f"{absent} has no token with a loss in {', '.join(question.datasets)}, and is left out.")
        output.finish(result, place, "shapes")


def _print(shares: pl.DataFrame, pairs: pl.DataFrame) -> None:
    """Shares, medians, and agreement."""
    from trajstore.analysis.shapes.shapes import SHAPES

    columns = ["S-shaped", *(shape.replace("_", " ") for shape in SHAPES)]
    rows = [
        [
            row["group"],
            row["model"],
            row["tokens"],
            *(_percent(row[column]) for column in ("s_shaped", *SHAPES)),
        ]
        for row in shares.iter_rows(named=True)
    ]
    print_table(["group", "model", "tokens", *columns], rows, right=columns)
    typer.echo()
    medians = ["midpoint", "width", "fall", "acquired", "final", "forgetting", "variability"]
    units = ["", " (doublings)", " (nats)", "", " (nats)", " (nats)", " (nats)"]
    heads = [median + unit for median, unit in zip(medians, units, strict=True)]
    rows = [
        [row["group"], row["model"], *(_three(row[column]) for column in medians)]
        for row in shares.iter_rows(named=True)
    ]
    print_table(["group", "model", *heads], rows, right=heads)
    if pairs.height:
        typer.echo()
        heads = ["agreement", "kappa", "S agreement", "S in both", "correlation", "distance (doublings)"]
        rows = [
            [a, b, tokens, _percent(same), _three(kappa), _percent(s_same), both, *map(_three, rest)]
            for a, b, tokens, same, kappa, s_same, both, *rest in pairs.iter_rows()
        ]
        print_table(["a", "b", "tokens", *heads], rows, right=heads)


def _percent(share: Any) -> str:
    return "" if share is None else f"{100 * share:.3g} %"


def _three(value: Any) -> str:
    """Three digits, of which whole numbers keep all."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
