"""Tables in the long format, a row a loss, in any order and any number of files: sorted into slices.

Each batch of rows is checked as it is read, then spilled to disk by slice; memory holds a batch, what the spill may
hold, and one slice. Rows are counted from 1, without a header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.arguments.spelling import option
from trajstore.errors import BadSource, listed
from trajstore.importers.request import IncomingSlice, IngestRequest, Tally, choose_columns
from trajstore.importers.row_checks import NOTHING, RECORD, Key, LongRows, check, describe_fault
from trajstore.store.disk.spill import Spill
from trajstore.store.files import foreign_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from trajstore.importers.formats import Format
    from trajstore.importers.site_index import SiteIndex

_LABELS = ("model", "dataset", "step")
_MOST_SLICES = 200_000


class LongFiles:
    """The slices of tables in the long format: `read` each file, then take their `slices`."""

    def __init__(
        self, root: Path, sites: SiteIndex, request: IngestRequest, tally: Tally, budget: int
    ) -> None:
        """`budget` is the number of bytes of checked rows that are held in memory."""
        self._sites, self._request, self._tally = sites, request, tally
        self._spill = Spill(root, RECORD, budget)
        self._files: list[tuple[int, Path]] = []
        self._rows = 0
        self._keys: set[Key] = set()
        self._problems: dict[Key, tuple[str, int]] = {}

    def read(self, path: Path, form: Format, advance: Callable[[int], None]) -> None:
        """Check and sort the rows of a file; raises `BadSource` where it cannot be read or has no row asked for."""
        names = foreign_tables.column_names(path, form.name, form.reader)
        columns = choose_columns(path, names, self._request)
        self._files.append((self._rows, path))
        others: dict[str, set[object]] = {}
        taken = 0
        for batch in foreign_tables.batches(path, form.name, columns, self._request.unit, form.reader):
            rows = self._labelled(batch, others)
            taken += len(rows.row)
            self._sort(rows)
            self._rows += batch.num_rows
            self._tally.rows += batch.num_rows
            self._tally.left_out += batch.num_rows - len(rows.row)
            advance(batch.num_rows)
        if not taken:
            raise BadSource(_nothing_taken(path, others, self._request))

    def slices(self) -> Iterator[IncomingSlice]:
        """Each slice that a file has rows of, by model and step."""
        for key in sorted(self._keys, key=lambda key: (key[0] or "", -1 if key[1] is None else key[1])):
            records = self._spill.take(key)
            problem = self._problem(key, records)
            values = None if problem else self._values(records)
            yield IncomingSlice(*key, self._sources(records), values, problem)

    def __len__(self) -> int:
        return len(self._keys)

    def close(self) -> None:
        """Give the disk space back."""
        self._spill.close()

    def _labelled(self, batch: pa.RecordBatch, others: dict[str, set[object]]) -> LongRows:
        """The rows of a batch that were asked for; values of labels that were not are put into `others`."""
        labels = {name: _codes(batch.column(name)) for name in batch.schema.names if name in _LABELS}
        take = np.ones(batch.num_rows, dtype=bool)
        for name, (codes, values) in labels.items():
            wanted = [self._request.takes(name, value) for value in values]
            if not all(wanted):
                take &= np.array(wanted)[codes]
                others.setdefault(name, set()).update(v for v, w in zip(values, wanted, strict=True) if not w)
        chosen = np.flatnonzero(take)
        nothing = np.zeros(batch.num_rows, dtype=np.int64)
        models, model_names = labels.get("model", (nothing, [self._request.model]))
        steps, step_names = labels.get("step", (nothing, list(self._request.steps or ())))
        keys, where = np.unique(models[chosen] * len(step_names) + steps[chosen], return_inverse=True)
        return LongRows(
            chosen + self._rows,
            where,
            [
                (model_names[key // len(step_names)], step_names[key % len(step_names)])
                for key in keys.tolist()
            ],
            _numbers(batch, "context")[chosen],
            _numbers(batch, "position")[chosen],
            _numbers(batch, "token")[chosen] if "token" in batch.schema.names else None,
            batch.column("loss").to_numpy(zero_copy_only=False)[chosen],
        )

    def _sort(self, rows: LongRows) -> None:
        """Give the sound rows to the spill, and note the first bad one of each slice."""
        if not len(rows.row):
            return
        self._keys.update(rows.keys)
        if len(self._keys) > _MOST_SLICES:
            raise BadSource(
                f"The files have more than {_MOST_SLICES:,} different (model, step): does the column step hold steps?"
            )
        wrong, records = check(rows, self._sites, self._request)
        kept = rows.position != 0
        self._tally.padding += int(np.count_nonzero(~kept & (wrong == 0)))
        unknown = len(rows.row) if rows.token is None else np.count_nonzero(rows.token == NOTHING)
        self._tally.unchecked += int(unknown)
        for number, inside in enumerate(_groups(rows.slice, len(rows.keys))):
            key = rows.keys[number]
            bad = inside[wrong[inside] > 0]
            if bad.size:
                first, count = self._problems.get(key, ("", 0))
                if not first:
                    what = describe_fault(rows, wrong, bad, self._sites, self._request)
                    first = f"{self._place(int(rows.row[bad[0]]))}: {what}"
                self._problems[key] = (first, count + len(bad))
            elif key not in self._problems:
                self._spill.add(key, records[inside[kept[inside]]])

    def _problem(self, key: Key, records: np.ndarray) -> str:
        if key in self._problems:
            first, count = self._problems[key]
            return first if count == 1 else f"{first}; {count - 1} more rows are wrong"
        order = np.argsort(records["site"], kind="stable")
        same = np.flatnonzero(np.diff(records["site"][order]) == 0)
        if not same.size:
            return ""
        again = same[np.argmin(records["row"][order[same + 1]])]
        row, before = (int(records["row"][order[again + n]]) for n in (1, 0))
        context, position = self._sites.dataset.site_of_loss(int(records["site"][order[again]]))
        return (
            f"{self._place(row)}: context {context}, position {position} for the second time, after "
            f"{self._place(before)}" + (f"; {len(same) - 1} more rows are repeated" if len(same) > 1 else "")
        )

    def _values(self, records: np.ndarray) -> np.ndarray:
        """A slice's losses, float32 (n_losses,), NaN where there is no row."""
        values = np.full(self._sites.dataset.n_losses, np.nan, dtype=np.float32)
        values[records["site"]] = records["loss"]
        return values

    def _file(self, rows: np.ndarray | int) -> Any:
        """Numbers of the files that rows stand in."""
        return np.searchsorted([first for first, _ in self._files], rows, side="right") - 1

    def _place(self, row: int) -> str:
        first, path = self._files[int(self._file(row))]
        return f"row {row - first + 1} of {path}"

    def _sources(self, records: np.ndarray) -> str:
        return ", ".join(str(self._files[number][1]) for number in np.unique(self._file(records["row"])))


