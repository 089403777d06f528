"""Replies: a frame as Arrow, JSON, CSV or Parquet, and an error as JSON that says what to do next."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence

import polars as pl
from starlette.responses import JSONResponse, Response

from trajstore.errors import (
    DamagedFile,
    NothingChosen,
    NotScored,
    StoreNotFound,
    StoreUnusable,
    TrajstoreError,
    UnknownName,
    UnknownStep,
    bounded,
)
from trajstore.text import visible, visible_json

MEDIA_TYPES = {
    "arrow": "application/vnd.apache.arrow.stream",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
"""Media types by the ending of an address."""

NOTES = "Trajstore-Notes"
"""Header with what was said beside a frame, as what is left out of it: a JSON list of sentences."""
_MOST_NOTES = 8


def frame_reply(
    frame: pl.DataFrame, kind: str, name: str, etag: str = "", notes: Sequence[str] = ()
) -> Response:
    """A frame as a reply of this kind; CSV and Parquet are saved under `name`."""
    headers = {}
    if etag:
        headers["ETag"] = etag
    if notes:
        headers[NOTES] = json.dumps([bounded(note, 500) for note in notes[:_MOST_NOTES]])
    if kind in ("csv", "parquet"):
        headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return Response(encoded(frame, kind), media_type=MEDIA_TYPES[kind], headers=headers)


def encoded(frame: pl.DataFrame, kind: str) -> bytes:
    """The bytes of a frame; NaN is null in JSON and CSV, and what is nested JSON text in CSV."""
    sink = io.BytesIO()
    if kind == "arrow":
        frame.write_ipc_stream(sink, compat_level=pl.CompatLevel.oldest())
    elif kind == "parquet":
        frame.write_parquet(sink)
    elif kind == "csv":
        _flat(frame.fill_nan(None)).write_csv(sink)
    else:
        return visible_json(frame.fill_nan(None).write_json()).encode()
    return sink.getvalue()


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    texts = [
        pl.Series(
            name, [None if row is None else json.dumps(row, default=str) for row in frame[name].to_list()]
        )
        for name in nested
    ]
    return frame.with_columns(texts)


def json_reply(value: object, status: int = 200) -> Response:
    """A value as JSON."""
    text = visible_json(json.dumps(value, ensure_ascii=False, allow_nan=False))
    return Response(text.encode(errors="replace"), status, media_type=MEDIA_TYPES["json"])


def refusal(status: int, error: str, hint: str = "") -> Response:
    """An error as `{"error": …, "hint": …}`."""
    return JSONResponse({"error": visible(error), "hint": visible(hint)}, status)


_STATUSES: tuple[tuple[type[TrajstoreError], int], ...] = (
    (UnknownName, 404),
    (NotScored, 404),
    (UnknownStep, 404),
    (NothingChosen, 404),
    (StoreNotFound, 409),
    (StoreUnusable, 409),
    (DamagedFile, 422),
)
_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z(])")


def error_reply(error: TrajstoreError) -> Response:
    """An error that a user can mend: its first sentence, and as a hint what follows."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 400)
    first, *rest = _SENTENCE.split(bounded(str(error)), maxsplit=1)
    return refusal(status, first, " ".join(rest))
