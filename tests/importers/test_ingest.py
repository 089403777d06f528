"""Files of losses computed elsewhere: written by hand, read back by SQL, and every mistake in them named."""

from __future__ import annotations

import gzip
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.conftest import ragged
from tests.helpers.tiny_models import save_tokenizer
from trajstore.cli import app
from trajstore.errors import BadDataset, BadName, BadSource, TrajstoreError, UnknownName
from trajstore.importers.ingest import Report, ingest
from trajstore.importers.request import steps_in
from trajstore.store import checks
from trajstore.store.matrix.export import save_matrix
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import NewStore

Row = dict[str, Any]
LENGTHS = (5, 2, 4)
IDS = ((0, 1, 2, 3, 4), (5, 6), (7, 8, 9, 10))
"""The tokens that `ragged(LENGTHS)` draws; the fixture makes sure."""
COLUMNS = "model, step, context, position, token, loss"
SITES = [(c, p) for c, n in enumerate(LENGTHS) for p in range(1, n)]


@pytest.fixture(autouse=True)
def _dataset(request: pytest.FixtureRequest, store: Store) -> None:
    if "planted" not in request.fixturenames:
        made = store.add_dataset("d", ragged(LENGTHS))
        assert [ids.tolist() for ids in made.ids()] == [list(ids) for ids in IDS]


def losses(seed: int) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).gamma(2, 1.5, len(SITES)).astype(np.float32)]


def rows(model: str = "m", step: int = 0, seed: int = 0) -> list[Row]:
    return [
        {"model": model, "step": step, "context": c, "position": p, "token": IDS[c][p], "loss": loss}
        for (c, p), loss in zip(SITES, losses(seed), strict=True)
    ]


def write(path: Path, table: list[Row] | pl.DataFrame) -> Path:
    frame = (
        table
        if isinstance(table, pl.DataFrame)
        else pl.DataFrame(table, infer_schema_length=None, strict=False)
    )
    writers = {
        ".csv": frame.write_csv,
        ".parquet": frame.write_parquet,
        ".jsonl": frame.write_ndjson,
        ".arrow": frame.write_ipc,
        ".arrows": frame.write_ipc_stream,
    }
    writers[path.suffix](path)
    return path


def there(store: Store) -> dict[tuple[str, int, int, int], float]:
    found = store.sql("SELECT model, step, context, position, loss FROM raw_losses").fetchall()
    return {row[:4]: row[4] for row in found}


def of(*parts: list[Row]) -> dict[tuple[str, int, int, int], float]:
    return {(r["model"], r["step"], r["context"], r["position"]): r["loss"] for part in parts for r in part}


def reasons(report: Report) -> dict[str, str]:
    return {failure.what: failure.reason for failure in report.failures}


# the long format


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.jsonl", "x.arrow"])
def test_rows_in_any_order(store: Store, tmp_path: Path, name: str) -> None:
    parts = [rows(), rows(step=10**12, seed=1), rows("n", 3, 2)]
    shuffled = [row for part in parts for row in part]
    np.random.default_rng(3).shuffle(shuffled)  # type: ignore[arg-type]
    path = write(tmp_path / name, shuffled)
    report = ingest(store, path, dataset="d")
    assert (report.written, report.skipped, report.failures, report.tally.rows) == (3, 0, [], 24)
    assert there(store) == of(*parts)
    again = ingest(store, [path], dataset="d")
    assert (again.written, again.skipped, again.failures) == (0, 3, [])
    provenance = store.slice_facts("n", "d", 3).provenance
    assert provenance.source == str(path)
    assert provenance.run is not None
    assert checks.check(store, deep=True) == []
    assert list((store.path / "tmp").iterdir()) == []


def test_kinds_by_name_and_by_option(store: Store, tmp_path: Path) -> None:
    plain = write(tmp_path / "x.csv", rows())
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    tabs = tmp_path / "a[1]*.tsv"
    tabs.write_text("\ufeff" + plain.read_text().replace(",", "\t").replace("\n", "\r\n"), newline="")
    stream = write(tmp_path / "x.arrows", rows())
    assert ingest(store, plain, dataset="d").written == 1
    for path in (packed, tabs):
        assert ingest(store, path, dataset="d").skipped == 1, path
    assert ingest(store, stream, dataset="d", format="arrow").skipped == 1


def test_other_names_and_what_the_caller_says(store: Store, tmp_path: Path) -> None:
    """No model, step or token in the file; quoted names with semicolons between; whole numbers written as floats."""
    lines = ['"nll";"pos ""of"" it";seq'] + [f"{r['loss']};{r['position']}.0; {r['context']}" for r in rows()]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines))
    columns = {"nll": "loss", 'pos "of" it': "position", "seq": "context"}
    report = ingest(store, str(path), dataset="d", model="mine", step=7, columns=columns)
    assert (report.written, report.tally.unchecked) == (1, 8)
    assert there(store) == of([{**row, "model": "mine", "step": 7} for row in rows()])


def test_only_what_was_asked_for(store: Store, tmp_path: Path) -> None:
    table = [{**row, "dataset": "d"} for row in rows() + rows(step=1) + rows("n", seed=4)]
    table += [{**row, "dataset": "e"} for row in rows("n", 5)]
    path = write(tmp_path / "x.parquet", table)
    report = ingest(store, path, dataset="d", model="m", step=[1, 5])
    assert (report.written, report.tally.left_out) == (1, 24)
    report = ingest(store, path, dataset="d")
    assert (report.written, report.skipped, report.tally.left_out) == (2, 1, 8)
    report = ingest(store, path, dataset="d", model="all", step=9, columns={"model": "", "step": ""})
    assert list(reasons(report)) == ["all on d at step 9"]
    report = ingest(store, path, dataset="d", model="o")
    assert reasons(report)[str(path)] == (
        "has no row of model o; there it says: m, n. If these are the same, leave that column unread: "
        "columns={'model': ''}"
    )


