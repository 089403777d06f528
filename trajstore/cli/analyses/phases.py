"""phases: when curves over training change, turn, fall and rise fastest, and when induction forms."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.arguments import defaults
from trajstore.cli import options
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.option_blocks import (
    ComparisonOptions,
    FindingOptions,
    IntervalOptions,
    OutputOptions,
    SelectionOptions,
    default_name,
    keep,
)
from trajstore.cli.output import bars, print_frame, print_json, say


@dataclass_options(
    seed={"help": "Seed of the resampling and of simulated noise."},
    name=default_name("what is looked at"),
)
def phases(
    groups: options.Curves = None,
    *,
    selected: Annotated[SelectionOptions, Only("model dataset steps contexts align")],
    compared: ComparisonOptions,
    measure: Annotated[
        list[str] | None,
        options.measures("Measures of the checkpoints, beside groups or in their place; commas join them."),
    ] = None,
    induction: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Look for the induction bump: where the in-context-learning score falls fastest while the loss on "
            "these repeated tokens does.",
        ),
    ] = None,
    late: Annotated[
        str,
        typer.Option(
            metavar="GROUP",
            help="With --induction: the late tokens, whose mean loss less that of --early is the in-context-learning "
            "score.",
        ),
    ] = defaults.LATE,
    early: Annotated[
        str,
        typer.Option(metavar="GROUP", help="With --induction: the early tokens, see --late."),
    ] = defaults.EARLY,
    changes: Annotated[
        int, typer.Option(min=0, help="Change points to look for in a curve, at most.")
    ] = defaults.CHANGES,
    intervals: Annotated[IntervalOptions, Only("level resamples seed")],
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Find events of training in curves of losses or measures.

    The curves are of groups, of differences and of measures; one table has all models and seeds.

    Where the course over log step changes, where a curve turns, where it falls and rises fastest, and with --induction
    when the in-context-learning score and the loss on repeated tokens fall together. Each has an interval of steps,
    from resampling whole contexts (and for a change noise between checkpoints), that is never narrower than the
    neighbouring checkpoints. Changes (kinks and jumps) and turns are told from a smooth course with noise: of flat
    curves, power laws, offset power laws and wide sigmoids with noise of ρ 0 to 0.8 between checkpoints, at most 10 %
    have any. Kept as a finding: events in SQL.

    \b
    Example:
      trajstore phases digits stopword -m 'tiny-*' -d code --plot phases.png
      trajstore phases --induction repeated_half --late 'position_is(100)' --early 'position_is(20)' -d repeats
      trajstore phases --measure prefix_matching,previous_token -m tiny-2l-seed0
    """
    from trajstore.analysis.phases.change_points import FALSE_ALARMS, PROMISE
    from trajstore.pipelines.phases import CurveOptions, Induction, request
    from trajstore.pipelines.phases import phases as find

    if not (groups or measure or induction):
        raise typer.BadParameter("give groups, --measure NAME or --induction GROUP")
    curves = CurveOptions(
        tuple(dict.fromkeys(groups or ())),
        tuple(dict.fromkeys(measure or ())),
        Induction(induction, late, early) if induction else None,
        selected.selection,
        compared.comparison,
        intervals.interval,
        changes,
    )
    with output.open() as store:
        place = finding.place(request(curves), store)
        result = find(store, **vars(curves), progress=bars())
        keep(result, place)
    if output.as_json:
        print_json(
            {
                "finding": place.name,
                "events": result.frame.to_dicts(),
                "false_alarms": {"share": FALSE_ALARMS, "meaning": PROMISE},
            }
        )
    elif output.plot is None:
        print_frame(result.frame)
    if groups or measure:
        say(PROMISE)
    for of_model, on in result.without:
        say(f"No induction bump in {of_model} on {on}.")
    output.finish(result, place, "events")
