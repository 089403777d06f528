"""diff steps, models, prompts: what changed between checkpoints, models or prompts, and where most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trajstore.arguments import defaults
from trajstore.cli import options
from trajstore.cli.analyses.matrix import write_matrix
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.name_lists import complete_datasets, complete_models
from trajstore.cli.option_blocks import (
    FindingOptions,
    IntervalOptions,
    OutputOptions,
    SelectionOptions,
    default_name,
    keep,
)
from trajstore.cli.output import bars, print_frame, print_json, print_tokens, say

if TYPE_CHECKING:
    import polars as pl

    from trajstore.pipelines.differences.differences import DifferenceMethod
    from trajstore.pipelines.differences.result import Diff

_OPTIONS = "relative least top missing ci level resamples seed out name replace plot store as_json"


@dataclass(frozen=True)
class _Options(OutputOptions, FindingOptions, IntervalOptions, SelectionOptions):
    """The options of differences."""

    groups: Annotated[
        list[str] | None,
        options.groups(
            "Sum up these groups, or calls such as 'position_is(50)'; commas join them [default: every token]."
        ),
    ] = None
    all_items: Annotated[
        bool,
        typer.Option(
            "--all-items",
            help="Keep items with the same tokens before them in both datasets, whose differences are exactly 0.",
        ),
    ] = False
    relative: Annotated[
        bool,
        typer.Option(
            "--relative",
            help="Divide each difference by the loss that is subtracted (the step before's, A's, ZERO's), or by "
            "--least where that is less.",
        ),
    ] = False
    least: Annotated[
        float, typer.Option(metavar="NATS", help="With --relative: losses below this count as this much.")
    ] = defaults.LEAST
    top: Annotated[
        int, typer.Option(min=0, help="Tokens to show that fell most, and as many that rose most.")
    ] = 5
    missing: options.MissingContexts = "error"
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the matrix of all differences to this file, .npy, .npz, .parquet or .arrow, labels beside it.",
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(**default_name("what is compared, the steps, the groups")),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the means by step to this file, .png, .pdf, .svg or .html, and print no table."
        ),
    ] = None

    @property
    def how(self) -> DifferenceMethod:
        """As the library takes it."""
        from trajstore.analysis.differences import Scale
        from trajstore.pipelines.differences.differences import DifferenceMethod
        from trajstore.pipelines.differences.result import KEPT

        scale = Scale(self.relative, self.least)
        return DifferenceMethod(scale, max(self.top, KEPT), self.interval, self.missing, self.out is not None)


@dataclass_options(steps={"default": "log"})
def steps(
    shared: Annotated[_Options, Only(f"model dataset steps groups contexts align {_OPTIONS}")],
) -> None:
    """Compare the chosen steps, one after another.

    Each minus the one before it among those chosen: below 0, the loss fell.

    Prints the mean difference of each group, with its interval and the shares of its tokens that fell and rose, and
    the tokens that changed most. Where the noise of the losses was measured (score --repeat-noise), smaller changes
    count as neither. Both tables are kept as a finding: diff_groups, and diff_tokens with a thousand tokens at either
    end, in SQL.

    \b
    Example:
      trajstore diff steps -m tiny-2l-seed0 -d docs --steps 362,431,512 -g digits -g stopword
      trajstore diff steps -m 'tiny-*' -d code --steps all -o changes.npy
    """
    _run("steps", (), shared)


@dataclass_options(
    steps={
        "default": "last",
        "help": "Of the steps that both have: all, last, log, numbers, inclusive ranges A:B; commas join.",
    }
)
def models(
    first: Annotated[str, typer.Argument(metavar="A", autocompletion=complete_models, help="A model.")],
    second: Annotated[str, typer.Argument(metavar="B", autocompletion=complete_models, help="Another.")],
    shared: Annotated[_Options, Only(f"dataset steps groups contexts align {_OPTIONS}")],
) -> None:
    """Compare two models at the steps that both have.

    B minus A: below 0, B has the lower loss.

    Prints what diff steps does. How alike the two are is what compare shows.

    \b
    Example:
      trajstore diff models tiny-1l-seed0 tiny-2l-seed0 -d docs --steps log --relative
    """
    _run("models", (first, second), shared)


@dataclass_options(steps={"default": "last"})
def prompts(
    zero: Annotated[str, typer.Argument(metavar="ZERO", autocompletion=complete_datasets, help="A dataset.")],
    few: Annotated[
        str,
        typer.Argument(
            metavar="FEW",
            autocompletion=complete_datasets,
            help="One of the same items under another prompt.",
        ),
    ],
    shared: Annotated[_Options, Only(f"model steps groups all_items {_OPTIONS}")],
) -> None:
    """Compare two prompts, item by item.

    FEW minus ZERO: below 0, the other prompt has the lower loss.

    Only places that have a loss in both datasets: the first token of a context has none. Items with the same tokens
    before them in both, as a few-shot problem without an example, are left out. Prints what diff steps does; tokens are
    shown in their context in FEW.

    \b
    Example:
      trajstore diff prompts dm-zero dm-few -m tiny-2l-seed0 --steps log -g answer
    """
    _run("prompts", (zero, few), shared)


def _run(kind: Literal["steps", "models", "prompts"], between: tuple[str, ...], shared: _Options) -> None:
    """Find the differences, keep and print them, and write what was asked for."""
    from trajstore.analysis.trajectories import Comparison
    from trajstore.pipelines.caveats import caveats, chosen_by_losses
    from trajstore.pipelines.differences.result import DiffOptions, diff_of, request
    from trajstore.store.matrix.export import check_matrix_target
    from trajstore.store.matrix.selection import Selection

    groups = tuple(shared.groups or ())
    diff_options = DiffOptions(kind, between, groups, shared.selection, shared.how, shared.all_items)
    out = shared.out
    if out is not None:
        check_matrix_target(out)
    with shared.open() as store:
        progress = bars()
        chosen = diff_options.chosen(store, progress)
        place = shared.place(request(diff_options, chosen), store)
        result = diff_of(store, diff_options, chosen, progress)
        keep(result, place)
        by_losses = chosen_by_losses(store, chosen.groups, Selection(models=chosen.models), Comparison())
    changes = result.changes.group_by("end", maintain_order=True).head(shared.top)
    if shared.as_json:
        frames = {"summary": result.summary, "changes": changes}
        print_json({"finding": place.name, **{key: frame.to_dicts() for key, frame in frames.items()}})
    elif shared.plot is None and out is None:
        _print(result.summary, changes)
    _say_what_it_is(result, diff_options.how)
    for line in [*caveats(result.summary, diff_options.how.interval), *by_losses]:
        say(line)
    if out is not None and (matrix := result.differences.matrix) is not None:
        write_matrix(matrix, out, ("difference",))
    shared.finish(result, place, "diff_groups")


def _print(summary: pl.DataFrame, changes: pl.DataFrame) -> None:
    """The two tables."""
    shown = [
        *("group", "model", "dataset", "step", "minus_model", "minus_step", "tokens", "contexts"),
        *("mean", "low", "high", "fell", "rose", "noise"),
    ]
    summary = _short(summary.select(shown))
    print_frame(summary)
    if changes.is_empty():
        return
    typer.echo()
    changes = _short(changes)
    columns = ["end", "model", "step", "minus_model", "minus_step", "dataset", "context", "position"]
    columns += ["minus_loss", "loss", "difference", "relative", "in_noise"]
    print_tokens(changes, *(name for name in columns if name in changes.columns))


def _short(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the columns that have no value, or the same as another in every row."""
    empty = [name for name in ("noise", "in_noise") if name in frame.columns and frame[name].is_null().all()]
    same = [f"minus_{name}" for name in ("model", "step") if (frame[f"minus_{name}"] == frame[name]).all()]
    return frame.drop(*empty, *same)


def _say_what_it_is(result: Diff, how: DifferenceMethod) -> None:
    """Say what the numbers are, and beside which noise."""
    if how.scale.relative:
        least = how.scale.least
        say(f"Relative: (loss − minus_loss) / max(minus_loss, {least:g}); mean, low and high are of these.")
    noise = result.summary["noise"]
    if noise.null_count() == len(noise):
        say("The noise of these losses was not measured: trajstore score --repeat-noise K")
    else:
        part = " where it was measured" if noise.null_count() else ""
        say(f"fell and rose count tokens that did by more than the noise (99th percentile){part}.")


COMMANDS = (steps, models, prompts)