def test_our_own_export_of_losses(planted: Store, tmp_path: Path) -> None:
    runner = CliRunner()
    out = tmp_path / "all.parquet"
    assert runner.invoke(app, ["sql", "FROM losses", "-o", str(out), "-s", str(planted.path)]).exit_code == 0
    before = planted.matrix(["d", "e"]).values
    planted.drop(planted.chosen_slices("a") + planted.chosen_slices("b"))
    for dataset in ("d", "e"):
        result = runner.invoke(app, ["ingest", str(out), "-d", dataset, "-s", str(planted.path)])
        assert result.exit_code == 0, result.stderr
        assert "16 slices written, 0 there already; 3,104 rows read" in result.stderr
        assert "1,552 rows are of other datasets, models or steps" in result.stderr
    assert np.array_equal(planted.matrix(["d", "e"]).values, before)


def test_a_slice_spread_over_files(store: Store, tmp_path: Path) -> None:
    table = rows() + rows(step=1, seed=1)
    one, two = write(tmp_path / "1.csv", table[5:12]), write(tmp_path / "2.parquet", table[12:] + table[:5])
    assert ingest(store, [one, two], dataset="d").written == 2
    assert there(store) == of(table)
    assert store.slice_facts("m", "d", 1).provenance.source == f"{one}, {two}"
    three = write(tmp_path / "3.csv", rows("n")[:2] + rows("n"))
    report = ingest(store, [one, three], dataset="d", model="n")
    assert reasons(report) == {
        str(one): "has no row of model n; there it says: m. If these are the same, leave that column unread: "
        "columns={'model': ''}",
        "n on d at step 0": f"row 3 of {three}: context 0, position 1 for the second time, after row 1 of {three}; 1 "
        "more rows are repeated",
    }


def test_bits_and_doubles(store: Store, tmp_path: Path) -> None:
    table = [{**row, "loss": row["loss"] / math.log(2)} for row in rows()]
    ingest(store, write(tmp_path / "x.parquet", table), dataset="d", unit="bits")
    ingest(
        store, write(tmp_path / "y.csv", table), dataset="d", unit="bits", model="n", columns={"model": ""}
    )
    values = store.matrix("d").values
    assert np.allclose(values, [losses(0)] * 2, rtol=1e-7)
    double = [0.1 + 1e-12 * n for n in range(8)]
    ingest(
        store,
        write(tmp_path / "z.parquet", [{**r, "loss": x} for r, x in zip(rows("z"), double, strict=True)]),
        dataset="d",
    )
    assert store.slice_losses("z", "d", 0).tolist() == np.array(double).astype(np.float32).tolist()


def test_half_precision_rounds_further_below_zero(store: Store, tmp_path: Path) -> None:
    table = rows()
    table[3]["loss"] = -0.0625
    path = write(tmp_path / "x.csv", table)
    assert (
        "is -0.0625; a loss is finite, at least -0.001 and at most 131008 nats"
        in reasons(ingest(store, path, dataset="d"))["m on d at step 0"]
    )
    assert ingest(store, path, dataset="d", dtype="bfloat16").written == 1
    assert store.slice_facts("m", "d", 0).provenance.dtype == "bfloat16"


@pytest.mark.parametrize("padding", [0.0, None, math.nan])
def test_position_0_is_padding(store: Store, tmp_path: Path, padding: float | None) -> None:
    first = [
        {**rows()[0], "context": c, "position": 0, "token": IDS[c][0], "loss": padding} for c in range(3)
    ]
    report = ingest(store, write(tmp_path / "x.parquet", first + rows()), dataset="d")
    assert (report.written, report.tally.padding) == (1, 3)
    assert there(store) == of(rows())


# what is wrong with a row


def change(number: int, **values: Any) -> Callable[[list[Row]], None]:
    return lambda table: table[number].update(values)


def everywhere(**of_row: Callable[[Row], Any]) -> Callable[[list[Row]], None]:
    def apply(table: list[Row]) -> None:
        for row in table:
            row.update({name: make(row) for name, make in of_row.items()})

    return apply


LOSS = "a loss is finite, at least -0.001 and at most 131008 nats"
SHIFTED = "these tokens stand one position further: position here is that of the predicted token"
WHOLE = "a context is there whole or not at all"
WRONG: list[tuple[Callable[[list[Row]], Any], str]] = [
    (
        change(3, loss=math.nan),
        f"row 4 of FILE: the loss at context 0, position 4 is NaN or no number; {LOSS}",
    ),
    (change(3, loss=None), f"row 4 of FILE: the loss at context 0, position 4 is NaN or no number; {LOSS}"),
    (change(3, loss="high"), f"row 4 of FILE: the loss at context 0, position 4 is NaN or no number; {LOSS}"),
    (change(3, loss=math.inf), f"row 4 of FILE: the loss at context 0, position 4 is inf; {LOSS}"),
    (change(3, loss=-0.5), f"row 4 of FILE: the loss at context 0, position 4 is -0.5; {LOSS}"),
    (change(3, token=77), "row 4 of FILE: the token at context 0, position 4 is 77; d has 4 there"),
    (change(3, context=3), "row 4 of FILE: it has context 3; d has contexts 0 to 2"),
    (change(3, context=-1), "row 4 of FILE: it has context -1; d has contexts 0 to 2"),
    (change(3, context=0.5), "row 4 of FILE: it has no whole number for a context; d has contexts 0 to 2"),
    (change(3, position=5), "row 4 of FILE: it has position 5 in context 0, whose positions are 0 to 4"),
    (
        change(3, position=None),
        "row 4 of FILE: it has no whole number for a position in context 0, whose positions are 0 to 4",
    ),
    (
        change(3, position=0, token=0, loss=2.5),
        "row 4 of FILE: the loss at context 0, position 0 is 2.5; position 0 has none (empty, NaN or 0)",
    ),
    (
        change(4, position=0, loss=0.0),
        "row 5 of FILE: the token at context 1, position 0 is 6; d has 5 there",
    ),
    (
        change(6, position=1, token=8),
        "row 7 of FILE: context 2, position 1 for the second time, after row 6 of FILE",
    ),
    (
        everywhere(token=lambda row: [*IDS[row["context"]], 3][row["position"] + 1]),
        f"row 1 of FILE: the token at context 0, position 1 is 2; d has 1 there ({SHIFTED}); 7 more rows are wrong",
    ),
    (
        lambda table: table.pop(2),
        "context 0 lacks losses at positions 3; a context is there whole or not at all",
    ),
    (
        lambda table: [table.pop(n) for n in (7, 1, 0)],
        f"context 0 lacks losses at positions 1–2, and 1 other contexts lack some; {WHOLE}",
    ),
    (
        lambda table: [table.pop(0) for _ in range(5)],
        "2 of 3 contexts are missing (0–1); to keep what is there until they come: partial=True",
    ),
]


