"""compare: how alike models are token by token, where they differ, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments import defaults
from trajstore.cli import options
from trajstore.cli.dataclass_options import dataclass_options
from trajstore.cli.name_lists import complete_models, several
from trajstore.cli.option_blocks import FindingOptions, IntervalOptions, OutputOptions, default_name
from trajstore.cli.output import bars, print_frame, print_json, print_table, print_tokens, say
from trajstore.display import count
from trajstore.errors import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from trajstore.pipelines.comparison.result import Compared
    from trajstore.pipelines.measures.checkpoint_comparison import MeasureComparison
    from trajstore.store.store import Store

_ROWS = 20
"""Values of measures that are printed before only those that differ most are."""


@dataclass_options(
    ci={"metavar": "bootstrap|none", "help": "Intervals, or none."},
    name=default_name(
        "the models or how many, the step, the group; with --measure the checkpoints and the measure"
    ),
    replace={"help": "Put it, and with --keep its groups, in the place of what is there."},
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A B",
            callback=several,
            autocompletion=complete_models,
            help="Two models or more; commas join them, globs take in several. With --measure two, also as MODEL@STEP; "
            "of losses, diff steps compares two steps of a model, and --step two models at one step.",
        ),
    ],
    *,
    dataset: options.AnyDatasets = None,
    step: Annotated[
        str, typer.Option(help="Where outliers are looked for: a step that all models have, or last.")
    ] = "last",
    steps: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Steps to go through, of those that all have: all, last, log, numbers, ranges A:B; commas join.",
        ),
    ] = "log",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL@STEP",
            help="Compare each model at every step with this checkpoint as well; may be given again [default: of two "
            "models, both at their last step].",
        ),
    ] = None,
    group: options.Group = None,
    contexts: options.Contexts = None,
    align: options.Align = "predict",
    outliers: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the tokens that are outliers: the largest |A − B|."),
    ] = defaults.OUTLIERS,
    groups: Annotated[
        bool, typer.Option("--groups/--no-groups", help="Ask which groups are enriched among the outliers.")
    ] = True,
    missing: options.MissingContexts = "error",
    keep: Annotated[
        bool, typer.Option("--keep", help="Add the outliers as groups, compare_A_B_STEP_A_wins and …_B_wins.")
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="With --keep: what the names of its groups begin with, so that those of several datasets or groups "
            "can be kept [default: compare_A_B_STEP]."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Outliers and groups to show of either model.")] = 5,
    measure: Annotated[
        list[str] | None,
        options.measures(
            "Measures of two checkpoints in place of losses, by layer and head; commas join them."
        ),
    ] = None,
    layer: options.Layer = None,
    head: options.Head = None,
    intervals: IntervalOptions,
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Compare models token by token.

    It shows how alike they are, where they differ most, and whether they converge.

    Prints, for the step that was chosen, correlations (of losses, of ranks, and given the log of a token's frequency)
    and distances with intervals over contexts; the correlations at every step, also of each model there with both at
    the end; the tokens that differ most in their context, with the model that wins them (the lower loss); the groups
    that are enriched among these; and what becomes of them at the other steps. Of more than two models, each pair is
    compared, as a matrix and by step. Of several datasets only what is of the chosen step is printed. All of it is
    kept as a finding: compare_correlations, compare_outliers, compare_groups and compare_outlier_steps in SQL.
    With --measure the values of two checkpoints, A's, B's and A − B, with intervals over contexts that are paired
    where there is a value for each, kept as a finding too: compare_measures in SQL.

    \b
    Example:
      trajstore compare tiny-2l-seed0 tiny-2l-seed1 -d docs --step 512 --plot seeds.png
      trajstore compare 'pythia-14m-seed*' -d pile-github --steps all
      trajstore compare tiny-2l-seed0@512 tiny-2l-seed0@last --measure interaction_energy -d docs
    """
    from trajstore.analysis.trajectories import Comparison
    from trajstore.pipelines.caveats import chosen_by_losses
    from trajstore.pipelines.comparison.comparison import compare as find
    from trajstore.pipelines.comparison.comparison import named_models
    from trajstore.pipelines.comparison.result import Question, request
    from trajstore.pipelines.comparison.winner_groups import check_groups_free, keep_groups
    from trajstore.schema import check_group_name
    from trajstore.store.matrix.selection import Selection

    if measure:
        of_losses = (against, group, contexts, keep, prefix, not groups)
        chosen = (align, steps, outliers, missing, top)
        if any(of_losses) or chosen != ("predict", "log", defaults.OUTLIERS, "error", 5):
            raise typer.BadParameter(
                "--measure goes with --dataset, --step, --layer, --head, options of intervals, --name, --replace, "
                "--plot and --json"
            )
        _measures(models, measure, dataset, step, (layer, head), intervals, finding, output)
        return
    if layer is not None or head is not None:
        raise typer.BadParameter("--layer and --head go with --measure")
    if intervals.ci == "studentised":
        raise typer.BadParameter("--ci studentised is of means (trajectory, diff): give bootstrap or none")
    if prefix is not None and check_group_name(prefix) and not keep:
        raise typer.BadParameter("--prefix is of the groups that --keep adds, which is not given")
    question = Question(step, group, tuple(against or ()), outliers, groups, missing, intervals.interval)
    selection = Selection(dataset, None, steps, contexts, align)
    with output.open() as store:
        named = named_models(store, models)
        if keep and len(named) != 2:
            raise typer.BadParameter("--keep takes two models, since outliers are those of two")
        made = request(named, question, selection)
        kept = finding.name or made.default_name
        if keep and not finding.replace:
            check_groups_free(store, named, question, selection, prefix, kept)
        place = finding.place(made, store)
        result = find(store, models, question, selection, bars())
        sizes = keep_groups(store, kept, result, question, prefix, replace=finding.replace) if keep else {}
        result.keep(kept, replace=place.replace)
        shown = _in_context(store, result, top)
        by_losses = chosen_by_losses(
            store, [group] if group else [], Selection(models=result.models), Comparison()
        )
    if output.as_json:
        _print_json(kept, result, shown)
    elif output.plot is None:
        _print(result, shown, top)
    for line in [*_notes(result, question.outliers), *by_losses]:
        say(line)
    for group_name, size in sizes.items():
        say(f"Added the group {group_name}: {count(size, 'token')}.")
    output.finish(result, place, "compare_correlations")


