"""Names on the command line: given again, or joined by commas, for every option and argument that takes several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trajstore import sqlfiles
from trajstore.cli.output import WrongUsage
from trajstore.schema import is_name

if TYPE_CHECKING:
    from trajstore.store.store import Store

_CLOSING = {"(": ")", "[": "]", "{": "}"}


def split_names(text: str) -> list[str]:
    """Split a text at its commas that are not inside brackets or quotes, as in `a,position_is(1, 5)`."""
    parts, start, open_ = [], 0, ""
    for at, sign in enumerate(text):
        if open_ and open_[-1] in "'\"":
            open_ = open_[:-1] if sign == open_[-1] else open_
        elif sign in _CLOSING:
            open_ += _CLOSING[sign]
        elif sign in "'\"":
            open_ += sign
        elif open_ and sign == open_[-1]:
            open_ = open_[:-1]
        elif sign == "," and not open_:
            parts.append(text[start:at])
            start = at + 1
    return [name for part in [*parts, text[start:]] if (name := part.strip())]


def several(values: list[str] | None) -> list[str] | None:
    """The callback of an option or argument that takes names: each of those that commas join, once."""
    if not values:
        return values
    names = list(dict.fromkeys(name for text in values for name in split_names(text)))
    if not names:
        raise typer.BadParameter(f"{', '.join(map(repr, values))} names nothing")
    return names


def require_datasets(store: Store, datasets: Sequence[str] | None) -> list[str]:
    """The datasets given; wrong usage, with those that there are, where none is."""
    if datasets:
        return list(datasets)
    names = store.dataset_names()
    if not names:
        raise typer.BadParameter(
            "the store has no dataset yet. Add one: trajstore dataset add NAME SOURCE --tokenizer T",
            param_hint="--dataset / -d",
        )
    raise WrongUsage(
        f"--dataset is needed: name one or several of: {', '.join(names)} (as in -d {','.join(names[:2])})"
    )


def complete_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Models of the store that the rest of a name may be."""
    with_facts = {path.stem for path in (_store(ctx) / "models").glob("*.json")}
    return completed(incomplete, _values(ctx, "losses", "model") | with_facts)


def complete_datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Datasets of the store that the rest of a name may be."""
    return completed(incomplete, _values(ctx, "tokens", "dataset"))


def complete_groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """Groups of the store, and those that come with trajstore, that the rest of a name may be."""
    shipped = {path.stem for path in (sqlfiles.folder("sql") / "groups").glob("*.sql")}
    own = {path.stem for path in (_store(ctx) / "groups").glob("*.sql")}
    return completed(incomplete, shipped | own)


def _store(ctx: typer.Context) -> Path:
    """The folder of the store, by what was typed so far, the environment, or default."""
    return Path(ctx.params.get("store") or os.environ.get("TRAJSTORE") or "store")


def _values(ctx: typer.Context, folder: str, key: str) -> set[str]:
    """Values of a hive key, by the names of folders alone: no file is opened."""
    return {path.name.removeprefix(f"{key}=") for path in (_store(ctx) / folder).glob(f"{key}=*")}


def completed(incomplete: str, names: Iterable[str]) -> list[str]:
    """Return completions of the last name of a text, with what stands before it."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(names) if name.startswith(last) and is_name(name)]
