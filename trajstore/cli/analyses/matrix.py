"""matrix: from losses to arrays; and the options that commands on losses share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments.choices import MatrixAlign, Missing
from trajstore.cli import options
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.name_lists import require_datasets
from trajstore.cli.option_blocks import SelectionOptions
from trajstore.cli.output import open_store, say, size
from trajstore.display import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.store.matrix.export import Labelled


@dataclass_options(dataset={"help": "Datasets; commas join them [required, but for --measure]."})
def matrix(
    out: Annotated[Path, typer.Argument(help="File to write: .npy, .npz, .parquet or .arrow.")],
    *,
    selected: Annotated[SelectionOptions, Only("dataset model group steps contexts")],
    align: Annotated[
        MatrixAlign,
        options.choice(
            metavar="predict|after|item",
            help="The loss of the group's tokens, or of the tokens after them; item: the same columns for datasets "
            "of the same items.",
        ),
    ] = "predict",
    measure: Annotated[
        list[str] | None,
        options.measures(
            "Measures of the checkpoints in place of losses: columns are layers and heads; commas join them."
        ),
    ] = None,
    pad_first: Annotated[
        bool, typer.Option("--pad-first", help="Give position 0, which has no loss, a column of zeros.")
    ] = False,
    missing: Annotated[
        Missing,
        options.choice(
            metavar="error|nan",
            help="Where a slice is not there: stop (error), or NaN (nan).",
        ),
    ] = "error",
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Export losses or measures as a matrix.

    Rows are checkpoints (model, step), columns tokens (dataset, context, position).

    Labels are written beside it: OUT.rows.parquet and OUT.columns.parquet. With --align item, columns are (item,
    item_position) where each dataset has a loss, and rows (model, step, dataset): for the same problems under two
    prompts.

    \b
    Example:
      trajstore matrix losses.npy -d code -m 'tiny-*' --steps log --contexts 0:50
      trajstore matrix prompts.npy -d dm-zero -d dm-few --align item
      trajstore matrix heads.npy --measure prefix_matching -m 'tiny-*'
    """
    from trajstore.store.matrix.export import check_matrix_target

    check_matrix_target(out)
    if measure:
        if selected.group or selected.contexts or pad_first or align != "predict":
            raise typer.BadParameter("--measure goes with --model, --dataset, --steps and --missing")
        from trajstore.pipelines.measure_trajectories import measure_matrix

        with open_store(store) as opened:
            measured = measure_matrix(opened, measure, selected.selection, missing=missing)
        write_matrix(measured, out, ("checkpoint",), "value", "measures")
        return
    with open_store(store) as opened:
        datasets = require_datasets(opened, selected.dataset)
        pulled = opened.matrix(
            datasets,
            selected.model,
            selected.group,
            selected.steps,
            selected.contexts,
            missing,
            align,
            pad_first,
        )
    items = ("checkpoint and dataset", "checkpoints and datasets")
    write_matrix(pulled, out, items if align == "item" else ("checkpoint",))


def write_matrix(
    matrix: Labelled, out: Path, row: Sequence[str], column: str = "token", called: str = "losses"
) -> None:
    """Write a matrix and its labels, and say so; `row` and `column` are what they are called, as in `count`."""
    from trajstore.store.matrix.export import save_matrix

    *labels, _ = save_matrix(matrix, out, called)
    rows, columns = matrix.values.shape
    shape = f"{count(rows, *row)} × {count(columns, column)}"
    say(f"Wrote {out}: {shape}, float32, {size(out.stat().st_size)}.")
    say(f"Labels: {', '.join(map(str, labels))}.")