def _measures(
    checkpoints: list[str],
    measures: list[str],
    datasets: list[str] | None,
    step: str,
    place: tuple[int | None, int | None],
    intervals: IntervalOptions,
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Compare measures of two checkpoints, and print, draw and keep them."""
    from trajstore.pipelines.measures.checkpoint_comparison import compare_measures

    layer, head = place
    with output.open() as store:
        result = compare_measures(
            store,
            checkpoints,
            measures,
            datasets,
            step=step,
            layer=layer,
            head=head,
            interval=intervals.interval,
        )
        kept = finding.place(result.request, store)
        result.keep(kept.name, replace=kept.replace)
    if output.as_json:
        print_json(result.frame.to_dicts())
    elif output.plot is None:
        names = ("value", "minus_value")
        shown = result.frame.select(
            "measure", "layer", "head", "dataset", *names, "difference", "low", "high", "contexts"
        ).rename(dict(zip(names, result.sides, strict=True)))
        print_frame(_most_different(shown))
        if shown.height > _ROWS:
            say(
                f"Those of {count(shown.height, 'value')} that differ most; all of them: --json, or the finding."
            )
    for line in _notes_of_measures(result, intervals.ci):
        say(line)
    for line in result.left_out:
        say(f"Left out, as the other checkpoint does not have it so: {line}")
    output.finish(result, kept, "compare_measures")


def _most_different(values: pl.DataFrame) -> pl.DataFrame:
    """Values as they are, or of more than fit on a screen those of each measure that differ most."""
    import polars as pl

    if values.height <= _ROWS:
        return values
    ranked = values.sort(pl.col("difference").abs(), descending=True, maintain_order=True, nulls_last=True)
    of_each = max(1, _ROWS // values["measure"].n_unique())
    return ranked.group_by("measure", maintain_order=True).head(of_each)


def _notes_of_measures(result: MeasureComparison, ci: str) -> list[str]:
    """Say what the difference is, and which measures have no interval for it."""
    import polars as pl

    said = [f"difference: {' minus '.join(result.sides)}."]
    single = result.frame.filter(pl.col("low").is_null(), pl.col("contexts").is_null())
    if ci != "none" and single.height:
        names = listed(single["measure"].unique(maintain_order=True))
        said.append(f"No interval: {names}, of which a checkpoint has one value with no standard error.")
    return said


def _in_context(store: Store, result: Compared, top: int) -> pl.DataFrame:
    """The largest outliers of either winner in their context."""
    import polars as pl

    from trajstore.pipelines.token_context import with_context

    ranked = result.outliers.sort(pl.col("difference").abs(), descending=True, maintain_order=True)
    first = [ranked.filter(winner=winner).head(top) for winner in result.models[:2]]
    return with_context(store, pl.concat(first))


def _print_json(name: str, result: Compared, shown: pl.DataFrame) -> None:
    """All tables as JSON; of the outliers those that a table would show."""
    frames = {
        "correlations": result.correlations,
        "outliers": shown,
        "groups": result.enriched,
        "outlier_steps": result.followed,
    }
    print_json({"finding": name, **{key: frame.to_dicts() for key, frame in frames.items()}})


def _print(result: Compared, shown: pl.DataFrame, top: int) -> None:
    """The tables, each after an empty line but the first; of several datasets those of the chosen step."""
    import polars as pl

    datasets = len(result.grounds)
    if datasets > 1:
        say(
            f"In short, of {datasets} datasets. -d DATASET shows one of them also by step, with what becomes of its "
            "outliers; of all: FROM compare_correlations, FROM compare_outlier_steps."
        )
    if len(result.models) > 2:
        _print_pairs(result, by_step=datasets == 1)
        return
    a, b = result.models
    if datasets > 1:
        _print_datasets(result)
    else:
        _print_statistics(result)
        typer.echo()
        _print_by_step(result)
    if shown.height:
        typer.echo()
        rename = {"loss": f"loss of {a}", "other_loss": f"loss of {b}", "difference": "A − B (nats)"}
        columns = ["winner", "dataset", "step", "context", "position", *rename.values()]
        print_tokens(shown.rename(rename), *columns)
    if result.enriched.height:
        typer.echo()
        most = pl.concat(result.enriched.filter(winner=winner).head(top) for winner in result.models)
        most = most.select(pl.exclude("p", "design_effect"))
        print_frame(most)
    if result.followed.height and datasets == 1:
        typer.echo()
        followed = result.followed.select(
            "winner", "dataset", "step", "tokens", pl.col("mean").alias("A − B (nats)"), "low", "high"
        )
        print_frame(followed)


def _print_statistics(result: Compared) -> None:
    """A row for each statistic at the step of the outliers."""
    names = {
        "pearson": "correlation (Pearson)",
        "spearman": "of ranks (Spearman)",
        "partial": "given log frequency",
        "rms": "root mean square of A − B (nats)",
        "difference": "mean of A − B (nats)",
    }
    rows = []
    for row in result.at_step().iter_rows(named=True):
        for column, said in names.items():
            ends = [row.get(f"{column}_low"), row.get(f"{column}_high")]
            rows.append([row["dataset"], row["step"], row["tokens"], said, row[column], *ends])
    print_table(["dataset", "step", "tokens", "statistic", "value", "low", "high"], rows)


def _print_datasets(result: Compared) -> None:
    """A row for each dataset at the step of the outliers, the one with the largest differences first."""
    names = {
        "pearson": "A ~ B",
        "spearman": "of ranks",
        "partial": "given log frequency",
        "rms": "rms of A − B (nats)",
        "difference": "mean (nats)",
        "difference_low": "low",
        "difference_high": "high",
    }
    ranked = result.at_step().sort("rms", descending=True, maintain_order=True)
    print_frame(ranked.select("dataset", "step", "tokens", *names).rename(names))


def _print_by_step(result: Compared) -> None:
    """A row for each step: A with B there, and each with the checkpoints that all are compared with."""
    import polars as pl

    names = dict(zip(result.models, "AB", strict=True))
    shown = (
        result.of_pairs()
        .select(
            "dataset",
            "step",
            pl.col("pearson").alias("A ~ B"),
            "pearson_low",
            "pearson_high",
            "partial",
            "rms",
        )
        .rename({"pearson_low": "low", "pearson_high": "high", "rms": "rms (nats)"})
    )
    for model, letter in names.items():
        for other, step in dict.fromkeys((other, step) for other, step, _ in result.against):
            column = f"{letter} ~ {names.get(other, other)}@{step}"
            values = result.correlations.filter(model=model, other=other, other_step=step)
            values = values.unique(["dataset", "step"]).select(
                "dataset", "step", pl.col("pearson").alias(column)
            )
            shown = shown.join(values, on=["dataset", "step"], how="left", maintain_order="left")
    print_frame(shown)


def _print_pairs(result: Compared, *, by_step: bool) -> None:
    """Each two models at the step that was chosen, as a matrix; with `by_step` one by one and their spread as well."""
    import polars as pl

    ends = ("", "_low", "_high")
    columns = [f"{name}{end}" for name in ("pearson", "partial", "rms") for end in ends]
    at_step = result.at_step().select("dataset", "step", "model", "other", "spearman", *columns)
    _print_matrix(result.models, at_step)
    if not by_step:
        return
    typer.echo()
    print_frame(at_step)
    typer.echo()
    spread = (
        result.of_pairs()
        .group_by("dataset", "step", maintain_order=True)
        .agg(
            pl.len().alias("pairs"),
            pl.col("pearson").mean().alias("mean pearson"),
            pl.col("pearson").min().alias("lowest"),
            pl.col("pearson").max().alias("highest"),
            pl.col("partial").mean().alias("mean partial"),
            pl.col("rms").mean().alias("mean rms"),
        )
    )
    print_frame(spread)
    if result.against:
        typer.echo()
        _print_against(result)


def _print_matrix(models: Sequence[str], at_step: pl.DataFrame) -> None:
    """Pearson's correlation of each model (row) with each other (column), on each dataset."""
    rows: list[list[object]] = []
    for (dataset, step), pairs in at_step.group_by("dataset", "step", maintain_order=True):
        known = {
            frozenset(names): value for *names, value in pairs.select("model", "other", "pearson").rows()
        }
        rows += [
            [
                dataset,
                step,
                one,
                *(None if one == other else known[frozenset((one, other))] for other in models),
            ]
            for one in models
        ]
    print_table(["dataset", "step", "pearson", *models], rows)


def _print_against(result: Compared) -> None:
    """A row for each model and step, with the correlation with each checkpoint that all are compared with."""
    import polars as pl

    ends = list(dict.fromkeys((other, step) for other, step, _ in result.against))
    columns = [
        pl.col("pearson").filter(other=other, other_step=step).first().alias(f"~ {other}@{step}")
        for other, step in ends
    ]
    rows = result.correlations.group_by("dataset", "step", "model", maintain_order=True).agg(*columns)
    print_frame(rows)


def _notes(result: Compared, share: float) -> list[str]:
    """Say which tokens and checkpoints the numbers are of."""
    said = []
    if len(result.models) == 2:
        a, b = result.models
        said.append(f"A is {a}, B is {b}; A − B below 0: A has the lower loss, and wins.")
    if result.outliers.height:
        wins = [f"{model} wins {result.outliers.filter(winner=model).height:,}" for model in result.models]
        said.append(
            f"Outliers: the {100 * share:.3g} % of tokens with the largest |A − B|; {', '.join(wins)}. They were "
            "chosen at one step, so their difference there is large by the choice as well, and shrinks elsewhere for "
            "that reason too."
        )
    if result.enriched.height:
        said.append(
            "Groups: share of their tokens that are such outliers beside that of the rest; p_adjusted by Holm."
        )
    kinds = result.correlations["interval"].unique()
    if "jackknife" in kinds:
        said.append("Intervals over few contexts are a jackknife's, and may cover less often than they say.")
    return said
