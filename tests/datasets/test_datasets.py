"""Contexts drawn from sources: windows, seeds, byte offsets, tables of ids, tokenizers, a Hub on loopback."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from tests.helpers.progress import Heard
from trajstore.checkpoints import hub
from trajstore.datasets import build
from trajstore.datasets.build import build_dataset, from_ids
from trajstore.datasets.sampling import windows_of
from trajstore.datasets.sources import Document
from trajstore.datasets.token_bytes import token_bytes
from trajstore.datasets.tokenizers import load_tokenizer, tokenizer_facts
from trajstore.errors import BadDataset, TokenizerNotFound
from trajstore.store.files.datasets import CONTEXT_COLUMNS
from trajstore.text import join_pieces

if TYPE_CHECKING:
    from trajstore.store.files.datasets import NewDataset

TEXT = topics["integers"] + topics["strings"] + topics["numbers"]
"""About 14 thousand bytes of Python's own documentation."""


@cache
def byte_level(trim_offsets: bool = False, nfc: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with 512 entries; characters beyond Latin stay in pieces."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=512, initial_alphabet=alphabet, show_progress=False)
    )
    backend.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    if nfc:
        backend.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", model_max_length=16)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level().save_pretrained(folder)
    return str(folder)


def tokens_of(text: str) -> list[int]:
    ids: list[int] = byte_level()(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return str(path)


def lists(new: NewDataset) -> list[list[int]]:
    return [ids.tolist() for ids in new.ids]


def sentences(count: int) -> list[str]:
    """Different short documents of at least 2 tokens."""
    return [f"Sentence number {n} of {count}. " * (1 + n % 3) for n in range(count)]


# Drawing


def test_a_long_document_gives_windows_that_tile_it(tmp_path: Path, tokenizer_folder: str) -> None:
    source = write(tmp_path / "docs.txt", TEXT)
    heard = Heard()
    new = build_dataset(source, tokenizer_folder, contexts=1000, length=50, seed=3, progress=heard)
    ids = tokens_of(TEXT)
    count, slack = divmod(len(ids), 50)
    assert len(new.ids) == count
    assert {len(context) for context in new.ids} == {50}
    starts = [next(s for s in range(len(ids)) if ids[s : s + 50] == context) for context in lists(new)]
    ordered = sorted(starts)
    assert [b - a for a, b in pairwise(ordered)] == [50] * (count - 1)  # none overlaps, none is missing
    assert 0 <= ordered[0] <= slack
    assert starts != ordered  # in random order
    assert heard.lines == [f"1000 contexts were asked for; {source} gave {count} (documents: 1)."]
    assert (heard.bars, heard.done, heard.open) == ([("drawing contexts", 1000, "contexts")], count, 0)
    assert new.contexts["document"].unique().to_list() == ["docs.txt"]
    assert new.contexts.schema == pl.Schema(CONTEXT_COLUMNS)


def test_offsets_are_spread_over_all_that_is_left_over() -> None:
    """A document of 2·5 + 3 tokens: the offset is 0 to 3, each about as often."""
    text = byte_level().decode(tokens_of(TEXT)[100:113])
    ids, bytes_of = tokens_of(text), token_bytes(byte_level())
    assert len(ids) == 13
    starts = np.cumsum([0, *(len(bytes_of(token)) for token in ids)]).tolist()
    document = Document(0, "a", text)
    windows = [windows_of(document, byte_level(), 5, seed, 9) for seed in range(400)]
    offsets = [starts.index(min(window.bytes[0] or 0 for window in pair)) for pair in windows]
    assert {len(pair) for pair in windows} == {2}
    assert set(offsets) <= {0, 1, 2, 3}
    assert min(offsets.count(n) for n in range(4)) > 60


def test_the_same_seed_gives_the_same_and_another_seed_others(tmp_path: Path, tokenizer_folder: str) -> None:
    source = write(tmp_path / "docs.txt", TEXT)

    def draw(seed: int, contexts: int = 8) -> list[list[int]]:
        return lists(build_dataset(source, tokenizer_folder, contexts=contexts, length=40, seed=seed))

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert draw(0, 20)[:8] == draw(0)  # asking for more adds to the end


def test_rounds_take_one_window_of_each_document_in_turn(tmp_path: Path, tokenizer_folder: str) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.txt", topics["integers"] if name == "a" else TEXT)
    new = build_dataset(str(tmp_path), tokenizer_folder, contexts=100, length=100, seed=1)
    documents = new.contexts["document"].to_list()
    windows = {"a.txt": len(tokens_of(topics["integers"])) // 100, "b.txt": len(tokens_of(TEXT)) // 100}
    assert documents[:3] == documents[3:6]
    assert sorted(documents[:3]) == ["a.txt", "b.txt", "c.txt"]
    assert documents.count("a.txt") == windows["a.txt"]
    assert documents.count("b.txt") == documents.count("c.txt") == windows["b.txt"]
    last = len(documents) - 1 - documents[::-1].index("a.txt")
    assert set(documents[last + 1 :]) == {"b.txt", "c.txt"}  # the shorter one ran out first
    b, c = (
        [ids.tolist() for ids, name in zip(new.ids, documents, strict=True) if name == f"{x}.txt"]
        for x in "bc"
    )
    assert b != c  # equal texts, but each document's randomness is its own


def test_a_document_draws_the_same_however_many_came_before(tmp_path: Path, tokenizer_folder: str) -> None:
    for n, text in enumerate(sentences(9)):
        write(tmp_path / f"{n}.txt", text + TEXT[: 2000 + 100 * n])
    few = build_dataset(str(tmp_path), tokenizer_folder, contexts=4, length=30)
    many = build_dataset(str(tmp_path), tokenizer_folder, contexts=60, length=30)
    assert lists(many)[:4] == lists(few)
    assert few.contexts.rows() == many.contexts.rows()[:4]


def test_only_documents_that_come_up_are_tokenised(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, text in enumerate(sentences(30)):
        write(tmp_path / f"{n:02}.txt", text)
    calls = []

    class Counting(PreTrainedTokenizerFast):
        def __call__(self, text: str, **options: Any) -> Any:
            calls.append(text)
            return super().__call__(text, **options)

    tokenizer = Counting.from_pretrained(tokenizer_folder)
    monkeypatch.setattr(build, "load_tokenizer", lambda name: tokenizer)
    build_dataset(str(tmp_path), tokenizer_folder, contexts=7)
    assert len(calls) == 7


def test_short_documents_are_whole_and_too_short_ones_left_out(tmp_path: Path, tokenizer_folder: str) -> None:
    texts = [*sentences(5), "", "a"]
    for n, text in enumerate(texts):
        write(tmp_path / f"{n}.txt", text)
    new = build_dataset(str(tmp_path), tokenizer_folder, contexts=10, length=500)
    assert sorted(lists(new)) == sorted(tokens_of(text) for text in texts[:5])
    for row in new.contexts.iter_rows(named=True):
        assert (row["byte_start"], row["byte_end"]) == (0, len(texts[int(row["document"][0])]))


def test_no_special_token_and_no_warning_about_length(
    tmp_path: Path, tokenizer_folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "docs.txt", TEXT)
    new = build_dataset(source, tokenizer_folder, contexts=2, length=100)  # the model's length is 16
    assert all(byte_level().eos_token_id not in ids for ids in lists(new))
    assert capfd.readouterr() == ("", "")


# Byte offsets


@pytest.mark.parametrize("trim_offsets", [False, True])
def test_bytes_of_a_slice_are_the_bytes_of_its_tokens(tmp_path: Path, trim_offsets: bool) -> None:
    byte_level(trim_offsets).save_pretrained(tmp_path)
    text = TEXT[:3000].replace("integer", "ïñteger").replace("\n\n", "\r\n \t\n") + "   \n  end  "
    source = write(tmp_path / "docs.txt", text)
    data = Path(source).read_bytes()
    bytes_of = token_bytes(byte_level())
    for seed in range(6):
        new = build_dataset(source, str(tmp_path), contexts=500, length=3 + seed, seed=seed)
        for ids, texts, row in zip(new.ids, new.texts, new.contexts.iter_rows(named=True), strict=True):
            piece = data[row["byte_start"] : row["byte_end"]]
            tokens = b"".join(bytes_of(int(token)) for token in ids)
            assert piece.decode().encode() == piece  # whole characters
            assert tokens in piece
            if not any("<0x" in text for text in (texts[0], texts[-1])):
                assert piece == tokens
                assert join_pieces(texts) == piece.decode()


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=3, max_size=200), st.integers(0, 99), st.integers(2, 7))
def test_a_cut_inside_a_character_is_rounded_outwards(text: str, seed: int, length: int) -> None:
    data = text.encode()
    bytes_of = token_bytes(byte_level())
    for window in windows_of(Document(0, "a", text), byte_level(), length, seed, 999):
        start, end = window.bytes
        assert start is not None
        assert end is not None
        piece = data[start:end]
        tokens = b"".join(bytes_of(int(token)) for token in window.ids)
        before = piece.index(tokens)
        assert before <= 3
        assert len(piece) - before - len(tokens) <= 3
        assert piece.decode().encode() == piece


def test_a_normalizer_that_changes_the_text_keeps_the_documents_own_bytes(tmp_path: Path) -> None:
    text = "Cafe\u0301 and cafe\u0301 again, " * 20  # NFC joins e and its accent: 3 bytes become 2
    document = Document(0, "a", text)
    data = text.encode()
    for window in windows_of(document, byte_level(nfc=True), 10, 0, 99):
        start, end = window.bytes
        shown = byte_level().decode(window.ids.tolist())
        assert unicodedata.normalize("NFC", data[start:end].decode()) == shown


def test_a_tokenizer_without_offsets_leaves_the_bytes_empty(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, vocab_size=120, minloglevel=2
    )
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.model").write_bytes(model.getvalue())
    slow = SentencePieceBackend(vocab_file=str(tmp_path / "t" / "tokenizer.model"), unk_token="<unk>")
    windows = windows_of(Document(0, "a", TEXT[:2000]), slow, 20, 0, 3)
    assert [window.bytes for window in windows] == [(None, None)] * 3
    assert [len(window.ids) for window in windows] == [20] * 3


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


# Ids made in Python


def test_from_ids_describes_each_context() -> None:
    new = from_ids(
        [[1, 2, 3], np.array([4, 5], dtype=np.int64)],
        byte_level(),
        "tiny",
        source={"source": "repeats", "period": 16},
        category="repeat",
        shot=[0, 1],
        meta=[{"period": 16, "share": float("nan")}, '{"period": 2}'],
    )
    assert lists(new) == [[1, 2, 3], [4, 5]]
    assert new.contexts.rows() == [
        (None, None, None, "repeat", 0, '{"period": 16, "share": null}'),
        (None, None, None, "repeat", 1, '{"period": 2}'),
    ]
    assert new.source == {"source": "repeats", "period": 16}
    assert new.tokenizer.name == "tiny"
    assert [len(texts) for texts in new.texts] == [3, 2]


def test_from_ids_refuses_what_does_not_fit() -> None:
    two = [[1, 2], [3, 4]]
    with pytest.raises(BadDataset, match="no kind; it may have: document, byte_start"):
        from_ids(two, byte_level(), "t", kind="x")
    with pytest.raises(BadDataset, match="the 2 contexts does not fit"):
        from_ids(two, byte_level(), "t", category=["only one"])
    with pytest.raises(BadDataset, match="the 2 contexts does not fit"):
        from_ids(two, byte_level(), "t", shot=["few", "zero"])
    with pytest.raises(BadDataset, match="Context 1 has 1 tokens"):
        from_ids([[1, 2], [3]], byte_level(), "t")
    with pytest.raises(BadDataset, match="one context at least"):
        from_ids([], byte_level(), "t")


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


# A Hugging Face dataset: the library's own client against a small Hub on this machine

COMMIT = "a" * 40
HUB_TEXTS = [f"Document number {n} says that {n} times {n} is {n * n}. " * (n % 5) for n in range(40)]


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's interface as a public dataset with data/train.jsonl needs."""

    protocol_version = "HTTP/1.1"
    file = "\n".join(json.dumps({"text": text, "n": n}) for n, text in enumerate(HUB_TEXTS)).encode()
    api = "/api/datasets/owner/tiny"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, data: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in (self.api, f"{self.api}/revision/main", f"{self.api}/revision/{COMMIT}"):
            facts = {"id": "owner/tiny", "sha": COMMIT, "private": False, "gated": False, "tags": []}
            facts["siblings"] = [{"rfilename": "data/train.jsonl"}]
            self.answer(json.dumps(facts).encode())
        elif path == f"{self.api}/tree/{COMMIT}":
            self.answer(
                json.dumps([{"type": "directory", "path": "data", "oid": "1" * 40, "size": 0}]).encode()
            )
        elif path == f"{self.api}/tree/{COMMIT}/data":
            file = {"type": "file", "path": "data/train.jsonl", "oid": "2" * 40, "size": len(self.file)}
            self.answer(json.dumps([file]).encode())
        elif path == f"/datasets/owner/tiny/resolve/{COMMIT}/data/train.jsonl":
            self.answer_file()
        else:
            known = path.startswith((self.api, "/datasets/owner/tiny/"))
            kind = "RevisionNotFound" if "/revision/" in path else "EntryNotFound"
            self.answer(b'{"error": "not found"}', 404, X_Error_Code=kind if known else "RepoNotFound")

    do_HEAD = do_GET

    def answer_file(self) -> None:
        headers = {"ETag": '"1"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        if not (wanted := self.headers.get("Range")):
            return self.answer(self.file, **headers)
        first, last = wanted.removeprefix("bytes=").split("-")
        part = self.file[int(first) : int(last or len(self.file) - 1) + 1]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(self.file)}"
        return self.answer(part, 206, **headers, Content_Range=place)


ASK_HUB = """
import json, sys
import datasets, huggingface_hub
from trajstore.errors import TrajstoreError
from trajstore.datasets.build import build_dataset

answers = []
for options in json.loads(sys.argv[2]):
    if options.pop("offline", False):  # what HF_HUB_OFFLINE=1 sets
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        new = build_dataset(tokenizer=sys.argv[1], **options)
        rows = new.contexts["document"].to_list()
        answers.append({"ids": [ids.tolist() for ids in new.ids], "documents": rows, "facts": new.source})
    except TrajstoreError as error:
        answers.append({"error": f"{type(error).__name__}: {error}"})
print(json.dumps(answers))
"""


def ask_hub(tokenizer: str, options: list[dict[str, Any]], **environment: str) -> list[dict[str, Any]]:
    """Return what `build_dataset` answers in a process of its own: the client reads its endpoint when imported."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK_HUB, tokenizer, json.dumps(options)],
        env={**own, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_hugging_face_dataset_online_streamed_and_offline(tmp_path: Path, tokenizer_folder: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tiny = {"source": "owner/tiny", "contexts": 12, "length": 20}
    asked: dict[str, dict[str, Any]] = {
        "whole": tiny,
        "again": tiny,
        "pinned": {**tiny, "revision": COMMIT},
        "streamed": {**tiny, "stream": True},
        "streamed again": {**tiny, "stream": True},
        "streamed, other seed": {**tiny, "stream": True, "seed": 1},
        "no column": {**tiny, "column": "body"},
        "no split": {**tiny, "split": "nosuch"},
        "no name": {"source": "owner/none"},
        "no revision": {**tiny, "revision": "v9"},
        "offline": {**tiny, "offline": True},
        "offline, pinned": {**tiny, "revision": COMMIT},
    }
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        answers = ask_hub(
            tokenizer_folder, list(asked.values()), HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "home")
        )
    finally:
        server.shutdown()
        server.server_close()
    said = dict(zip(asked, answers, strict=True))
    whole, streamed = said["whole"], said["streamed"]

    tokens = [tokens_of(text) for text in HUB_TEXTS]
    for answer in (whole, streamed, said["streamed, other seed"]):
        assert len(answer["ids"]) == 12
        for ids in answer["ids"]:  # each a slice of one document, as long as that one allows
            assert any(ids == row[s : s + len(ids)] for row in tokens for s in range(len(row)))
            assert len(ids) == 20 or ids in tokens
    for ids, name in zip(whole["ids"], whole["documents"], strict=True):
        row = tokens[int(name.removeprefix("train#"))]
        assert any(ids == row[s : s + len(ids)] for s in range(len(row)))
    assert said["again"] == whole
    assert said["pinned"]["ids"] == whole["ids"]
    assert said["streamed again"] == streamed
    assert streamed["ids"] not in (whole["ids"], said["streamed, other seed"]["ids"])
    assert whole["facts"] == {
        "source": "owner/tiny",
        "column": "text",
        "config": None,
        "split": "train",
        "stream": False,
        "revision": None,
        "commit": COMMIT,
        "contexts": 12,
        "length": 20,
        "seed": 0,
    }
    assert said["pinned"]["facts"]["revision"] == COMMIT
    assert "owner/tiny has no column 'body'; it has: text, n." in said["no column"]["error"]
    assert 'Unknown split "nosuch"' in said["no split"]["error"]
    assert "no file or folder 'owner/none', and no Hugging Face dataset" in said["no name"]["error"]
    assert "SOURCE is a .txt file" in said["no name"]["error"]
    assert "The revision 'v9' of the Hugging Face dataset 'owner/tiny'" in said["no revision"]["error"]
    assert said["offline"]["ids"] == whole["ids"]  # the copy that was downloaded
    assert said["offline"]["facts"]["commit"] is None
    assert "Without revision" in said["offline, pinned"]["error"]  # any copy would be taken for it
