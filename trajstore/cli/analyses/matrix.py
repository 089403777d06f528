"""matrix: from losses to arrays; and the options that commands on losses share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments.choices import Align, IntervalKind, MatrixAlign, Missing
from trajstore.cli.name_lists import (
    complete_datasets,
    complete_groups,
    complete_models,
    require_datasets,
    several,
)
from trajstore.cli.output import (
    DEFAULT_STORE,
    StoreOption,
    choice,
    open_store,
    say,
    size,
)
from trajstore.display import count

if TYPE_CHECKING:
    from trajstore.view.charts.chart import Mark

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        callback=several,
        autocompletion=complete_models,
        help="Models or globs; commas join them [default: all].",
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        "-d",
        callback=several,
        autocompletion=complete_datasets,
        help="Datasets; commas join them.",
    ),
]
AnyDatasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        "-d",
        callback=several,
        autocompletion=complete_datasets,
        help="Datasets; commas join them [default: all].",
    ),
]
AnyGroups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        "-g",
        callback=several,
        autocompletion=complete_groups,
        help="Groups; commas join them [default: all].",
    ),
]
Steps = Annotated[
    str,
    typer.Option(
        "--steps", metavar="SPEC", help="all, last, log, numbers, inclusive ranges A:B; commas join."
    ),
]
Contexts = Annotated[
    str | None, typer.Option(metavar="FIRST:END", help="Contexts, as Python slices: 0:50 is the first fifty.")
]
AlignOption = Annotated[
    Align,
    choice(metavar="predict|after", help="The loss of the group's tokens, or of the tokens after them."),
]
CiOption = Annotated[IntervalKind, choice(metavar="bootstrap|none", help="Intervals, or none.")]
MeansCiOption = Annotated[
    IntervalKind,
    choice(
        metavar="bootstrap|studentised|none",
        help="Intervals: percentiles, studentised (wider, for skewed contexts), or none.",
    ),
]
LevelOption = Annotated[float, typer.Option(help="How often an interval should cover.")]
ResamplesOption = Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")]
PlotOption = Annotated[
    Path | None, typer.Option(help="Draw to this file, .png, .pdf, .svg or .html, and print no table.")
]
MarkOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEP=TEXT",
        help="A dashed line where something happened, as 600='mix changes'; may be given again.",
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Put it in the place of a finding of this name.")
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group",
        "-g",
        autocompletion=complete_groups,
        help="Take only this group's tokens: a name, a call such as 'position_is(50)', or 'a & b', 'a | b', 'a - b'.",
    ),
]


def marks(given: Sequence[str] | None) -> list[Mark]:
    """Marks for charts from STEP=TEXT; raises `typer.BadParameter`."""
    from trajstore.view.charts.chart import Mark

    found = []
    for each in given or ():
        step, equals, label = each.partition("=")
        if not equals or not step.strip().isdecimal():
            raise typer.BadParameter(f"{each!r} is not STEP=TEXT, such as 600='training mix changes'")
        found.append(Mark(int(step), label.strip()))
    return found


def matrix(
    out: Annotated[Path, typer.Argument(help="File to write: .npy, .npz, .parquet or .arrow.")],
    dataset: Datasets = None,
    model: Models = None,
    group: GroupOption = None,
    steps: Steps = "all",
    contexts: Contexts = None,
    align: Annotated[
        MatrixAlign,
        choice(
            metavar="predict|after|item",
            help="The loss of the group's tokens, or of the tokens after them; item: the same columns for datasets "
            "of the same items.",
        ),
    ] = "predict",
    pad_first: Annotated[
        bool, typer.Option("--pad-first", help="Give position 0, which has no loss, a column of zeros.")
    ] = False,
    missing: Annotated[Missing, choice(metavar="error|nan", help="What a missing slice is.")] = "error",
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
    from trajstore.store.matrix.export import check_matrix_target, save_matrix

    check_matrix_target(out)
    with open_store(store) as opened:
        datasets = require_datasets(opened, dataset)
        pulled = opened.matrix(datasets, model, group, steps, contexts, missing, align, pad_first)
    files = save_matrix(pulled, out)
    rows, columns = pulled.values.shape
    kind = "checkpoints and datasets" if align == "item" else "checkpoints"
    say(f"Wrote {out}: {rows:,} {kind} × {count(columns, 'token')}, float32, {size(out.stat().st_size)}.")
    say(f"Labels: {', '.join(str(file) for file in files[:-1])}.")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(matrix)
