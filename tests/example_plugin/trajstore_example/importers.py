"""Logs of a training loop: a line "step 400" before lines of context, position and loss."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

COLUMNS = pa.schema(
    [("step", pa.int64()), ("context", pa.int64()), ("position", pa.int64()), ("loss", pa.string())]
)
ROWS = 100_000


class LossLog:
    """Reads .losslog files; the model is named by --model."""

    suffixes = (".losslog",)

    def batches(self, path: Path) -> pa.RecordBatchReader:
        """The rows of a file, some at a time."""
        return pa.RecordBatchReader.from_batches(COLUMNS, read(path))


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows as Arrow batches; what a number looks like is left to trajstore."""
    rows, step = [], 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if words[:1] == ["step"]:
                step = int(words[1])
                continue
            if len(words) != 3:
                raise ValueError(f"line {number} is not context, position, loss")
            rows.append({"step": step, "context": int(words[0]), "position": int(words[1]), "loss": words[2]})
            if len(rows) == ROWS:
                yield pa.RecordBatch.from_pylist(rows, COLUMNS)
                rows.clear()
    yield pa.RecordBatch.from_pylist(rows, COLUMNS)
