"""trajectory: mean losses by step, differences of them, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.cli import options
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.option_blocks import ComparisonOptions, IntervalOptions, OutputOptions, SelectionOptions
from trajstore.cli.output import bars, print_chart, print_rows, say

if TYPE_CHECKING:
    from trajstore.pipelines.measure_trajectories import MeasureTrajectory
    from trajstore.pipelines.trajectory_result import Trajectory

_DETAILS = ("unit", "units", "interval", "skewness")
"""Columns that are the same all along a curve, which only JSON has."""


@dataclass(frozen=True)
class _TrajectoryOutput(OutputOptions):
    text: Annotated[bool, typer.Option("--text", help="Print small plots instead of the table.")] = False


@dataclass_options()
def trajectory(
    groups: options.Curves = None,
    *,
    selected: Annotated[SelectionOptions, Only("model dataset steps contexts align")],
    compared: ComparisonOptions,
    x: options.Along = "step",
    measure: Annotated[
        list[str] | None,
        options.measures("Measures of the checkpoints in place of groups; commas join them."),
    ] = None,
    layer: options.Layer = None,
    head: options.Head = None,
    intervals: IntervalOptions,
    output: Annotated[_TrajectoryOutput, Only("plot text store as_json")],
) -> None:
    """Show the mean losses of groups, or measures, by step.

    Means are in nats a token, with intervals, as are differences of such means.

    What is resampled is whole contexts; for problems, whole categories; and whole documents where several contexts are
    of one. Fewer than 50 of them get an interval by Student's t. Where a few contexts cost far more than the others, or
    long ones do, such intervals cover too seldom, which is measured and said; --ci studentised covers more. Intervals
    cover the choice of text, not that of a training run's seed. A difference is paired: both means are taken over the
    same contexts, and resampled together.
    The in-context-learning score is position_is(500) minus position_is(50): of the 501st and 51st tokens, as positions
    count from 0. For a study whose code takes loss[500] and loss[50] of losses without the first token's, 501 and 51.

    \b
    Example:
      trajstore trajectory digits induction_bigram -m 'tiny-*' -d code --plot curves.png
      trajstore trajectory 'position_is(100)' --minus 'position_is(20)' -d docs --text
      trajstore trajectory digits -m 'tiny-2l-*' --minus-model tiny-1l-seed0 --by model
      trajstore trajectory --measure prefix_matching --layer 1 -m tiny-2l-seed0 --plot heads.png
      trajstore trajectory --measure interaction_energy -m 'tiny-2l-*' --minus-model tiny-1l-seed0 --x tokens
    """
    from trajstore.pipelines.measure_trajectories import measure_trajectory
    from trajstore.pipelines.training_progress import check_x
    from trajstore.pipelines.trajectory_result import trajectory as compute

    check_x(x)
    if output.text and output.as_json:
        raise typer.BadParameter("give --text or --json, and not both")
    if measure:
        if groups or selected.contexts or selected.align != "predict":
            raise typer.BadParameter("--measure goes with no groups, and neither with --contexts nor --align")
        with output.open() as store:
            measured = measure_trajectory(
                store,
                measure,
                selected.selection,
                layer=layer,
                head=head,
                comparison=compared.comparison,
                x=x,
                interval=intervals.interval,
                progress=bars(),
            )
        _print(measured, output)
        output.draw(measured)
        return
    if not groups:
        raise typer.BadParameter("give groups, or --measure NAME")
    if layer is not None or head is not None:
        raise typer.BadParameter("--layer and --head go with --measure")
    with output.open() as store:
        result = compute(
            store, groups, selected.selection, compared.comparison, intervals.interval, x, bars()
        )
    _print(result, output)
    for line in result.caveats:
        say(line)
    output.draw(result)


def _print(result: Trajectory | MeasureTrajectory, output: _TrajectoryOutput) -> None:
    """Print trajectories as small plots, a table or JSON; nothing where they are drawn to a file."""
    if output.text:
        for chart in result.charts():
            print_chart(chart)
    elif output.as_json or output.plot is None:
        frame = result.frame if output.as_json else result.frame.drop(_DETAILS, strict=False)
        print_rows(frame.to_dicts(), output.as_json)
