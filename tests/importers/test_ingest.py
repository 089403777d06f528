"""Files of losses computed elsewhere: written by hand, read back by SQL, and every mistake in them named."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.importers.conftest import (
    COLUMNS,
    IDS,
    LOSS,
    SHIFTED,
    WHOLE,
    Row,
    change,
    everywhere,
    losses,
    of,
    reasons,
    rows,
    there,
    write,
)
from trajstore.cli import app
from trajstore.errors import BadName, BadSource, TrajstoreError, UnknownName
from trajstore.importers.ingest import ingest
from trajstore.store import checks
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.usefixtures("_dataset")

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
