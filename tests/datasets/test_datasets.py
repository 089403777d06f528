"""Drawing contexts from texts: which tokens, which bytes of the text, and ids made in Python."""

from __future__ import annotations

import io
import unicodedata
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import polars as pl
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from tests.datasets.conftest import TEXT, byte_level, lists, sentences, tokens_of, write
from tests.helpers.progress import Heard
from trajstore.datasets import build
from trajstore.datasets.build import build_dataset, from_ids
from trajstore.datasets.sampling import windows_of
from trajstore.datasets.sources import Document
from trajstore.datasets.token_bytes import token_bytes
from trajstore.errors import BadDataset
from trajstore.store.files.datasets import CONTEXT_COLUMNS
from trajstore.text import join_pieces

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
