"""Turns of processes at one store, each with an interpreter and a DuckDB of its own.

Run as `python store_turns.py TURN STORE`; prints what the store answers after that turn as JSON. Needs neither
pytest nor torch.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from trajstore import sqlfiles
from trajstore.errors import StoreTooOld
from trajstore.sqlfiles import SqlFile
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts
from trajstore.store.lifecycle import migrate_store, migrations
from trajstore.store.store import Store

TEXTS = [["In", " 19", "84", " the"], [" the", "84"]]
SITES = pl.DataFrame({"dataset": ["d", "d"], "context": [0, 1], "position": [2, 0]})
LATER = {
    "migrations": SqlFile(
        "0004_notes", "", "CREATE TABLE notes (note VARCHAR); INSERT INTO notes VALUES ('kept')"
    ),
    "groups": SqlFile("odd", "", "SELECT dataset, context, position FROM tokens WHERE position % 2 = 1"),
}
"""Files that a later version ships beside those of this one."""


def make(path: Path) -> None:
    """A store with 2 + 4 tokens, one slice and one group of its own."""
    vocabulary = {text: token for token, text in enumerate(dict.fromkeys(chain(*TEXTS)))}
    dataset = NewDataset(
        ids=[np.array([vocabulary[text] for text in context], dtype=np.int32) for context in TEXTS],
        texts=TEXTS,
        contexts=pl.DataFrame({name: [None, None] for name in CONTEXT_COLUMNS}, schema=CONTEXT_COLUMNS),
        tokenizer=TokenizerFacts("by hand", "sha256:" + "0" * 64, len(vocabulary)),
        source={"source": "by hand"},
    )
    with Store.create(path) as store:
        store.add_dataset("d", dataset)
        add(store, 0, "first")
        store.groups.add("kept", SITES[:1], "By hand.")


def migrate(path: Path) -> None:
    """Add to the store as it is, then bring it to a later version's schema."""
    with Store(path) as store:
        add(store, 1, "second")
    become_later()
    try:
        Store(path).close()
    except StoreTooOld:
        migrate_store(path)


def extend(path: Path) -> None:
    """Add to the migrated store and drop a group from it."""
    become_later()
    with Store(path) as store:
        add(store, 2, "third")
        store.groups.drop("second")
        store.groups.add("kept", SITES, "By hand.", replace=True)


def read(path: Path) -> None:
    """Only look at the migrated store."""
    become_later()


def add(store: Store, step: int, group: str) -> None:
    """A slice with losses that name the step, and a group of the even positions of digits."""
    store.append(model="m", dataset="d", step=step, losses=np.arange(4) + np.float32(10 * step))
    store.groups.add(group, "FROM groups.digits WHERE position % 2 = 0", f"Added at step {step}.")


def become_later() -> None:
    """Have this process be a later version of trajstore, with a second migration and another group."""
    real = sqlfiles.load
    sqlfiles.load = lambda kind: (*real(kind), LATER[kind]) if kind in LATER else real(kind)


def look(path: Path) -> dict[str, object]:
    """Return the store's answers: the schema's history, rows of every table and view, groups, macros, a matrix."""
    with Store(path) as store:
        names = store.sql(
            """
            SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY table_name
            """
        ).fetchall()
        groups = store.groups.list()
        own = [group for group in groups if group.origin == "sql"]
        return {
            "history": [line.name for line in migrations(path) if line.applied_at],
            "rows": {name: len(store.sql(f"FROM {name}").fetchall()) for (name,) in names},
            "groups": {group.name: group.sizes.get("d", 0) for group in groups},
            "hashes": {group.name: group.sha256 for group in groups},
            "kept": store.sql("FROM groups.kept ORDER BY ALL").fetchall(),
            "added": {group.name: group.description for group in own},
            "trajectory": store.sql("FROM trajectory('digits') SELECT step, tokens, mean").fetchall(),
            "stepwise": store.sql("FROM stepwise(0, 1) SELECT difference").fetchall(),
            "loss_at": store.sql("FROM loss_at(0) SELECT loss ORDER BY loss").fetchall(),
            "matrix": store.matrix("d", group="digits").values.tolist(),
        }


if __name__ == "__main__":
    where = Path(sys.argv[2])
    {"make": make, "migrate": migrate, "extend": extend, "read": read}[sys.argv[1]](where)
    print(json.dumps(look(where)))