def _codes(column: pa.Array) -> tuple[np.ndarray, list[Any]]:
    """(index of each row's value, the values); None is a value too."""
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """A column of whole numbers as int64, `NOTHING` for null."""
    values: np.ndarray = batch.column(name).fill_null(NOTHING).to_numpy(zero_copy_only=False)
    return values


def _groups(of: np.ndarray, count: int) -> list[np.ndarray]:
    if count == 1:
        return [np.arange(len(of))]
    order = np.argsort(
        of.astype(np.uint16) if count < 1 << 16 else of, kind="stable"
    )  # 16 bits sort by radix
    return np.split(order, np.cumsum(np.bincount(of, minlength=count))[:-1])


def _nothing_taken(path: Path, others: dict[str, set[object]], request: IngestRequest) -> str:
    """That a file has no row of what was asked for, and what it has instead."""
    if not others:
        return f"{path} has no rows."
    name, seen = next(iter(others.items()))
    wanted = {"dataset": request.dataset, "model": request.model, "step": listed(request.steps or ())}[name]
    theirs = next((theirs for theirs, ours in (request.columns or {}).items() if ours == name), name)
    return (
        f"{path} has no row of {name} {wanted}; there it says: {listed(sorted(map(str, seen)))}. If these are the "
        f"same, leave that column unread: {option('columns', {theirs: ''})}"
    )
