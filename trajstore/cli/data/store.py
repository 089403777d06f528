"""init, migrate, rebuild, status, check, drop: the store itself."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.cli import options
from trajstore.cli.output import Exit, bars, open_store, print_json, print_rows, say, size
from trajstore.display import count
from trajstore.errors import listed


def init(store: options.Store = options.DEFAULT_STORE) -> None:
    """Make a store: Parquet slices and a small DuckDB catalog.

    In a store that lost its catalog, make that anew from the files; an existing store is left as it is.

    \b
    Example:
      trajstore init -s runs/pythia
    """
    from trajstore.schema import CATALOG
    from trajstore.store.store import Store

    existed = (store / CATALOG).exists()
    with Store.create(store) as made:
        say(f"There is a store at {made.path} already." if existed else f"Made a store at {made.path}.")


def migrate(
    store: options.Store = options.DEFAULT_STORE,
    only_list: Annotated[
        bool, typer.Option("--list", help="Show what was applied and what is pending; change nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Bring the catalog of an older store up to this version.

    \b
    Example:
      trajstore migrate --list
    """
    from trajstore.store.lifecycle import migrate_store, migrations

    if not only_list:
        done = migrate_store(store)
        say(f"Applied: {', '.join(done)}." if done else "No pending migrations: the store is up to date.")
        return
    lines = [
        {
            "migration": line.name,
            "state": "applied" if line.applied_at else "pending",
            "applied_at (UTC)": line.applied_at,
        }
        for line in migrations(store)
    ]
    print_rows(lines, as_json)


def status(store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """Show the steps of each model, and which are missing.

    It shows the steps on each dataset, and the size on disk.

    Missing are steps that the model has on another dataset of this store; partial are slices with some contexts only.

    \b
    Example:
      trajstore status -s runs/pythia
    """
    with open_store(store) as opened:
        lines = opened.coverage()
        path, groups, datasets = opened.path, len(opened.groups.names()), opened.dataset_names()
    if as_json:
        print_json([vars(line) for line in lines])
        return
    models = count(len({line.model for line in lines}), "model")
    say(f"{path}: {models}, {count(len(datasets), 'dataset')}, {count(groups, 'group')}")
    if lines and (measured := sorted(set(datasets) - {line.dataset for line in lines})):
        say(f"Without losses, for measures alone: {listed(measured)}.")
    rows = [
        {
            "model": line.model,
            "dataset": line.dataset,
            "steps": len(line.steps),
            "first": line.steps[0] if line.steps else None,
            "last": line.steps[-1] if line.steps else None,
            "missing": len(line.missing),
            "missing steps": _few(line.missing),
            "partial": len(line.partial),
            "size": size(line.bytes),
        }
        for line in lines
    ]
    if not any(line.steps for line in lines):
        first = "" if datasets else "add a dataset (trajstore dataset add), then "
        say(f"No losses yet: {first}score a model (trajstore score MODEL --dataset D).")
    print_rows(
        rows,
        False,
        ["model", "dataset", "steps", "first", "last", "missing", "missing steps", "partial", "size"],
    )


def _few(steps: list[int]) -> str:
    """The first steps of a list."""
    return ", ".join(map(str, steps[:6])) + (", …" if len(steps) > 6 else "")


def check(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte: hashes, and the checks in SQL.")
    ] = False,
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine", help="Move damaged slices to STORE/damaged, so that score makes them again."
        ),
    ] = False,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Check that a store is what was written.

    The exit code is 1 if it is not.

    Quick: paths, footers, row counts, stray files, links, the catalog's views. With --deep also the digest of every
    file and the hash of its losses, which find any flipped bit.

    \b
    Example:
      trajstore check --deep --quarantine
    """
    from trajstore.store import checks

    with open_store(store) as opened:
        problems = checks.check(opened, deep=deep, progress=bars())
        moved = checks.quarantine(opened, problems) if quarantine else []
    print_rows([vars(problem) for problem in problems], as_json, ["path", "what", "mend"])
    for path in moved:
        say(f"Moved to {path}.")
    if problems:
        say(f"{count(len(problems), 'problem')}.", needed=True)
        raise typer.Exit(Exit.FAILED)
    say(
        "Everything is as it was written."
        if deep
        else "Nothing is wrong on the face of it; --deep reads every byte."
    )


def rebuild(store: options.Store = options.DEFAULT_STORE) -> None:
    """Make the catalog anew from the store's files.

    For one that is lost or damaged.

    Losses, tokens and groups lie in files of their own and stay as they are.

    \b
    Example:
      trajstore rebuild -s runs/pythia
    """
    from trajstore.store import lifecycle

    say(f"Made the catalog of {lifecycle.rebuild(store)} anew.")


def drop(
    model: Annotated[list[str], options.models("Models or globs whose losses go; commas join them.")],
    dataset: Annotated[
        list[str] | None, options.datasets("Only those on these datasets; commas join them.")
    ] = None,
    steps: Annotated[str, typer.Option(metavar="SPEC", help="Only these steps.")] = "all",
    yes: options.Yes = False,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Remove losses, and the measures of them, for good.

    Shows what would go, and asks. Datasets and groups stay.

    \b
    Example:
      trajstore drop -m tiny-1l-seed0 -d docs --steps 0:64
      trajstore drop -m 'tiny-2l-*'
    """
    with open_store(store) as opened:
        chosen = opened.chosen_slices(model, dataset, steps)
        models = [] if dataset or steps != "all" else opened.models(model)
        _confirm(chosen, yes)
        opened.drop(chosen, models)
    say(f"Removed {_counted(chosen)}.")


def _confirm(chosen: list[tuple[str, str, int]], yes: bool) -> None:
    """Show which slices would go, and ask."""
    steps_of: dict[tuple[str, str], list[int]] = {}
    for model, dataset, step in chosen:
        steps_of.setdefault((model, dataset), []).append(step)
    for (model, dataset), steps in steps_of.items():
        which = f"step{'s' if len(steps) > 1 else ''} {_few(steps)}"
        say(f"{model} on {dataset}: {count(len(steps), 'slice')}, {which}", needed=not yes)
    if not yes:
        typer.confirm(f"Remove {_counted(chosen)}?", abort=True, err=True)


def _counted(chosen: list[tuple[str, str, int]]) -> str:
    """Describe the number of slices and their models."""
    models = list(dict.fromkeys(model for model, _, _ in chosen))
    return count(len(chosen), "slice") + (f" of {', '.join(models)}" if models else "")
