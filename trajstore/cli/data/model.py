"""model list, show, rename: the models that a store has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli import options
from trajstore.cli.name_lists import complete_models
from trajstore.cli.output import bars, open_store, print_facts, print_json, print_rows, print_table, say, size
from trajstore.display import count
from trajstore.errors import UnknownName, listed

if TYPE_CHECKING:
    from trajstore.store.model_summaries import ModelMentions, ModelSummary
    from trajstore.store.store import Store

Name = Annotated[str, typer.Argument(autocompletion=complete_models, help="The model's name.")]


def list_(store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """List the models with their facts, steps and size.

    Steps are by dataset, and the size is on disk; models without losses, or without facts, are listed too.

    \b
    Example:
      trajstore model list
    """
    with open_store(store) as opened:
        rows = [_row(summary, as_json) for summary in opened.model_summaries()]
    columns = ["model", "family", "n_params", "n_layer", "seed", "datasets", "steps", "first", "last", "size"]
    print_rows(rows, as_json, columns)


def _row(summary: ModelSummary, as_json: bool) -> dict[str, Any]:
    """A model's line."""
    steps, facts = summary.steps, summary.facts
    numbers = {name: len(scored) for name, scored in summary.datasets.items()}
    return {
        "model": summary.model,
        "family": facts.family,
        "n_params": facts.n_params,
        "n_layer": facts.n_layer,
        "seed": facts.seed,
        "datasets": numbers if as_json else ", ".join(f"{name} ({n})" for name, n in numbers.items()),
        "steps": len(steps),
        "first": steps[0] if steps else None,
        "last": steps[-1] if steps else None,
        **({"bytes": summary.bytes} if as_json else {"size": size(summary.bytes)}),
    }


def show(name: Name, store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """Show a model's facts, steps and measures.

    It also lists the models, findings and groups that name it.

    \b
    Example:
      trajstore model show tiny-2l-seed0
    """
    from trajstore.store.files import coverage

    with open_store(store) as opened:
        if name not in (known := coverage.model_names(opened.path)):
            raise UnknownName("model", name, known, "See them all: trajstore model list")
        made = opened.model(name)
        lines = [line for line in coverage.of_model(opened.path, name) if line.steps]
        measured, mentions = _measured(opened, name), opened.model_mentions(name)
    facts = (
        {key: value for key, value in vars(made).items() if value is not None} if made else {"model": name}
    )
    findings = [f"{kind} {finding}" for kind, finding in mentions.findings]
    named = {"children": mentions.children, "findings": findings, "groups": mentions.groups}
    if as_json:
        print_json({**facts, "coverage": list(map(vars, lines)), "measures": measured, **named})
        return
    summary = {**facts, **{key: ", ".join(names) for key, names in named.items() if names}}
    print_facts(summary)
    rows = [
        [line.dataset, len(line.steps), line.steps[0], line.steps[-1], len(line.missing), len(line.partial)]
        for line in lines
    ]
    print_table(["dataset", "steps", "first", "last", "missing", "partial"], rows)
    if measured:
        print_rows(measured, False)


def _measured(store: Store, name: str) -> list[dict[str, Any]]:
    """Count the steps and values of each measure of a model, on each dataset."""
    import polars as pl

    from trajstore.store.files import measures

    frame = measures.frame(store.path, [name]).group_by("name", "dataset")
    counts = frame.agg(pl.col("step").n_unique().alias("steps"), pl.len().alias("values"))
    return counts.sort("name", "dataset").rename({"name": "measure"}).to_dicts()


def rename(
    old: Annotated[str, typer.Argument(autocompletion=complete_models, help="The model's name now.")],
    new: Annotated[str, typer.Argument(help="Its name from now on.")],
    yes: options.Yes = False,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Rename a model, after asking.

    Its facts, losses and measures go with it; children name their parent anew.

    No job may be scoring it meanwhile; afterwards score it with --name NEW. Findings and groups stay as they are:
    those that name the old model are listed. If this is cut short, the same command does the rest.

    \b
    Example:
      trajstore model rename tiny-2l-seed0 tiny-2l-first
    """
    from trajstore.store import rename as renaming
    from trajstore.store.files import coverage

    with open_store(store) as opened:
        renaming.require_possible(opened.path, old, new)
        mentions = opened.model_mentions(old)
        _say_what_stays(old, mentions, needed=not yes)
        if not yes:
            names = coverage.dataset_names(opened.path, old)
            slices = count(sum(len(opened.steps(old, dataset)) for dataset in names), "slice")
            also = f" and the parent of {listed(mentions.children)}" if mentions.children else ""
            typer.confirm(f"Rename {old} to {new} ({slices}){also}?", abort=True, err=True)
        done = opened.rename_model(old, new, bars())
    for path in done.damaged:
        say(
            f"Warning: {path} is damaged and still has the name {old} in it: trajstore check --deep",
            needed=True,
        )
    if done.left:
        say(
            f"Warning: {count(done.left, 'slice')} came under {old} meanwhile, so a job is scoring it. Stop it, and "
            f"remove them: trajstore drop -m {old}",
            needed=True,
        )
    say(f"Renamed {old} to {new}.")


def _say_what_stays(old: str, mentions: ModelMentions, *, needed: bool) -> None:
    """Name the findings and groups that go on naming the model as it was."""
    if mentions.findings:
        names = listed(f"{kind} {name}" for kind, name in mentions.findings)
        say(f"Findings that go on naming {old}, as they were made: {names}", needed=needed)
    if mentions.groups:
        say(f"Groups whose SQL names {old}, to be given anew: {listed(mentions.groups)}", needed=needed)


COMMANDS = (list_, show, rename)
