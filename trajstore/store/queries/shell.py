"""The official DuckDB command line on a private copy of the catalog, so that nobody is locked out.

It is confined as far as it can be: it reads the store's files and no others, the copy of the catalog is read-only, and
its configuration is locked. What it cannot be kept from is `COPY … TO` a path inside the store, and `ATTACH` of the
catalog itself.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import duckdb

from trajstore.errors import ShellUnavailable
from trajstore.schema import CATALOG_STORAGE
from trajstore.store import lifecycle
from trajstore.store.catalog import catalog, migrate
from trajstore.store.catalog.catalog import OpenedCatalog
from trajstore.store.quoting import quoted

_OLDEST = (1, 5)
"""The first DuckDB that reads the catalog's storage version."""


def program() -> Path:
    """The DuckDB command line: that of the package duckdb-cli, else one on the PATH; raises `ShellUnavailable`."""
    executable = _of_package() or shutil.which("duckdb")
    if executable is None:
        raise ShellUnavailable("DuckDB's command line is not installed")
    said = subprocess.run([executable, "-version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v?(\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < _OLDEST:
        raise ShellUnavailable(
            f"{executable} is {said.split()[0] if said.split() else 'no DuckDB'}, which is too old"
        )
    return Path(executable)


def _of_package() -> Path | None:
    """The program in the package duckdb-cli, whose own entry point is a Python that starts it."""
    spec = importlib.util.find_spec("duckdb_cli")
    if spec is None or spec.origin is None:
        return None
    inside = Path(spec.origin).with_name("duckdb")
    return inside if inside.is_file() else None


def command(root: Path, folder: Path, files: Sequence[Path] = (), *, terminal: bool = False) -> list[str]:
    """Return the command that starts DuckDB's on the store, with all it needs in `folder`, which is private and empty.

    `files` are folders of the user's own that it may read, and write, as well; with any, nothing of the catalog is used
    but what this version and the groups' files make. On a terminal it times queries and has colours. Raises
    `ShellUnavailable`, `StoreNotFound`, `StoreTooOld`, `StoreTooNew`, and `QueryError` for a folder that is not there.
    """
    duckdb_program = program()
    root = lifecycle.existing(root)
    places = [place.expanduser().resolve() for place in files]
    copy = folder / "store.duckdb"
    with _session(root, folder, places) as session:
        migrate.check_current(OpenedCatalog(session, None), root)
        session.execute(f"ATTACH {quoted(str(copy))} AS copy (STORAGE_VERSION '{CATALOG_STORAGE}')")
        session.execute("COPY FROM DATABASE memory TO copy")
        session.execute("DETACH copy")
    start = folder / "start.sql"
    start.write_text(_start(root, folder, places, terminal), encoding="utf-8")
    # The lock comes after the start file, since the command line sets options of its own between the two.
    then = ["SET lock_configuration = true", *([".timer on"] if terminal else [])]
    options = [word for setting in then for word in ("-cmd", setting)]
    return [str(duckdb_program), "-init", str(start), "-readonly", *options, str(copy)]


def _session(root: Path, folder: Path, places: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """A session that may also write to `folder`."""
    if places:
        return lifecycle.session_with_files(root, [folder, *places])
    return catalog.open_session(root, [folder])


def _start(root: Path, folder: Path, places: Sequence[Path], terminal: bool) -> str:
    allowed = ", ".join(quoted(str(place)) for place in (root, *places))
    return "\n".join(
        [
            ".startup_text none",
            f".highlight {'on' if terminal else 'off'}",
            f"SET VARIABLE store = {quoted(str(root))};",
            f"SET temp_directory = {quoted(str(folder / 'spill'))};",
            f"SET allowed_directories = [{allowed}];",
            "SET enable_external_access = false;",
            "",
        ]
    )
