"""Texts of tokens: nothing lost, split characters put together, for three families of tokenizers."""

from __future__ import annotations

from functools import cache
from pydoc_data.topics import topics

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from trajstore.datasets import token_bytes as pieces
from trajstore.datasets.token_bytes import encode, piece_texts, token_bytes
from trajstore.errors import BadDataset
from trajstore.text import join_pieces

MIXED = "naïve café — 東京へ行く 🙂🙃 e\u0301\r\n\ttabs  and   spaces\n\n👩‍👩‍👧 <0xE2> Ġ ▁ end"


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 256 bytes and 64 merges: characters beyond Latin stay split."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([topics["integers"], MIXED], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    tokenizer.add_tokens([AddedToken("    ", normalized=False), AddedToken("Ġé", normalized=False)])
    return tokenizer


@cache
def sentencepiece_bpe() -> PreTrainedTokenizerFast:
    """Llama 2's arrangement: spaces as U+2581, unknown characters as byte pieces, a space in front."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "t", "h", "e", "é", "▁t", "he", "▁the", "▁▁"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "▁")]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    replace = decoders.Replace("▁", " ")
    backend.decoder = decoders.Sequence(
        [replace, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.add_tokens([AddedToken("▁▁", normalized=False)])
    return tokenizer


def encoded(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_byte_level_pieces_join_to_the_text() -> None:
    tokenizer = byte_level()
    texts = piece_texts(tokenizer, encoded(tokenizer, MIXED))
    assert join_pieces(texts) == MIXED
    assert "<0x9F><0x99>" in "".join(texts)  # 🙂 is F0 9F 99 82: split here
    assert "\ufffd" not in "".join(texts)


def test_a_character_in_three_tokens_shows_its_bytes() -> None:
    tokenizer = byte_level()
    ids = encoded(tokenizer, "€")
    assert piece_texts(tokenizer, ids) == ["<0xE2>", "<0x82>", "<0xAC>"]
    assert join_pieces(piece_texts(tokenizer, ids)) == "€"
    assert join_pieces(piece_texts(tokenizer, ids[:2])) == "<0xE2><0x82>"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_byte_level_bytes_are_those_of_the_text(text: str) -> None:
    tokenizer = byte_level()
    ids = encoded(tokenizer, text)
    bytes_of = token_bytes(tokenizer)
    assert b"".join(map(bytes_of, ids)) == text.encode()
    assert join_pieces(piece_texts(tokenizer, ids)) == text


def test_every_byte_is_found_as_in_gpt2s_table() -> None:
    tokenizer = byte_level()
    bytes_of = token_bytes(tokenizer)
    for byte, character in bytes_to_unicode().items():
        assert bytes_of(tokenizer.get_vocab()[character]) == bytes([byte])


def test_added_tokens_are_literal_in_byte_level_tokenizers() -> None:
    tokenizer = byte_level()
    vocabulary = tokenizer.get_vocab()
    bytes_of = token_bytes(tokenizer)
    assert bytes_of(vocabulary["<|endoftext|>"]) == b"<|endoftext|>"
    assert bytes_of(vocabulary["    "]) == b"    "
    assert bytes_of(vocabulary["Ġé"]) == "Ġé".encode()  # by the table it would be a space and a stray byte


def test_sentencepiece_spaces_and_byte_pieces() -> None:
    tokenizer = sentencepiece_bpe()
    text = "the  thé 東🙂\nthe"
    ids = encoded(tokenizer, text)
    texts = piece_texts(tokenizer, ids)
    assert texts[0] == " the"
    assert texts[-1] == "he"
    assert texts[texts.index("é") + 1 :][:4] == [" ", "<0xE6>", "<0x9D>", "<0xB1>"]
    assert join_pieces(texts) == " " + text  # the first word's piece carries a space
    assert tokenizer.decode(ids) == text


def test_sentencepiece_special_tokens_are_literal_and_added_runs_are_spaces() -> None:
    tokenizer = sentencepiece_bpe()
    vocabulary = tokenizer.get_vocab()
    assert piece_texts(tokenizer, [vocabulary["<s>"], vocabulary["▁▁"], vocabulary["<0x0A>"]]) == [
        "<s>",
        "  ",
        "\n",
    ]


@pytest.fixture(scope="module")
def unigram_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model trained by the sentencepiece library, with byte fallback."""
    prefix = str(tmp_path_factory.mktemp("sentencepiece") / "tokenizer")
    sentences = [line for line in (topics["integers"] + topics["floating"]).splitlines() if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_prefix=prefix,
        vocab_size=340,
        model_type="unigram",
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return f"{prefix}.model"


def test_unigram_of_the_sentencepiece_library(unigram_model: str) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=unigram_model)
    size = processor.get_piece_size()
    vocabulary = [(processor.id_to_piece(n), processor.get_score(n)) for n in range(size)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=processor.unk_id(), byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    slow = SentencePieceBackend(vocab_file=unigram_model, unk_token="<unk>")
    text = "An imaginary literal ends with 東京"
    expected = processor.encode(text, out_type=int)
    for tokenizer in (fast, slow):
        ids = encoded(tokenizer, text)
        assert ids == expected
        texts = piece_texts(tokenizer, ids)
        assert join_pieces(texts) == " " + text
        assert texts[-6:-3] == ["<0xE6>", "<0x9D>", "<0xB1>"]


def test_without_byte_pieces_a_literal_escape_stays_text() -> None:
    backend = Tokenizer(models.WordLevel({"▁<0xE2>": 0, "<0xE2>": 1, "[U]": 2}, unk_token="[U]"))
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert [token_bytes(tokenizer)(n) for n in (0, 1)] == [b" <0xE2>", b"<0xE2>"]


def test_wordpiece_is_asked_itself() -> None:
    vocabulary = {"[UNK]": 0, "play": 1, "##ing": 2, ",": 3, "[SEP]": 4}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", sep_token="[SEP]")
    assert piece_texts(tokenizer, encoded(tokenizer, "playing, x")) == ["play", "##ing", ",", "[UNK]"]
    assert piece_texts(tokenizer, [4]) == ["[SEP]"]


def test_ids_without_an_entry() -> None:
    tokenizer = byte_level()
    last = len(tokenizer) - 1
    assert piece_texts(tokenizer, np.array([last + 1, 50300], dtype=np.int32)) == [
        f"<token {last + 1}>",
        "<token 50300>",
    ]
    with pytest.raises(BadDataset, match="-1 is no token id"):
        piece_texts(tokenizer, [0, -1])
    assert piece_texts(tokenizer, []) == []


def test_a_long_text_is_cut_only_where_no_token_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    text = (topics["integers"] + MIXED) * 4
    monkeypatch.setattr(pieces, "LONG", 10**9)
    at_once = encode(tokenizer, text)
    assert at_once.ids.tolist() == encoded(tokenizer, text)
    monkeypatch.setattr(pieces, "LONG", 500)
    assert len(list(pieces._parts(tokenizer, text))) > 5
    in_parts = encode(tokenizer, text)
    np.testing.assert_array_equal(in_parts.ids, at_once.ids)
    np.testing.assert_array_equal(in_parts.spans, at_once.spans)


def test_a_long_text_is_cut_where_that_changes_no_token_and_else_stays_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pieces, "LONG", 500)
    spaced = "the the " * 500
    assert list(pieces._parts(sentencepiece_bpe(), spaced)) == [spaced]  # each part would begin with a space
    for text in ("x" * 4000, "abcdefg" * 700):  # cut inside a word where that was seen to change no token
        assert len(list(pieces._parts(byte_level(), text))) > 1
        assert encode(byte_level(), text).ids.tolist() == encoded(byte_level(), text)
    assert len(encode(byte_level(), "").ids) == 0


def test_spans_are_bytes_of_the_text() -> None:
    spans = encode(byte_level(), "aé€🙂").spans
    assert spans is not None
    assert sorted({tuple(span) for span in spans.tolist()}) == [(0, 1), (1, 3), (3, 6), (6, 10)]
    assert encode(byte_level(), "aé€🙂").span(0, 2) == (0, 3)
