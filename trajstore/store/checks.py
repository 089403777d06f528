"""Checks that a store is what was written: quickly from paths and footers, or deeply over every byte.

A problem names a file, says what is wrong with it and which command mends it. Nothing is changed here but by
`quarantine`, which moves damaged slices and datasets out of the way so that they can be made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore import sqlfiles
from trajstore.display import count
from trajstore.errors import DamagedFile, TrajstoreError
from trajstore.progress import SILENT, Progress, bar
from trajstore.schema import CATALOG
from trajstore.store import catalog_check, passed_over, stand_ins
from trajstore.store.disk import digests, layout
from trajstore.store.files import (
    coverage,
    findings,
    group_files,
    group_tables,
    measures,
    models,
    slices,
)
from trajstore.store.files.finding_tables import TABLES
from trajstore.store.queries import query
from trajstore.store.session import Session

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset

_SCORE = "trajstore score writes it again once the file is gone (check --deep --quarantine moves it)"
_DROP = "make the dataset again (trajstore dataset add), or remove the losses on it: trajstore drop"
_ADD = "remove the dataset's folder and make it again: trajstore dataset add"
_REMOVE = "trajstore did not write it: move it elsewhere"
_MEASURE = "remove it and make those measures again"
_FIND = "remove the finding (trajstore finding drop) and compute it again"
_KIND = "run the analysis that made it, which makes its tables known again"
_AGAIN = "remove it with its .sql file, and make that group again: trajstore group add"
_REBUILD = "trajstore rebuild makes the catalog anew from the files"
_SEAL = "trajstore rebuild gives it one (and takes what is there for what is meant)"
_DEEPEST = 8
"""Folders within each other in which nothing of a store lies any more."""
_EDITED = "put it back from a copy; or, if the change is yours, remove its line with sha256 and run trajstore rebuild"


@dataclass(frozen=True)
class StoreProblem:
    """Something that is not as it was written."""

    path: str
    """Inside the store."""
    what: str
    mend: str


def check(session: Session, *, deep: bool = False, progress: Progress = SILENT) -> list[StoreProblem]:
    """All problems of a store; none is a good store.

    Quick: paths, footers, row counts, hashes of tokens in the footers, stray files, links, the catalog's definitions.
    Deep: also every byte of every slice (digest of the file, hash of its losses), of the tokens, the measures and
    the findings, and `sql/checks/`.
    """
    foreign = list(_foreign(session.path))
    problems = [*foreign, *_definition_problems(session), *_model_problems(session)]
    problems += _measure_problems(session, deep=deep)
    problems += _group_problems(session, {problem.path for problem in problems})
    problems += _table_problems(session, deep=deep)
    problems += [StoreProblem(path, what, _REBUILD) for path, what in stand_ins.damaged(session.path)]
    problems += _finding_problems(session, deep=deep)
    sound: dict[str, Dataset] = {}
    for name in session.dataset_names():
        try:
            dataset = session.dataset(name)
            _ = dataset.lengths
            if deep:
                dataset.ids()
                dataset.check()
        except DamagedFile as error:
            problems.append(StoreProblem(_inside(session.path, error.path), error.reason, _ADD))
        else:
            sound[name] = dataset
            problems += _missing_digests(dataset.folder.glob("*.parquet"), session.path)
    strange = {problem.path for problem in foreign}
    problems = foreign + [problem for problem in problems[len(foreign) :] if problem.path not in strange]
    paths = [
        path
        for path in passed_over.kept(session.path, session.path.glob("losses/*/*/*/slice.parquet"))
        if not layout.is_linked(path) and path.is_file()
    ]
    with bar(progress, "checking", len(paths), "slices"):
        for path in paths:
            if (what := _slice_problem(path, sound, deep=deep)) is not None:
                mend = _SCORE if _dataset_of(path) in sound else _DROP
                problems.append(StoreProblem(str(path.relative_to(session.path)), what, mend))
            progress.advance(1, "/".join(path.parts[-4:-1]))
    if deep and not problems:
        problems += _sql_problems(session)
    return problems


def quarantine(session: Session, problems: Iterable[StoreProblem]) -> list[Path]:
    """Move the slices among the problems to `STORE/damaged/`; returns where they went."""
    moved = []
    for problem in problems:
        source = session.path / problem.path
        if problem.path.startswith("losses/") and problem.mend == _SCORE and source.exists():
            target = session.path / "damaged" / problem.path
            layout.make_folders(layout.unlinked(target.parent), session.path)
            while target.exists():
                target = target.with_name(f"{target.name}.older")
            source.rename(target)
            layout.sync_folder(target.parent)
            moved.append(target)
    return moved


def _dataset_of(path: Path) -> str:
    return path.parts[-3].removeprefix("dataset=")


def _slice_problem(path: Path, datasets: dict[str, Dataset], *, deep: bool) -> str | None:
    name = _dataset_of(path)
    if name not in datasets:
        return f"there is no sound dataset {name!r} for it"
    return digests.fault(path, lambda: slices.check(path, datasets[name], deep=deep), deep=False)


def _foreign(root: Path) -> Iterator[StoreProblem]:
    """Links, pipes, sockets and devices anywhere, and files where readers take whatever matches."""
    for folder, folders, files in os.walk(root):
        if len(Path(folder).relative_to(root).parts) >= _DEEPEST:
            yield StoreProblem(_inside(root, Path(folder)), "it is deeper than anything of a store", _REMOVE)
            folders.clear()
            continue
        for name in [*folders, *files]:
            path = Path(folder) / name
            inside = str(path.relative_to(root))
            try:
                kind = layout.strange(path.lstat().st_mode)
            except FileNotFoundError:  # a writer's, gone since
                continue
            if path.is_symlink():
                yield StoreProblem(
                    inside, "it is a symbolic link, through which a session cannot read", _REMOVE
                )
            elif name in files and kind:
                yield StoreProblem(inside, f"it is {kind}, which is never read", _REMOVE)
            elif name in files and (what := passed_over.why(inside)):
                yield StoreProblem(inside, what, _REMOVE)
            elif name in files and stand_ins.is_stray(inside):
                yield StoreProblem(inside, "it is a stray file", _REMOVE)


def _definition_problems(session: Session) -> Iterator[StoreProblem]:
    """A catalog or group files that cannot be used, and views and macros that are not what they should be."""
    try:
        present = catalog_check.catalog_texts(session.path)
    except DamagedFile as error:
        yield StoreProblem(CATALOG, error.reason, _REBUILD)
        return
    try:
        meant = catalog_check.expected_texts(session.path)
    except TrajstoreError as error:
        yield StoreProblem("groups", str(error), "mend or remove that file")
        return
    for path, what in catalog_check.differences(present, meant):
        yield StoreProblem(path, what, _REBUILD)
    for name in group_files.announced(session.path):
        what = "putting it in place was cut short, so the group is as before"
        yield StoreProblem(f"groups/{name}.sql", what, f"give it again (trajstore group add), or: {_REBUILD}")


def _model_problems(session: Session) -> Iterator[StoreProblem]:
    for name in coverage.model_names(session.path):
        try:
            facts = models.read_model(session.path, name)
        except DamagedFile as error:
            mend = "remove it; the next trajstore score of that model writes it anew"
            yield StoreProblem(f"models/{name}.json", error.reason, mend)
        else:
            if facts is not None:
                yield from _text_problem(layout.model_path(session.path, name), session.path)
            if old := models.old_name(session.path, name):
                yield StoreProblem(
                    f"models/{name}.json",
                    f"the renaming of {old} to {name} is not finished",
                    f"trajstore model rename {old} {name}",
                )


def _group_problems(session: Session, named: set[str]) -> Iterator[StoreProblem]:
    """Definitions of groups whose texts are not as they were written, of those that are not `named` yet."""
    for path in sorted(session.path.glob("groups/*.sql")):
        if _inside(session.path, path) not in named and not layout.is_linked(path) and path.is_file():
            yield from _text_problem(path, session.path)


def _text_problem(path: Path, root: Path) -> Iterator[StoreProblem]:
    """A text that is not what was written, or does not say what that was."""
    if what := digests.problem(path):
        yield StoreProblem(_inside(root, path), what, _SEAL if what == digests.MISSING else _EDITED)


def _missing_digests(paths: Iterable[Path], root: Path) -> Iterator[StoreProblem]:
    for path in sorted(paths):
        if digests.carried(path) is None:
            yield StoreProblem(_inside(root, path), digests.MISSING, _SEAL)


def _inside(root: Path, path: Path) -> str:
    return str(path.relative_to(root))


def _measure_problems(session: Session, *, deep: bool) -> Iterator[StoreProblem]:
    for path in passed_over.kept(session.path, session.path.glob("measures/*/*/*.parquet")):
        if (what := measures.measures_problem(path, deep=deep)) is not None:
            yield StoreProblem(str(path.relative_to(session.path)), what, _MEASURE)


def _finding_problems(session: Session, *, deep: bool) -> Iterator[StoreProblem]:
    for folder in findings.folders(session.path):
        for name in findings.missing(folder):
            yield StoreProblem(_inside(session.path, folder / name), "it is not there", _FIND)
    for path in passed_over.kept(session.path, session.path.glob("findings/*/*/*.parquet")):
        if (what := findings.finding_problem(path, deep=deep)) is not None:
            own = path.parts[-3].removeprefix("kind=") in TABLES
            mend = _KIND if what == findings.NO_TABLE and not own else _FIND
            yield StoreProblem(str(path.relative_to(session.path)), what, mend)


def _table_problems(session: Session, *, deep: bool) -> Iterator[StoreProblem]:
    """Tables of groups that are not as they were written, are not there, or are no group's."""
    try:
        own = group_files.own(session.path)
    except DamagedFile:  # named among the definitions
        return
    files = {path.stem for path in session.path.glob("groups/*.parquet")}
    tables = {name for name, group in own.items() if group.is_table}
    for name in sorted(files | tables):
        path = f"groups/{name}.parquet"
        if name not in tables:
            yield StoreProblem(
                path,
                "it is the table of no group",
                f"trajstore group drop {name}" if name not in own else "remove it",
            )
        elif name not in files:
            yield StoreProblem(path, "it is not there", _AGAIN)
        elif (what := group_tables.table_problem(session.path, name, deep=deep)) is not None:
            yield StoreProblem(path, what, _AGAIN)


def _sql_problems(session: Session) -> Iterator[StoreProblem]:
    """Yield the problems that `sql/checks/` finds: each file gives the slices that fail it."""
    for file in sqlfiles.load("checks"):
        try:
            frame, _ = query.frame(session, file.body)
        except TrajstoreError as error:
            yield StoreProblem("losses", f"the check {file.name} cannot be run: {error}", _SCORE)
            continue
        for model, dataset, step, bad in frame.iter_rows():
            path = str(layout.slice_path(Path(), model, dataset, step))
            yield StoreProblem(
                path,
                f"{count(bad, 'row')} {'fails' if bad == 1 else 'fail'} this: {file.description}",
                _SCORE,
            )