@pytest.mark.parametrize(("spoil", "reason"), WRONG)
def test_one_bad_slice_does_not_keep_the_others(
    store: Store, tmp_path: Path, spoil: Callable[[list[Row]], Any], reason: str
) -> None:
    bad = rows()
    spoil(bad)
    path = write(tmp_path / "x.csv", bad + rows("n", 2, 1))
    report = ingest(store, path, dataset="d")
    what = "m on d at step 0" + ("" if reason.startswith("row") else f" in {path}")
    assert reasons(report) == {what: reason.replace("FILE", str(path))}
    assert there(store) == of(rows("n", 2, 1))


def test_rows_without_a_label(store: Store, tmp_path: Path) -> None:
    table = rows() + rows("n", 1) + rows("a/b", 2) + rows("o", 3)
    table[2]["model"], table[9]["step"] = None, "last"
    path = write(tmp_path / "x.csv", table)
    report = ingest(store, path, dataset="d")
    assert reasons(report) == {
        "? on d at step 0": f"row 3 of {path}: it has no model, or no whole number for a step",
        "n on d at step ?": f"row 10 of {path}: it has no model, or no whole number for a step",
        f"m on d at step 0 in {path}": "context 0 lacks losses at positions 3; a context is there whole or not at all",
        f"n on d at step 1 in {path}": "context 0 lacks losses at positions 2; a context is there whole or not at all",
        f"a/b on d at step 2 in {path}": "'a/b' cannot be a model name: letters, digits, '.', '_' and '-' only, "
        "starting with a letter or digit, and not 'null'.",
    }
    assert there(store) == of(rows("o", 3))


def test_what_differs_from_what_is_there(store: Store, tmp_path: Path) -> None:
    ingest(store, write(tmp_path / "x.csv", rows()), dataset="d")
    other = rows()
    other[5]["loss"] = 2.5
    path = write(tmp_path / "y.jsonl", other + rows("n"))
    report = ingest(store, path, dataset="d")
    assert (report.written, report.skipped) == (1, 0)
    assert reasons(report) == {
        f"m on d at step 0 in {path}": f"at context 2, position 1 the store has the loss {np.float32(losses(0)[5])!s}, "
        "this is 2.5 (1 of 8 differ). The slice was left as it is; to overwrite it on purpose: replace=True."
    }
    assert there(store) == of(rows(), rows("n"))
    report = ingest(store, path, dataset="d", replace=True)
    assert (report.written, report.skipped) == (1, 1)
    assert there(store) == of(other, rows("n"))


