"""trajectory, matrix, pca: from losses to curves, arrays and components."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.cli.output import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    bars,
    open_store,
    print_json,
    print_rows,
    print_table,
    say,
    size,
)

if TYPE_CHECKING:
    import polars as pl

Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Model or glob, may be given again [default: all].")
]
Datasets = Annotated[list[str], typer.Option("--dataset", "-d", help="Dataset; may be given again.")]
AnyDatasets = Annotated[
    list[str] | None, typer.Option("--dataset", "-d", help="Dataset, may be given again [default: all].")
]
Steps = Annotated[
    str, typer.Option(metavar="SPEC", help="all, last, log, numbers, inclusive ranges A:B; commas join.")
]
Contexts = Annotated[
    str | None, typer.Option(metavar="FIRST:END", help="Contexts, as Python slices: 0:50 is the first fifty.")
]
AlignOption = Annotated[
    str,
    typer.Option(
        metavar="predict|after", help="The loss of the group's tokens, or of the tokens after them."
    ),
]
GroupOption = Annotated[str | None, typer.Option("--group", "-g", help="Take only this group's tokens.")]


def trajectory(
    groups: Annotated[
        list[str], typer.Argument(metavar="GROUP...", help="Groups; see trajstore group list.")
    ],
    model: Models = None,
    dataset: AnyDatasets = None,
    steps: Steps = "all",
    contexts: Contexts = None,
    align: AlignOption = "predict",
    plot: Annotated[Path | None, typer.Option(help="Draw to this file, .png or .html.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Mean loss of groups by step (nats a token), with a 95 % interval over contexts.

    The interval takes contexts, not tokens, as independent.

    \b
    Example:
      trajstore trajectory digits induction_bigram -m 'tiny-*' -d code --plot curves.png
    """
    from trajstore.store.files import check_target
    from trajstore.view import gather
    from trajstore.view.figures import trajectory_chart
    from trajstore.view.save import SUFFIXES, save_chart

    if plot is not None:
        check_target(plot, SUFFIXES)
    with open_store(store) as opened:
        selection = gather.Selection(dataset, model, steps, contexts, align)  # type: ignore[arg-type]
        frame = gather.trajectories(opened, groups, selection, bars())
    print_rows(frame.to_dicts(), as_json)
    if plot is not None:
        save_chart(trajectory_chart(frame), plot)
        say(f"Drew {plot}.")


def matrix(
    out: Annotated[Path, typer.Argument(help="File to write: .npy or .parquet.")],
    dataset: Datasets,
    model: Models = None,
    group: GroupOption = None,
    steps: Steps = "all",
    contexts: Contexts = None,
    align: Annotated[
        str,
        typer.Option(
            metavar="predict|after|item",
            help="The loss of the group's tokens, or of the tokens after them; item: the same columns for datasets "
            "of the same items.",
        ),
    ] = "predict",
    pad_first: Annotated[
        bool, typer.Option("--pad-first", help="Give position 0, which has no loss, a column of zeros.")
    ] = False,
    missing: Annotated[str, typer.Option(metavar="error|nan", help="What a missing slice is.")] = "error",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Export losses as a matrix: rows are checkpoints (model, step), columns tokens (dataset, context, position).

    Labels are written beside it: OUT.rows.parquet and OUT.columns.parquet. With --align item, columns are (item,
    item_position) where each dataset has a loss, and rows (model, step, dataset): for the same problems under two
    prompts.

    \b
    Example:
      trajstore matrix losses.npy -d code -m 'tiny-*' --steps log --contexts 0:50
      trajstore matrix prompts.npy -d dm-zero -d dm-few --align item
    """
    from trajstore.store.export import check_matrix_target, save_matrix

    check_matrix_target(out)
    with open_store(store) as opened:
        pulled = opened.matrix(dataset, model, group, steps, contexts, missing, align, pad_first)  # type: ignore[arg-type]
    files = save_matrix(pulled, out)
    rows, columns = pulled.values.shape
    kind = "checkpoints and datasets" if align == "item" else "checkpoints"
    say(f"Wrote {out}: {rows:,} {kind} × {columns:,} tokens, float32, {size(out.stat().st_size)}.")
    say(f"Labels: {', '.join(str(file) for file in files[:-1])}.")


def pca(
    dataset: Datasets,
    model: Models = None,
    group: GroupOption = None,
    steps: Steps = "all",
    contexts: Contexts = None,
    components: Annotated[int, typer.Option(min=1, help="Components to keep.")] = 10,
    top: Annotated[int, typer.Option(min=1, help="Tokens to show at each end of a component.")] = 5,
    plot: Annotated[Path | None, typer.Option(help="Draw to this file, .png or .html.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Principal components of the losses of all checkpoints together, centred by token, not scaled.

    Prints each component's share of the variance, each checkpoint's scores, and the tokens that load highest and
    lowest.

    \b
    Example:
      trajstore pca -d code -d docs --components 3 --plot components.html
    """
    from trajstore.store.files import check_target
    from trajstore.view import gather
    from trajstore.view.figures import pca_charts
    from trajstore.view.save import SUFFIXES, save_chart

    if plot is not None:
        check_target(plot, SUFFIXES)
    with open_store(store) as opened:
        selection = gather.Selection(models=model, steps=steps, contexts=contexts)
        result, tokens = gather.components(opened, dataset, selection, group, components, top)
    if as_json:
        print_json(
            {
                name: frame.to_dicts()
                for name, frame in (
                    ("variance", result.variance),
                    ("scores", result.scores),
                    ("tokens", tokens),
                )
            }
        )
    else:
        _print_components(result.variance, result.scores, tokens)
    if plot is not None:
        save_chart(pca_charts(result), plot)
        say(f"Drew {plot}.")


def _print_components(variance: pl.DataFrame, scores: pl.DataFrame, tokens: pl.DataFrame) -> None:
    """The three tables of a PCA."""
    import polars as pl

    print_table(
        ["component", "variance (nats²)", "share"],
        [
            [c, v, f"{100 * r:.2f} %"]
            for c, v, r in variance.select("component", "variance", "ratio").iter_rows()
        ],
    )
    typer.echo()
    wide = scores.pivot(on="component", index=["model", "step"], values="score")
    print_table(["model", "step", *(f"PC{name}" for name in wide.columns[2:])], wide.rows())
    typer.echo()
    chosen = tokens.select(
        pl.col("component").alias("PC"),
        pl.col("end").replace({"high": "+", "low": "−"}),
        *("loading", "dataset", "context", "position", "before"),
        pl.format("[{}]", "text").alias("token"),
        "after",
    )
    print_table(chosen.columns, chosen.rows(), right=["before"])


def register(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command()(trajectory)
    app.command()(matrix)
    app.command()(pca)
