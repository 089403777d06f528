"""spikes: where in training the mean loss rises and falls back, and which tokens follow it or go against it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.arguments import defaults
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.name_lists import complete_models, require_datasets
from trajstore.cli.option_blocks import IntervalOptions, OutputOptions, SelectionOptions, default_name
from trajstore.cli.output import bars, print_frame, print_json, print_table, print_tokens, say

if TYPE_CHECKING:
    import polars as pl

    from trajstore.pipelines.spikes import ClassedSpike, Spikes
    from trajstore.store.store import Store

_GROUPS_SHOWN = 5
_RECALL = (
    "Shares found are lower bounds. Recall is the share found of the tokens that moved by 2.5 times their own noise or "
    "more, estimated from that noise. Corrected is the difference divided by it, where it is 20 % or more."
)


@dataclass_options(
    dataset={"help": "Datasets; commas join them [required]."},
    seed={"help": "Seed of the resampling and of simulated noise."},
)
def spikes(
    model: Annotated[str, typer.Option("--model", "-m", autocompletion=complete_models, help="The model.")],
    *,
    selected: Annotated[SelectionOptions, Only("dataset group steps contexts align")],
    window: Annotated[
        str | None,
        typer.Option(
            metavar="BEFORE:AT:AFTER",
            help="Steps of one spike, instead of looking for spikes [default: look].",
        ),
    ] = None,
    chance: Annotated[
        float,
        typer.Option(help="How often noise between checkpoints alone may make a spike in such a curve."),
    ] = defaults.CHANCE,
    tau: Annotated[
        float | None,
        typer.Option(
            help="Nats by which a token's loss must go beyond those before and after [default: each token's own]."
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            help="Without --tau: share of tokens that noise alone may take beyond their τ upwards, and as many "
            "downwards."
        ),
    ] = defaults.RATE,
    enrich: Annotated[
        bool, typer.Option("--enrich/--no-enrich", help="Look for every group of the store among the tokens.")
    ] = True,
    top: Annotated[int, typer.Option(min=1, help="Inverse tokens to show in context.")] = 10,
    intervals: Annotated[IntervalOptions, Only("level resamples seed")],
    name: Annotated[
        str | None,
        typer.Option(**default_name("the model, the dataset or how many, the group")),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Add the groups spike_STEP_follow and spike_STEP_inverse for each spike."
        ),
    ] = False,
    prefix: Annotated[
        str,
        typer.Option(
            help="With --keep: what the names of its groups begin with, so that those of several models or groups can "
            "be kept."
        ),
    ] = defaults.SPIKE_PREFIX,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put the finding, and with --keep the groups, in place of others."),
    ] = False,
    output: OutputOptions,
) -> None:
    """Find where the mean loss rises and falls back.

    Each token is classed: it follows, it is inverse, or it stays flat.

    A token follows where its loss at the spike is above those before and after by more than τ, and is inverse where it
    is below both by as much. τ is the token's own, from windows of the same length elsewhere in training; those are the
    placebos, in which the same shares are counted. The shares found are lower bounds; beside them are the recall and
    the share corrected by it. The mean must rise higher than noise between checkpoints makes it; where few checkpoints
    or a trend would hide a spike, the answer is that it cannot be told. What is found is kept as a finding, also where
    there is no spike: spikes, spike_shares, spike_tokens and spike_groups in SQL.

    \b
    Example:
      trajstore spikes -m tiny-2l-seed0 -d code -d docs --plot spikes.png
      trajstore spikes -m pythia-70m -d pile-github --window 30000:31000:33000 --keep --name third
    """
    from trajstore.analysis.spikes.tokens import Tolerance
    from trajstore.pipelines.spikes import PREFIX, Search, check_groups_free, keep_groups, not_found, request
    from trajstore.pipelines.spikes import spikes as find
    from trajstore.schema import check_group_name

    if check_group_name(prefix) != PREFIX and not keep:
        raise typer.BadParameter("--prefix is of the groups that --keep adds, which is not given")
    search = Search(_window(window), chance, Tolerance(tau, rate), intervals.interval, enrich)
    with output.open() as store:
        datasets, models = require_datasets(store, selected.dataset), store.models([model])
        selection = dataclasses.replace(selected.selection, datasets=datasets, models=models)
        place = request(selection, search).place(store, name, replace=replace)
        kept = place.name
        if keep and not replace and search.window is not None:
            check_groups_free(store, kept, model, [search.window[1]], prefix)
        result = find(store, selection, search, bars())
        if keep and not replace:
            check_groups_free(store, kept, model, [spike.steps[1] for spike in result.spikes], prefix)
        # The finding comes last, so that the same command goes on where it was cut short.
        added = keep_groups(store, kept, result, prefix, replace=replace) if keep else []
        result.keep(kept, replace=place.replace)
        if output.as_json:
            print_json({"finding": kept, "groups_added": added, **_as_json(store, result, top)})
        elif output.plot is None:
            _print(store, result, top)
    say(_RECALL if result.spikes else not_found(result.facts))
    for group in added:
        say(f"Added the group {group}.")
    output.finish(result, place, "spike_tokens")


def _window(text: str | None) -> tuple[int, int, int] | None:
    """Three steps from BEFORE:AT:AFTER."""
    from trajstore.errors import BadOption

    if text is None:
        return None
    parts = text.split(":")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise BadOption("window", text, "three steps, BEFORE:AT:AFTER")
    before, at, after = (int(part) for part in parts)
    return before, at, after


def _as_json(store: Store, result: Spikes, top: int) -> dict[str, Any]:
    """Spikes, shares, groups and tokens as records."""
    from trajstore.pipelines.spikes import tokens_in_context

    facts: dict[str, Any] = {
        "model": result.model,
        "verdict": result.verdict,
        "spikes": result.heads().to_dicts(),
    }
    facts["power"] = result.facts["power"]
    for key in ("shares", "groups", "tokens"):
        facts[key] = []
    for spike in result.spikes:
        step = {"spike": spike.steps[1]}
        facts["shares"] += [step | row for row in spike.shares.to_dicts()]
        facts["groups"] += [step | row for row in spike.groups.to_dicts()]
        facts["tokens"] += [
            step | row for row in tokens_in_context(store, result, spike, "inverse", top).to_dicts()
        ]
    return facts


def _print(store: Store, result: Spikes, top: int) -> None:
    """The tables of each spike."""
    columns = ["before_step", "at_step", "after_step", "height (nats)", "low", "high", "chance"]
    print_table(columns, result.heads().rows())
    for spike in result.spikes:
        typer.echo()
        _print_shares(spike)
        _print_groups(spike)
        _print_inverse(store, result, spike, top)


def _print_shares(spike: ClassedSpike) -> None:
    """The shares of a spike beside those of its placebos."""
    shares, recalls = [], []
    for name in ("follow", "inverse"):
        of_class = spike.shares.filter(token_class=name)
        one = of_class.filter(window_kind="spike").row(0, named=True)
        placebo = of_class.filter(window_kind="placebo")["share"]
        shares.append(
            [
                spike.steps[1],
                name,
                int(spike.classes.mask(name).sum()),
                _share(one["share"]),
                _ends(one),
                _share(placebo.mean()) if len(placebo) else "",
                _share(placebo.max()) if len(placebo) else "",
                *_of_kind(of_class, "difference"),
            ]
        )
        recall = _of_kind(of_class, "recall", "cannot tell")
        recalls.append([spike.steps[1], name, *recall, *_of_kind(of_class, "corrected", "cannot tell")])
    names = ["spike", "class", "tokens", "share found", "interval", "placebos' mean", "highest"]
    names += ["difference", "interval"]
    print_table(names, shares, right=names[3:])
    typer.echo()
    names = ["spike", "class", "recall", "interval", "corrected", "interval"]
    print_table(names, recalls, right=names[2:])


def _of_kind(of_class: pl.DataFrame, kind: str, without: str = "") -> tuple[str, str]:
    """A share of a class and its interval, where there is one."""
    rows = of_class.filter(window_kind=kind).rows(named=True)
    return (_share(rows[0]["share"]), _ends(rows[0])) if rows else (without, "")


def _share(value: Any) -> str:
    return f"{100 * value:.2f} %"


def _ends(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f"{100 * row['low']:.2f} to {100 * row['high']:.2f}"


def _print_groups(spike: ClassedSpike) -> None:
    """Groups that are more or less frequent among the tokens of a class than elsewhere."""
    import polars as pl

    for name in ("follow", "inverse"):
        enriched = spike.groups.filter(pl.col("token_class") == name, pl.col("p_adjusted") < 0.05).head(
            _GROUPS_SHOWN
        )
        if enriched.height:
            shown = enriched.select(
                "token_class", "group_name", *("tokens", "marked", "ratio", "low", "high", "p_adjusted")
            )
            typer.echo()
            print_frame(shown)


def _print_inverse(store: Store, result: Spikes, spike: ClassedSpike, top: int) -> None:
    """The tokens that go furthest against the spike, in their context."""
    from trajstore.pipelines.spikes import tokens_in_context

    tokens = tokens_in_context(store, result, spike, "inverse", top)
    if tokens.height:
        typer.echo()
        tokens = tokens.rename({"change": "change (nats)", "tau": "τ (nats)"})
        columns = ("dataset", "context", "position", "change (nats)", "τ (nats)")
        print_tokens(tokens, *columns, called="inverse token")
