"""Folders, tables and tokenizers that datasets are drawn from, and those that cannot be."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    models,
)
from transformers import PreTrainedTokenizerFast

from tests.datasets.conftest import TEXT, byte_level, lists, sentences, tokens_of, write
from tests.helpers.progress import Heard
from trajstore.checkpoints import hub
from trajstore.datasets.build import build_dataset, from_ids
from trajstore.datasets.tokenizers import load_tokenizer, tokenizer_facts
from trajstore.errors import BadDataset, TokenizerNotFound
from trajstore.text import join_pieces

# Sources


def test_folder_takes_visible_utf8_files_by_relative_path(tmp_path: Path, tokenizer_folder: str) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"a name that is not UTF-8")
    kept = {"b.txt": "bees and trees\r\n", "a/z.md": "zebras only here", "a/deep/er/x": "xylophones sound"}
    for name, text in {
        **kept,
        ".hidden.txt": "hidden one",
        ".git/config": "hidden two",
        "a/.x/y": "hidden",
    }.items():
        write(tmp_path / name, text)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    heard = Heard()
    new = build_dataset(str(tmp_path), tokenizer_folder, contexts=9, progress=heard)
    found = dict(zip(new.contexts["document"], (join_pieces(texts) for texts in new.texts), strict=True))
    assert found == {**kept, "caf\\xe9": "a name that is not UTF-8"}
    assert heard.lines[0] == f"1 of 5 files in {tmp_path} are not UTF-8: left out."
    assert new.source == {"source": str(tmp_path), "contexts": 9, "length": 512, "seed": 0}


def test_a_folder_with_tables_is_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    write(tmp_path / "notes.txt", TEXT)
    write(tmp_path / "deep" / "rows.jsonl", '{"text": "a b c"}')
    write(tmp_path / "rows.parquet", "PAR1")
    with pytest.raises(
        BadDataset, match=r"holds tables: deep/rows\.jsonl, rows\.parquet\. Give the table itself"
    ):
        build_dataset(str(tmp_path), tokenizer_folder)


def test_ids_may_reach_into_the_rows_that_models_have_to_spare() -> None:
    limit = -(-len(byte_level()) // 512) * 512
    assert lists(from_ids([[0, limit - 1]], byte_level(), "t")) == [[0, limit - 1]]
    with pytest.raises(
        BadDataset, match=f"Context 0 has the id {limit} at position 1, .* ids are below {limit}"
    ):
        from_ids([[0, limit]], byte_level(), "t")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_tables_give_a_document_a_row(tmp_path: Path, tokenizer_folder: str, suffix: str) -> None:
    frame = pl.DataFrame({"body": [*sentences(20), None, ""], "n": range(22)})
    source = tmp_path / f"part[1]=*.{suffix}"  # nothing in a name is a pattern
    frame.write_ndjson(source) if suffix == "jsonl" else frame.write_parquet(source)
    new = build_dataset(str(source), tokenizer_folder, contexts=50, column="body", seed=5)
    rows = [int(name.split("#")[1]) for name in new.contexts["document"]]
    assert sorted(rows) == list(range(20))
    assert rows != sorted(rows)
    assert lists(new) == [tokens_of(frame["body"][row]) for row in rows]
    assert new.source["column"] == "body"
    with pytest.raises(BadDataset, match=r"no column 'text'; it has: body, n\. Choose one with column"):
        build_dataset(str(source), tokenizer_folder)
    with pytest.raises(BadDataset, match=r"column 'n' of .* holds Int64, not text"):
        build_dataset(str(source), tokenizer_folder, column="n")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_input_ids_are_taken_as_they_are(tmp_path: Path, tokenizer_folder: str, suffix: str) -> None:
    rows = [
        {
            "input_ids": [5, 6, 600],
            "category": "x",
            "shot": 0,
            "document": "d",
            "p": 0.5,
            "q": "é",
            "deep": [1],
        },
        {
            "input_ids": [7] * 700,
            "category": None,
            "shot": 3,
            "document": "e",
            "p": None,
            "q": "",
            "deep": [],
        },
        {
            "input_ids": [0, 1],
            "category": "y",
            "shot": 1,
            "document": None,
            "p": 1.0,
            "q": "1",
            "deep": [2, 3],
        },
    ]
    source = tmp_path / f"ids.{suffix}"
    if suffix == "jsonl":
        source.write_text("\n".join(map(json.dumps, rows)))
    else:
        pl.DataFrame(rows, schema_overrides={"input_ids": pl.List(pl.UInt16)}).write_parquet(source)
    heard = Heard()
    new = build_dataset(str(source), tokenizer_folder, contexts=1, length=2, progress=heard)
    assert lists(new) == [row["input_ids"] for row in rows]
    assert {ids.dtype for ids in new.ids} == {np.dtype(np.int32)}
    assert new.texts[0][2] == "<token 600>"
    assert new.contexts["category"].to_list() == ["x", None, "y"]
    assert new.contexts["shot"].to_list() == [0, 3, 1]
    assert new.contexts["document"].to_list() == ["d", "e", None]
    assert [json.loads(meta) for meta in new.contexts["meta"]] == [{"p": r["p"], "q": r["q"]} for r in rows]
    assert "deep" in heard.lines[0]
    assert "3 rows are taken as they are" in heard.lines[1]
    assert new.source == {"source": str(source), "column": "input_ids"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"input_ids": [1, 2]}, {"input_ids": [3]}], r"Row 1 of .* has 1 tokens"),
        ([{"input_ids": [1, 2]}, {"input_ids": None}], r"Row 1 of .* has 0 tokens"),
        ([{"input_ids": [1, 2]}, {"input_ids": [3, -4]}], r"Row 1 of .* ids from -4 to 3"),
        ([{"input_ids": [1, 2]}, {"input_ids": [3, 2**31]}], r"Row 1 of .* ids are 0 to 2147483647"),
        (
            [{"input_ids": [1, 2]}, {"input_ids": [3, 4, 9999]}],
            r"Row 1 of .* the id 9999 at position 2, .*with tokenizer",
        ),
        ([{"input_ids": [1, None, 2]}], r"Row 0 of .* without gaps"),
        ([{"input_ids": [1.5, 2.0]}], "must be lists of whole numbers; it holds List"),
        ([{"input_ids": "1 2 3"}], "must be lists of whole numbers; it holds String"),
        ([{"input_ids": [1, 2], "shot": "few"}], "shot of .* must be whole numbers; it holds String"),
        ([{"input_ids": [1, 2], "shot": 1.5}], "shot of .* must be whole numbers; it holds Float64"),
    ],
)
def test_input_ids_that_cannot_be(
    tmp_path: Path, tokenizer_folder: str, rows: list[Any], message: str
) -> None:
    source = write(tmp_path / "ids.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(BadDataset, match=message):
        build_dataset(source, tokenizer_folder)


def test_ids_of_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    source = write(
        tmp_path / "lists.jsonl", '{"input_ids": [2, 0, 3, 0, 2]}\n{"input_ids": [1, 1], "kind": "tie"}'
    )
    numbers = build_dataset(source, "none")
    assert (lists(numbers), numbers.texts[0]) == ([[2, 0, 3, 0, 2], [1, 1]], ["2", "0", "3", "0", "2"])
    assert (numbers.tokenizer.name, numbers.tokenizer.size) == ("none", 4)
    file = write(tmp_path / "vocabulary.json", '{"a": 0, "b": 1, "c": 2, "|": 3, "unseen": 9}')
    named = build_dataset(source, "none", vocabulary=file)
    assert named.texts == [["c", "a", "|", "a", "c"], ["b", "b"]]
    assert json.loads(named.contexts["meta"][1]) == {"kind": "tie"}
    assert named.tokenizer.vocabulary_sha256 != numbers.tokenizer.vocabulary_sha256
    ordered = write(tmp_path / "list.json", '["a", "b", "c", "|"]')
    assert build_dataset(source, "none", vocabulary=ordered).texts == named.texts


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ('["a", "b"]', "Context 0 has the id 2, which the vocabulary does not have"),
        ('["a", "b", "a"]', "a text or an id twice"),
        ('{"a": 0, "b": 0}', "a text or an id twice"),
        ('{"a": "0"}', "or a list of texts"),
        ("a b c", "cannot be read as JSON"),
    ],
)
def test_vocabularies_that_cannot_be(tmp_path: Path, vocabulary: str, message: str) -> None:
    source = write(tmp_path / "lists.jsonl", '{"input_ids": [2, 0]}')
    with pytest.raises(BadDataset, match=message):
        build_dataset(source, "none", vocabulary=write(tmp_path / "vocabulary.json", vocabulary))


def test_texts_without_a_tokenizer_and_a_vocabulary_beside_one_are_refused(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    with pytest.raises(BadDataset, match="a column input_ids, a context a row"):
        build_dataset(write(tmp_path / "notes.txt", "a b c"), "none")
    with pytest.raises(BadDataset, match="vocabulary is for token ids with"):
        build_dataset(str(tmp_path / "notes.txt"), tokenizer_folder, vocabulary="v.json")


def test_sources_that_cannot_be(tmp_path: Path, tokenizer_folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    cases = {
        "no/such/folder/x.txt": "There is no file or folder 'no/such/folder/x.txt'",
        "notes/corpus.csv": "There is no file or folder 'notes/corpus.csv'",
        "./nothing": "There is no file or folder './nothing'",
        "corpus.jsonl": "There is no file or folder 'corpus.jsonl'",
        str(tmp_path / "absent"): "There is no file or folder",
        "": "There is no file or folder",
        write(tmp_path / "table.csv", "a,b"): "of a kind that is not read",
        str(tmp_path / "empty"): "no document of 2 tokens or more .0 looked at",
        write(tmp_path / "short.txt", "a"): "no document of 2 tokens or more .1 looked at",
        str(tmp_path / "latin.txt"): "is not UTF-8 text",
        write(tmp_path / "broken.jsonl", '{"text": "a b c"}\n{"text": '): "cannot be read as .jsonl",
        write(tmp_path / "nothing.jsonl", ""): "nothing.jsonl",
        write(tmp_path / "broken.parquet", "PAR1 not really PAR1"): "cannot be read as .parquet",
    }
    for source, message in cases.items():
        with pytest.raises(BadDataset, match=message):
            build_dataset(source, tokenizer_folder)
    with pytest.raises(BadDataset, match=r"SOURCE is a \.txt file"):
        build_dataset("no/such/folder/x.txt", tokenizer_folder)


@pytest.mark.parametrize("options", [{"contexts": 0}, {"length": 1}, {"seed": -1}])
def test_options_that_cannot_be(tmp_path: Path, tokenizer_folder: str, options: dict[str, int]) -> None:
    with pytest.raises(BadDataset, match="contexts is 1 or more, length 2 or more, seed 0 or more"):
        build_dataset(write(tmp_path / "a.txt", TEXT), tokenizer_folder, **options)  # type: ignore[arg-type]


# Tokenizers


def test_tokenizer_facts_are_a_hash_over_id_and_piece() -> None:
    backend = Tokenizer(models.WordLevel({"b": 1, "é": 0, "[U]": 2}, unk_token="[U]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[U]")
    tokenizer.add_tokens([AddedToken("+")])
    facts = tokenizer_facts(tokenizer, "some/name")
    text = '[[0,"\\u00e9"],[1,"b"],[2,"[U]"],[3,"+"]]'
    assert facts.vocabulary_sha256 == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert (facts.name, facts.size) == ("some/name", 4)


def test_tokenizer_of_a_folder_of_checkpoints_is_the_last_that_has_one(tmp_path: Path) -> None:
    for step in ("step0", "step9", "step10", "step200", "checkpoints-old"):
        (tmp_path / step).mkdir()
    (tmp_path / "step200" / "config.json").write_text("{}")
    byte_level().save_pretrained(tmp_path / "step9")
    other = byte_level().train_new_from_iterator(["a b c"], 300, show_progress=False)
    other.save_pretrained(tmp_path / "step10")
    assert tokenizer_facts(load_tokenizer(str(tmp_path)), "x") == tokenizer_facts(other, "x")
    (tmp_path / "step10" / "tokenizer.json").rename(tmp_path / "step10" / "elsewhere.json")
    assert tokenizer_facts(load_tokenizer(str(tmp_path)), "x") == tokenizer_facts(byte_level(), "x")


def test_tokenizers_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "step5").mkdir()
    with pytest.raises(
        TokenizerNotFound, match=r"nor any of its 1 checkpoints.*A tokenizer is a Hugging Face"
    ):
        load_tokenizer(str(tmp_path))
    (tmp_path / "step5" / "tokenizer.json").write_text("{broken")
    with pytest.raises(TokenizerNotFound, match="No tokenizer could be loaded from"):
        load_tokenizer(str(tmp_path))
    monkeypatch.setattr(hub, "unavailable", None)  # the Hub is not asked
    for name in ("/no/such/folder", "./nope", "../nope", "~/nope", "runs/a/b"):
        with pytest.raises(TokenizerNotFound, match=f"'{name}': there is no such folder"):
            load_tokenizer(name)
    with pytest.raises(TokenizerNotFound, match="it is a file; name the folder"):
        load_tokenizer(str(tmp_path / "step5" / "tokenizer.json"))