def test_a_damaged_slice_is_not_overwritten_unless_asked(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", rows())
    ingest(store, path, dataset="d")
    (store.path / "losses/model=m/dataset=d/step=0/slice.parquet").write_bytes(b"PAR1")
    assert "is damaged" in next(iter(reasons(ingest(store, path, dataset="d")).values()))
    assert ingest(store, path, dataset="d", replace=True).written == 1
    assert there(store) == of(rows())


def test_a_slice_published_meanwhile_is_compared(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.csv", rows())
    append = Store.append

    def late(self: Store, **options: Any) -> Path:
        monkeypatch.setattr(Store, "append", append)
        append(self, model="m", dataset="d", step=0, losses=losses(0))
        return append(self, **options)

    monkeypatch.setattr(Store, "append", late)
    report = ingest(store, path, dataset="d")
    assert (report.written, report.skipped, report.failures) == (0, 1, [])


# partial slices


def test_parts_from_files(store: Store, tmp_path: Path) -> None:
    table = rows()
    one, two = write(tmp_path / "1.csv", table[:4]), write(tmp_path / "2.csv", table[5:])
    report = ingest(store, one, dataset="d", partial=True)
    assert (report.written, report.partial) == (1, 1)
    assert there(store) == of(table[:4])
    assert ingest(store, one, dataset="d", partial=True).skipped == 1
    assert "2 of 3 contexts are missing (1–2)" in next(
        iter(reasons(ingest(store, one, dataset="d")).values())
    )
    report = ingest(store, two, dataset="d", partial=True)
    assert (report.written, report.partial) == (1, 1)
    whole = write(tmp_path / "whole.csv", table)
    different = write(tmp_path / "different.csv", [{**row, "loss": 1.0} for row in table])
    assert "(7 of 7 differ)" in next(iter(reasons(ingest(store, different, dataset="d")).values()))
    report = ingest(store, whole, dataset="d")
    assert (report.written, report.partial, report.failures) == (1, 0, [])
    assert store.has_slice("m", "d", 0)
    assert there(store) == of(table)
    assert ingest(store, one, dataset="d", partial=True).skipped == 1
    assert ingest(store, different, dataset="d", replace=True).written == 1
    assert set(there(store).values()) == {1.0}


def test_parts_must_be_whole_contexts(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", rows()[:6])
    report = ingest(store, path, dataset="d", partial=True)
    assert "context 2 lacks losses at positions 2–3" in next(iter(reasons(report).values()))


# files that cannot be read, options that make no sense


def test_files_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    texts = {
        "columns.csv": "model,steps,context,position,loss\nm,0,0,1,2\n",
        "twice.csv": "a,a\n1,2\n",
        "ragged.csv": "model,step,context,position,loss\nm,0,0,1,2\nm,0,0,1\n",
        "header.csv": "model,step,context,position,loss\n",
        "empty.csv": "",
        "cut.jsonl": '{"model":"m","step":0,"context":0,"position":1,"loss":1}\n{"model":\n',
        "junk.parquet": "PAR1junk",
        "junk.arrow": "junk",
        "junk.npy": "junk",
        "junk.npz": "junk",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    good = write(tmp_path / "good.csv", rows())
    report = ingest(store, [*(tmp_path / name for name in texts), good], dataset="d")
    assert report.written == 1
    found = {Path(what).name: reason for what, reason in reasons(report).items()}
    assert found["columns.csv"] == (
        "has no column 'step'; its columns are: model, steps, context, position, loss. Name the one that holds it: "
        "columns={'THEIRS': 'step'}, or give one step=S"
    )
    assert found["twice.csv"] == "has two columns of one name: a, a."
    assert (
        "CSV Error on Line: 3; Original Line: m,0,0,1; Expected Number of Columns: 5 Found: 4"
        in found["ragged.csv"]
    )
    assert found["header.csv"] == "has no rows."
    assert found["empty.csv"].startswith("has no column 'model'; its columns are: none.")
    assert "cannot be read as jsonl: " in found["cut.jsonl"]
    for kind in ("parquet", "arrow", "npy", "npz"):
        assert f"cannot be read as {kind}: " in found[f"junk.{kind}"], found[f"junk.{kind}"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dataset": "q"}, UnknownName, "There is no dataset 'q' here; there is: d"),
        ({"model": "a/b"}, BadName, "cannot be a model name"),
        (
            {"format": "xml"},
            TrajstoreError,
            "format='xml': there is auto, parquet, csv, jsonl, arrow, npy, npz, devinterp.",
        ),
        ({"unit": "dB"}, TrajstoreError, "unit='dB': there is nats, bits, perplexity."),
        ({"dtype": "int8"}, TrajstoreError, "dtype='int8': there is float32, bfloat16, float16."),
        (
            {"columns": {"nll": "los"}},
            TrajstoreError,
            "columns={'nll': 'los'}: there is no column 'los'; the long format has: model,",
        ),
        ({"paths": "none.csv"}, BadSource, r"There is no file none\.csv\."),
        ({"paths": "."}, BadSource, r"\. is a folder; name the files in it, as in \./\*\.parquet"),
        ({"paths": __file__}, BadSource, "Cannot tell from the name 'test_ingest.py' what it holds"),
    ],
)
def test_options_that_make_no_sense(
    store: Store, tmp_path: Path, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    path = options.pop("paths", write(tmp_path / "x.csv", rows()))
    with pytest.raises(kind, match=message):
        ingest(store, path, **{"dataset": "d", **options})
    assert store.model_names() == []


def test_columns_that_are_not_there(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", rows())
    named = "columns={'THEIRS': 'loss'}"
    for columns, message in (
        (
            {"los": "loss"},
            f"has no column 'los', which columns names; its columns are: {COLUMNS}. Did you mean loss?",
        ),
        (
            {"token": "loss"},
            "has two columns for loss: loss and token. Leave one unread: columns={'loss': ''}",
        ),
        (
            {"loss": ""},
            f"has no column 'loss'; its columns are: {COLUMNS}. Name the one that holds it: {named}",
        ),
    ):
        assert reasons(ingest(store, path, dataset="d", columns=columns)) == {str(path): message}


# matrices


@pytest.mark.parametrize("name", ["m.npy", "m.npz", "m.parquet", "m.arrow"])
@pytest.mark.parametrize("pad_first", [False, True])
def test_our_own_matrices_come_back_bit_equal(
    planted: Store, tmp_path: Path, name: str, pad_first: bool
) -> None:
    planted.drop([("b", "d", 4)])
    before = planted.matrix(["d", "e"], missing="nan", pad_first=pad_first)
    save_matrix(before, tmp_path / name)
    planted.drop(planted.chosen_slices("a") + planted.chosen_slices("b"))
    for dataset, empty in (("d", 1), ("e", 0)):
        report = ingest(planted, tmp_path / name, dataset=dataset)
        assert (report.written, report.failures, report.tally.empty) == (16 - empty, [], empty)
        assert report.tally.padding == 16 * 6 * pad_first
    after = planted.matrix(["d", "e"], missing="nan", pad_first=pad_first)
    assert after.values.tobytes() == before.values.tobytes()
    assert after.rows.equals(before.rows)
    assert ingest(planted, tmp_path / name, dataset="e", model="a", step=[4, 8]).skipped == 2


def test_a_part_of_a_matrix(planted: Store, tmp_path: Path) -> None:
    save_matrix(planted.matrix("d", models="a", steps="8", contexts="1:3"), tmp_path / "m.npy")
    planted.drop([("a", "d", 8)])
    report = ingest(planted, tmp_path / "m.npy", dataset="d")
    assert "4 of 6 contexts are missing (0, 3–5)" in next(iter(reasons(report).values()))
    assert ingest(planted, tmp_path / "m.npy", dataset="d", partial=True).partial == 1
    planted.groups.add("odd", "SELECT dataset, context, position FROM tokens WHERE position % 2 = 1")
    save_matrix(planted.matrix("d", models="a", steps="4", group="odd"), tmp_path / "g.npy")
    planted.drop([("a", "d", 4)])
    report = ingest(planted, tmp_path / "g.npy", dataset="d", partial=True)
    assert "context 0 lacks losses at positions 2, 4, 6, 8, and 4 other contexts lack some" in next(
        iter(reasons(report).values())
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2"])
def test_bare_arrays(store: Store, tmp_path: Path, dtype: str) -> None:
    values = np.array([losses(0), losses(1)]).astype(dtype)
    path = tmp_path / "m.npy"
    np.save(path, values)
    assert ingest(store, path, dataset="d", model="m", step=[3, 4]).written == 2
    assert store.matrix("d").values.tolist() == values.astype("f4").tolist()
    padded = np.insert(np.asfortranarray(values), [0, 4, 5], 0, axis=1)
    np.save(tmp_path / "p.npy", np.asfortranarray(padded))
    report = ingest(store, tmp_path / "p.npy", dataset="d", model="m", step=[3, 4])
    assert (report.skipped, report.tally.padding) == (2, 6)
    np.save(tmp_path / "one.npy", values[0])
    assert ingest(store, tmp_path / "one.npy", dataset="d", model="m", step=3).skipped == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(store: Store, tmp_path: Path, save: Any) -> None:
    values = np.array([losses(0), losses(1)], dtype=np.float32)
    save(tmp_path / "m.npz", losses=values, steps=np.array([7, 9]))
    assert ingest(store, tmp_path / "m.npz", dataset="d", model="m").written == 2
    assert store.steps("m", "d") == [7, 9]
    assert store.matrix("d").values.tolist() == values.tolist()
    save(tmp_path / "f.npz", losses=np.asfortranarray(values), steps=np.array([7, 9]))
    assert ingest(store, tmp_path / "f.npz", dataset="d", model="m").skipped == 2
    assert ingest(store, tmp_path / "f.npz", dataset="d", model="m", step=9).tally.left_out == 1


def test_contexts_of_one_length_may_be_an_axis(store: Store, tmp_path: Path) -> None:
    store.add_dataset("box", ragged((4, 4)))
    values = np.random.default_rng(0).gamma(2, 1, (3, 2, 4)).astype(np.float32)
    values[:, :, 0] = 0
    np.save(tmp_path / "m.npy", values)
    assert ingest(store, tmp_path / "m.npy", dataset="box", model="m", step=[0, 1, 2]).written == 3
    assert store.matrix("box", pad_first=True).values.tolist() == values.reshape(3, 8).tolist()


@pytest.mark.parametrize(
    ("factor", "unit", "warns"), [(1.0, "nats", False), (1.4427, "nats", True), (1.4427, "bits", False)]
)
def test_a_guess_in_bits_taken_as_nats_is_noted(
    store: Store, tmp_path: Path, factor: float, unit: str, warns: bool
) -> None:
    """The losses at initialisation are near ln V nats, or log2 V bits."""
    data = store.dataset("d")
    guess = np.log(data.tokenizer.size) + 0.1 * np.random.default_rng(0).standard_normal(data.n_losses)
    np.save(tmp_path / "m.npy", np.array([factor * guess, factor * guess / 2], np.float32))
    report = ingest(store, tmp_path / "m.npy", dataset="d", model="m", step=[0, 500], unit=unit)
    assert (report.written, report.failures) == (2, [])
    assert report.tally.like_bits.startswith("m at step 0: their mean is") is warns


def test_matrices_that_do_not_fit(store: Store, tmp_path: Path) -> None:
    def reason(
        array: Any, labels: pl.DataFrame | None = None, step: Any = (3,), model: str | None = "m"
    ) -> str:
        np.save(tmp_path / "m.npy", array)
        beside = tmp_path / "m.columns.parquet"
        beside.unlink(missing_ok=True)
        if labels is not None:
            labels.write_parquet(beside)
        (found,) = reasons(ingest(store, tmp_path / "m.npy", dataset="d", model=model, step=step)).values()
        return found.replace(str(tmp_path), "")

    row = np.array([losses(0)], dtype=np.float32)
    sites = pl.DataFrame(SITES, schema=["context", "position"], orient="row")
    assert reason(row[:, :5]) == (
        "has 5 columns; d has 8 losses (11 with each position 0), and there is no m.columns.parquet beside it to say "
        "which these are."
    )
    assert reason(row, step=(3, 4)) == "has 1 row; given are 2 steps."
    assert reason(row, step=None).startswith(
        "has 1 row, does not say of which steps, and there is no m.rows.parquet"
    )
    assert reason(row, model=None) == "does not say which model its losses are of: model=M"
    assert reason(row.astype(int)) == "holds int64; losses are floating-point numbers."
    assert "Python objects in dtype" in reason(np.array([[None] * 8], dtype=object))
    assert reason(
        np.insert(row, 0, 3.5, axis=1)[:, :8], sites.with_columns(position=pl.col("position") - 1)
    ) == (
        "row 0 (from 0) of /m.npy: column 0 is of a position 0, which has no loss (0 or NaN), and holds 3.5"
    )
    low = row.copy()
    low[0, 5:7] = -1, np.inf
    assert reason(low) == (
        "row 0 (from 0) of /m.npy: 2 losses cannot be right; the first is -1.0 at context 2, position 1 (a loss is "
        "finite, at least -0.001 and at most 131008 nats)"
    )
    low[0, 5] = np.nan
    low[0, 6] = 1
    assert reason(low) == "context 2 lacks losses at positions 1; a context is there whole or not at all"
    assert reason(row, sites.head(7)) == "/m.columns.parquet has labels for 7 columns; the matrix has 8."
    assert (
        reason(row, sites.drop("context"))
        == "/m.columns.parquet has no column 'context'; its columns are: position."
    )
    assert reason(row, sites.with_columns(dataset=pl.lit("q"))) == (
        "/m.columns.parquet has no column of the dataset d; they are of: q."
    )
    assert reason(row, sites.with_columns(context=pl.col("context") + 1)) == (
        "/m.columns.parquet names context 1, position 2 for column 1 (from 0), which d does not have."
    )
    tokens = pl.Series("token", [IDS[c][p] for c, p in SITES])
    assert reason(row, sites.with_columns(tokens.scatter(2, 9))) == (
        "/m.columns.parquet names the token 9 at context 0, position 3; d has 3 there."
    )
    assert reason(row, pl.concat([sites.head(7), sites.head(1)])) == (
        "/m.columns.parquet names a context and position of d for two columns."
    )
    assert store.model_names() == []


def test_arrays_that_are_not_losses(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    for arrays, message in (
        ({"loss": [1.0]}, "has no array 'losses'; it needs losses and steps and has: loss."),
        ({"losses": [[1.0]]}, "has no array 'steps'; it needs losses and steps and has: losses."),
        (
            {"losses": [[1.0]], "steps": [0.5]},
            "has steps of float64 (1,); they are a list of whole numbers.",
        ),
        (
            {"losses": np.array([[None]]), "steps": [1]},
            "holds Python objects; losses are floating-point numbers.",
        ),
    ):
        np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
        assert reasons(ingest(store, path, dataset="d", model="m")) == {str(path): message}
    write(tmp_path / "w.parquet", pl.DataFrame({"losses": [[1.0] * 8]}))
    assert (
        "has no column 'step'"
        in reasons(ingest(store, tmp_path / "w.parquet", dataset="d", model="m"))[str(tmp_path / "w.parquet")]
    )
    write(
        tmp_path / "w.parquet", pl.DataFrame({"model": "m", "step": [0, 1], "losses": [[1.0] * 8, [1.0] * 7]})
    )
    report = ingest(store, tmp_path / "w.parquet", dataset="d")
    assert (report.written, list(reasons(report).values())) == (
        1,
        ["has 7 losses in row 1 (from 0), 8 in others."],
    )
    write(path.with_suffix(".parquet"), pl.DataFrame({"step": [None, 1], "losses": [[1.0] * 8] * 2}))
    (reason,) = reasons(ingest(store, path.with_suffix(".parquet"), dataset="d", model="m")).values()
    assert reason == "has a row whose step is None; a step is a whole number."


# a dataset of the file's own tokens


def with_first(table: list[Row]) -> list[Row]:
    return table + [
        {**table[0], "context": c, "position": 0, "token": ids[0], "loss": None} for c, ids in enumerate(IDS)
    ]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    save_tokenizer(tmp_path / "t", [f"w{n}" for n in range(64)])
    return str(tmp_path / "t")


def test_a_dataset_of_the_files_own_tokens(store: Store, tmp_path: Path, tokenizer: str) -> None:
    table = with_first(rows()) + rows(step=1, seed=1)
    one, two = write(tmp_path / "1.parquet", table[9:]), write(tmp_path / "2.csv", table[:9])
    words = ["ingest", str(one), str(two), "-d", "mine", "--new-dataset", "--tokenizer", tokenizer]
    result = CliRunner().invoke(app, [*words, "-s", str(store.path)])
    assert result.exit_code == 0, result.stderr
    made = store.dataset("mine")
    assert [ids.tolist() for ids in made.ids()] == [list(ids) for ids in IDS]
    assert made.frame()["text"].to_list()[:2] == ["w0", "w1"]
    assert made.source["source"] == f"{one}, {two}"
    assert there(store) == of(rows(), rows(step=1, seed=1))
    assert "2 slices written" in result.stderr
    assert "3 losses of position 0, which has none, were left out." in result.stderr
    again = CliRunner().invoke(app, [*words, "-s", str(store.path)])
    assert "0 slices written, 2 there already" in again.stderr
    other = write(tmp_path / "3.csv", with_first([{**row, "token": 3} for row in rows()]))
    result = CliRunner().invoke(app, ["ingest", str(other), *words[3:], "-s", str(store.path)])
    assert result.exit_code == 1
    assert "exists with other tokens" in result.stderr


def test_bos_for_all_contexts(store: Store, tmp_path: Path, tokenizer: str) -> None:
    path = write(tmp_path / "x.csv", rows())
    words = [
        "ingest",
        str(path),
        "-d",
        "mine",
        "--new-dataset",
        "--tokenizer",
        tokenizer,
        "-s",
        str(store.path),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stderr.strip() == (
        "Error: The first token of context 0 is not in the files: it is needed in a row of position 0 with an empty "
        "loss. If every context begins with the same token: --bos ID"
    )
    assert store.dataset_names() == ["d"]
    assert CliRunner().invoke(app, [*words, "--bos", "63"]).exit_code == 0
    assert [ids.tolist() for ids in store.dataset("mine").ids()] == [[63, *ids[1:]] for ids in IDS]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(2, token=9), None),
        (
            lambda t: t.append({**t[2], "step": 1, "token": 9}),
            "context 0, position 3 is 3 in one row and 9 in another",
        ),
        (change(2, position=7), r"Context 0 has no row of positions 3, 5–6\."),
        (
            change(4, context=9, token=None),
            r"no whole number for its context, position or token \(context 9, position 1\)",
        ),
        (
            lambda t: [t.remove(r) for r in list(t) if r["context"] == 1],
            "no row of context 1; contexts are numbered from 0",
        ),
        (change(2, token=-3), "Context 0 has ids from -3 to 4; ids are 0 to 2147483647"),
        (everywhere(dataset=lambda _: "other"), "The files have no rows to make a dataset of"),
        (lambda t: [r.pop("token") for r in t], "has no column 'token', so no dataset can be made of it"),
    ],
)
def test_tokens_that_make_no_dataset(store: Store, tmp_path: Path, spoil: Any, message: str | None) -> None:
    table = with_first(rows())
    spoil(table)
    path = write(tmp_path / "x.csv", table)

    def make(ids: list[np.ndarray]) -> Any:
        return ragged([len(context) for context in ids])

    if message is None:
        assert ingest(store, path, dataset="new", make_dataset=make).failures
        return
    with pytest.raises(BadDataset, match=message):
        ingest(store, path, dataset="new", make_dataset=make)
    np.save(tmp_path / "m.npy", [losses(0)])
    with pytest.raises(BadDataset, match="A matrix holds no tokens"):
        ingest(store, tmp_path / "m.npy", dataset="new", make_dataset=make)
    assert store.dataset_names() == ["d"]


# the command


def run(store: Store, *words: object) -> Any:
    result = CliRunner().invoke(app, ["ingest", *map(str, words), "-s", str(store.path)])
    assert result.stdout == ""
    return result


def test_the_command_says_what_it_did(store: Store, tmp_path: Path) -> None:
    bad = rows()
    bad[3]["token"] = 5
    path = write(tmp_path / "x.csv", bad + rows(step=1))
    result = run(store, path, "-d", "d")
    assert result.exit_code == 1
    assert "d: 1 slice written, 0 there already; 16 rows read in" in result.stderr
    assert (
        f"m on d at step 0: row 4 of {path}: the token at context 0, position 4 is 5; d has 4 there"
        in result.stderr
    )
    assert result.stderr.splitlines()[-1] == "1 was not taken; everything else was."
    half = write(
        tmp_path / "y.csv",
        [{k: v for k, v in r.items() if k not in ("model", "step", "token")} for r in rows()[5:]],
    )
    result = run(store, half, "-d", "d", "-m", "n", "--step", "4", "--partial", "--map", "loss=loss")
    assert result.exit_code == 0
    assert "1 slice written (1 of them still lack contexts)" in result.stderr
    assert "3 rows do not say their token, so it was not compared with the dataset's." in result.stderr


def test_many_failures_are_cut(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [row for step in range(30) for row in rows(step=step)[:3]])
    lines = run(store, path, "-d", "d").stderr.splitlines()
    assert lines[-1] == "30 were not taken; nothing else was there. 10 more are like these."
    assert sum(line.startswith("m on d at step") for line in lines) == 20


def test_steps_from_a_file(store: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([losses(n) for n in range(3)], dtype=np.float32))
    (tmp_path / "steps.txt").write_text("0, 1\n512\n")
    assert (
        run(store, tmp_path / "m.npy", "-d", "d", "-m", "m", "--steps-file", tmp_path / "steps.txt").exit_code
        == 0
    )
    assert store.steps("m", "d") == [0, 1, 512]
    np.save(tmp_path / "steps.npy", np.array([4.0, 8.0]))
    assert steps_in(tmp_path / "steps.npy") == [4, 8]
    for name, text in (("a.txt", "one"), ("b.txt", "1.5"), ("none.txt", None)):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(BadSource, match=rf"Cannot read steps from .*{name}: "):
            steps_in(tmp_path / name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--new-dataset"], "--new-dataset and --tokenizer T go together"),
        (["--tokenizer", "t"], "--new-dataset and --tokenizer T go together"),
        (["--step", "1", "--steps-file", "x"], "give --step or --steps-file, and not both"),
        (["--step", "last"], "'last' is no step; it takes numbers joined by commas, as in 0,1,2,4"),
        (["--map", "nll"], "'nll' is not THEIRS=OURS, as in nll=loss, each column once"),
        (
            ["--map", "a=loss", "--map", "a=token"],
            "'a=token' is not THEIRS=OURS, as in nll=loss, each column once",
        ),
    ],
)
def test_wrong_usage(store: Store, tmp_path: Path, words: list[str], message: str) -> None:
    result = run(store, write(tmp_path / "x.csv", rows()), "-d", "d", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


# size, order, and the round trip

MEASURE = """
import re, sys
from pathlib import Path
from trajstore.importers.ingest import ingest
from trajstore.store.store import Store

def peak():  # of this program, which ru_maxrss would mix with the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

with Store(sys.argv[1]) as store:
    store.sql("SELECT 1").pl()
    before = peak()
    report = ingest(store, sys.argv[2], dataset="long", budget=4 << 20)
    assert not report.failures, report.failures[0]
    print(report.written, peak() - before)
"""
BOUND = 160.0
"""Megabytes that reading takes beside what is imported, with 4 MiB of rows held."""


def long_file(path: Path, steps: int, contexts: int, length: int) -> None:
    """A file of whole slices, the steps running fastest, so that all slices are open until the end."""
    whole = [(name, pa.int64()) for name in ("step", "context", "position")]
    schema = pa.schema([("model", pa.string()), *whole, ("loss", pa.float64())])
    rows = steps * contexts * (length - 1)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1 << 17):
            row = np.arange(start, min(start + (1 << 17), rows))
            step, site = row % steps, row // steps
            context, position = site // (length - 1), site % (length - 1) + 1
            loss = ((step * 31 + position * 7 + context) % 1000) / 64
            model = pa.DictionaryArray.from_arrays(np.zeros(len(row), np.int8), ["model"]).cast(pa.string())
            writer.write_table(pa.table([model, step, context, position, loss], schema=schema))


def grown(store: Store, path: Path) -> tuple[int, float]:
    command = [sys.executable, "-c", MEASURE, str(store.path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    written, megabytes = done.stdout.split()
    return int(written), float(megabytes)


@pytest.mark.parametrize(("most", "contexts"), [(500, 50), pytest.param(1250, 240, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(store: Store, tmp_path: Path, most: int, contexts: int) -> None:
    """Ten times the rows (3.2 million, 130 MB as Arrow) in little more memory; the slow file is ten times the bound."""
    length = 129
    store.add_dataset("long", ragged([length] * contexts))
    measured = []
    for steps in (50, most):
        path = tmp_path / f"{steps}.parquet"
        long_file(path, steps, contexts, length)
        written, megabytes = grown(store, path)
        assert written == steps
        measured.append(megabytes)
        store.drop(store.chosen_slices("model"))
    assert max(measured) < BOUND
    assert measured[1] - measured[0] < 64


def test_rows_that_do_not_fit_in_memory_are_spilled(store: Store, tmp_path: Path) -> None:
    table = [row for step in range(20) for row in rows(step=step, seed=step)]
    np.random.default_rng(0).shuffle(table)  # type: ignore[arg-type]
    path = write(tmp_path / "x.csv", table)
    assert ingest(store, path, dataset="d", budget=0).written == 20
    assert there(store) == of(table)
    table.append(dict(table[0]))
    report = ingest(store, write(tmp_path / "y.csv", table), dataset="d", budget=0)
    assert "for the second time, after row 1 of" in next(iter(reasons(report).values()))
    assert report.skipped == 19


def test_batches_meet_slices_anywhere(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first bad row is named though others of its slice came before it and after it in other batches."""
    from trajstore.store.files import foreign_tables

    monkeypatch.setattr(foreign_tables, "BATCH", 2048)  # DuckDB's vectors are no shorter
    store.add_dataset("wide", ragged([3000]))
    table = [
        {"model": m, "step": 1, "context": 0, "position": p, "loss": p / 700}
        for p in range(1, 3000)
        for m in "ab"
    ]
    table[4001]["loss"] = table[5901]["loss"] = -1.0
    path = write(tmp_path / "x.parquet", table)
    report = ingest(store, path, dataset="wide")
    assert report.written == 1
    assert reasons(report) == {
        "b on wide at step 1": f"row 4002 of {path}: the loss at context 0, position 2001 is -1.0; {LOSS}; 1 more rows "
        "are wrong"
    }


def test_too_many_slices_are_a_mistake(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trajstore.importers import long_tables

    monkeypatch.setattr(long_tables, "_MOST_SLICES", 5)
    path = write(tmp_path / "x.csv", rows())
    report = ingest(store, path, dataset="d", columns={"step": "", "token": "step"})
    assert (
        "more than 5 different (model, step): does the column step hold steps?" in reasons(report)[str(path)]
    )


def test_progress_moves_over_bytes_and_slices(store: Store, tmp_path: Path) -> None:
    class Seen:
        def __init__(self) -> None:
            self.bars: list[list[int]] = []

        def start(self, label: str, total: int, unit: str) -> None:
            self.bars.append([total, 0])

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.bars[-1][1] += amount

        def stop(self) -> None: ...

        def say(self, message: str) -> None: ...

    seen = Seen()
    for name in ("x.parquet", "y.csv"):
        ingest(store, write(tmp_path / name, rows() + rows("n")), dataset="d", progress=seen)
    for total, done in seen.bars:
        assert 0.5 * total < done <= total
    assert [total for total, _ in seen.bars][1::2] == [2, 2]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=5),
    steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=4, unique=True),
    kind=st.sampled_from(["csv", "parquet", "jsonl", "arrow"]),
    budget=st.sampled_from([0, 500, 1 << 20]),
    seed=st.integers(0, 2**16),
)
def test_long_to_slices_to_matrix_to_long(
    tmp_path_factory: pytest.TempPathFactory,
    new_store: NewStore,
    lengths: list[int],
    steps: list[int],
    kind: str,
    budget: int,
    seed: int,
) -> None:
    """Ragged datasets, rows in any order, losses of any magnitude: what goes in comes out, by every way."""
    folder, rng = tmp_path_factory.mktemp("x"), np.random.default_rng(seed)
    with new_store(folder / "store") as store:
        made = store.add_dataset("d", ragged(lengths, seed))
        ids = made.ids()
        table = [
            {
                "model": model,
                "step": step,
                "context": c,
                "position": p,
                "token": int(ids[c][p]),
                "loss": float(np.float32(10.0 ** rng.uniform(-9, 2))),
            }
            for model in ("x", "y")
            for step in steps
            for c, n in enumerate(lengths)
            for p in range(1, n)
        ]
        expected = of(table)
        rng.shuffle(table)  # type: ignore[arg-type]
        assert ingest(store, write(folder / f"x.{kind}", table), dataset="d", budget=budget).failures == []
        assert there(store) == expected
        save_matrix(store.matrix("d"), folder / "m.npy")
        store.drop(store.chosen_slices("x") + store.chosen_slices("y"))
        assert ingest(store, folder / "m.npy", dataset="d").written == 2 * len(steps)
        assert there(store) == expected


@pytest.mark.parametrize("name", ["m.npy", "m.npz", "m.parquet", "m.arrow"])
def test_an_export_of_one_model_is_taken_under_another_name(
    planted: Store, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    command = ["matrix", str(file), "-d", "d", "-s", str(planted.path), "-m"]
    assert CliRunner().invoke(app, [*command, "a"]).exit_code == 0
    result = run(planted, file, "-d", "d", "-m", "copy")
    assert result.exit_code == 0, result.stderr
    assert f"The losses of a in {file} are taken as those of copy." in result.stderr
    assert planted.steps("copy", "d") == planted.steps("a", "d") != []
    step = planted.steps("a", "d")[-1]
    np.testing.assert_array_equal(
        planted.slice_losses("copy", "d", step), planted.slice_losses("a", "d", step)
    )
    assert CliRunner().invoke(app, [*command, "a,b", "--steps", "8"]).exit_code == 0
    result = run(planted, file, "-d", "d", "-m", "other")
    assert result.exit_code == 1
    assert "has losses of a, b, and none of other" in result.stderr
    assert "other" not in planted.model_names()


def test_of_several_matrices_the_model_asked_for_is_taken(planted: Store, tmp_path: Path) -> None:
    for model in ("a", "b"):
        command = ["matrix", str(tmp_path / f"{model}.npz"), "-d", "d", "-s", str(planted.path), "-m", model]
        assert CliRunner().invoke(app, command).exit_code == 0
    result = run(planted, tmp_path / "a.npz", tmp_path / "b.npz", "-d", "d", "-m", "a")
    assert result.exit_code == 0
    assert "0 slices written" in result.stderr
    assert "of other datasets, models or steps" in result.stderr
