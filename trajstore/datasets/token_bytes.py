"""Bytes and texts of tokens: their exact bytes, their text for people to read, and their place in a document.

A token need not be a whole character. Its text shows whole UTF-8 characters as they are and every other
byte as `<0xE2>`, so nothing is lost; `trajstore.text.join_pieces` puts the bytes of neighbours
together again. Three families of tokenizers are told apart by how they decode: byte-level BPE (GPT-2,
GPT-NeoX, Llama 3), SentencePiece-like (Llama 2, T5, Gemma), and all others (WordPiece, word level), whose
own `decode` is asked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.errors import BadDataset
from trajstore.text import escape_stray_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from transformers import PreTrainedTokenizerBase

LONG = 1_000_000
"""Characters from which on a text is encoded in parts: tokenizers take about 170 bytes of memory a character."""

_SEAMS = tuple(map(re.compile, (r"(?<=\S)(?=\s\S)", r"(?<=\S)(?=\s)", r"(?<=\w)(?=\W)", r"(?s)(?<=.)(?=.)")))
"""Where a long text may be cut, the best places first: before a single space between words, before any space, behind a
word, anywhere."""
_SEAM_TRIES = 64
_LONGEST = 4 * LONG
"""Characters of a text without a seam that are encoded at once."""
_SEAM_CONTEXT = 200
"""Characters on either side of a seam that are encoded to see whether it changes tokens."""

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
"""U+2581, SentencePiece's sign for a space."""


@dataclass(frozen=True)
class Encoded:
    """The tokens of a text, none of them special."""

    ids: np.ndarray
    """int32 (tokens,)."""
    spans: np.ndarray | None
    """int64 (tokens, 2): [start, end) in the text's UTF-8, of the whole characters that hold the token's
    bytes; None where the tokenizer keeps no offsets."""

    def span(self, start: int, end: int) -> tuple[int | None, int | None]:
        """[start, end) in bytes of the tokens `start` … `end` − 1."""
        if self.spans is None:
            return None, None
        return int(self.spans[start, 0]), int(self.spans[end - 1, 1])


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoded:
    """The tokens of a text of any length, without special tokens.

    A text beyond `LONG` characters is encoded in parts, cut only where that was seen to change no token.
    """
    ids, spans, base = [], [], 0
    for part in _parts(tokenizer, text):
        encoding = _call(tokenizer, part, return_offsets_mapping=tokenizer.is_fast)
        ids.append(np.array(encoding["input_ids"], dtype=np.int32))
        byte_of = _byte_of_each_character(part)
        if tokenizer.is_fast:
            spans.append(base + byte_of[np.array(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2)])
        base += int(byte_of[-1])
    return Encoded(np.concatenate(ids), np.concatenate(spans) if spans else None)


def keep_spaces_in_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Take away a tokenizer's last stage, which adds special tokens and may cut the spaces off offsets.

    The tokens that `encode` gives stay the same; what else the tokenizer is used for may not.
    """
    if tokenizer.is_fast:
        from tokenizers.processors import Sequence

        tokenizer.backend_tokenizer.post_processor = Sequence([])


def _call(tokenizer: PreTrainedTokenizerBase, text: str, **options: bool) -> Any:
    return tokenizer(
        text,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no warning that a text is longer than the model's context
        **options,
    )


def _parts(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[str]:
    """The text in parts of about `LONG` characters; raises `BadDataset` where there is no seam in `_LONGEST`."""

    def neutral(seam: int) -> bool:
        left, right = text[max(0, seam - _SEAM_CONTEXT) : seam], text[seam : seam + _SEAM_CONTEXT]
        apart, together = [_call(tokenizer, part)["input_ids"] for part in (left, right)], left + right
        return bool(apart[0] + apart[1] == _call(tokenizer, together)["input_ids"])

    start = 0
    while len(text) - start > LONG:
        seam = next(filter(neutral, _seams(text, start)), None)
        if seam is None and len(text) - start <= _LONGEST:
            break
        if seam is None:
            raise BadDataset(
                f"From character {start:,} on a text has no place in {_LONGEST:,} characters where it could be cut "
                "without changing a token. Break it into documents, or put spaces or line ends into it."
            )
        yield text[start:seam]
        start = seam
    yield text[start:]


def _seams(text: str, start: int) -> Iterator[int]:
    """Places where a text may be cut to end a part that begins at `start`, those near to `LONG` characters first."""
    for end in range(start + 2 * LONG, start + _LONGEST + 1, LONG):
        for pattern in _SEAMS:
            for match in islice(pattern.finditer(text, end - LONG, min(end, len(text))), _SEAM_TRIES):
                yield match.start()


def _byte_of_each_character(text: str) -> np.ndarray:
    """int64 (characters + 1,): where each character begins in UTF-8, and where the last one ends."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    width = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    return np.concatenate([[0], np.cumsum(width)])


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> Callable[[int], bytes]:
    """A function that gives the bytes an id stands for.

    Byte-level BPE: GPT-2's map of bytes to characters undone; added tokens (`<|endoftext|>`, runs of
    spaces) literally. SentencePiece-like: U+2581 is a space, a byte piece `<0xE2>` is that byte, special
    tokens are literal; a first word keeps the space of its piece, whether or not the text had one. Others:
    `decode([id])`. Ids that the tokenizer does not have (padding rows of an embedding) give `<token
    50300>`; a negative id raises `BadDataset`.
    """
    vocabulary = {token: piece for piece, token in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = _decoder_kinds(tokenizer)
    if "ByteLevel" in kinds:
        literal = {token: entry.content for token, entry in added.items()}
        spell = _spell_byte_level
    elif _SPACE in kinds:
        literal = {token: entry.content for token, entry in added.items() if entry.special}
        byte_fallback = {"<0x00>", "<0xFF>"} <= set(vocabulary.values())
        spell = _spell_with_byte_pieces if byte_fallback else _spell_spaces
    else:
        literal, spell = {}, None

    def bytes_of(token: int) -> bytes:
        if token < 0:
            raise BadDataset(f"{token} is no token id: ids are 0 or more.")
        if token in literal:
            return str(literal[token]).encode()
        if token not in vocabulary:
            return f"<token {token}>".encode()
        piece: str = vocabulary[token]
        if spell is not None:
            return spell(piece)
        decoded: str = tokenizer.decode(
            [token], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return (decoded or piece).encode()

    return bytes_of


def piece_texts(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
    """The text of each token of `ids`, in order: whole characters as they are, stray bytes as `<0xE2>`.

    Each distinct id is spelled once, so pass many contexts together. Raises `BadDataset` for a negative id.
    """
    flat = np.fromiter(ids, dtype=np.int64)
    distinct, places = np.unique(flat, return_inverse=True)
    bytes_of = token_bytes(tokenizer)
    texts = [escape_stray_bytes(bytes_of(int(token))) for token in distinct]
    return [texts[place] for place in places]


def _decoder_kinds(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The types of the tokenizer's decoders, and U+2581 where it is turned into a space."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python: only SentencePiece ones can be told by a mark
        return {_SPACE} if hasattr(tokenizer, "sp_model") else set()
    if backend.decoder is None:
        return set()
    return set(_flatten(json.loads(backend.decoder.__getstate__())))


def _flatten(decoder: dict[str, Any]) -> Iterable[str]:
    """The types in a decoder's JSON, those of a sequence one by one."""
    for part in decoder.get("decoders", []):
        yield from _flatten(part)
    yield decoder["type"]
    if decoder["type"] == "Metaspace" or decoder.get("pattern") == {"String": _SPACE}:
        yield _SPACE


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's table (`bytes_to_unicode`) inverted: printable Latin-1 is itself, the rest U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _spell_byte_level(piece: str) -> bytes:
    table = _byte_of_character()
    if all(character in table for character in piece):
        return bytes(table[character] for character in piece)
    return piece.encode()  # a token that was put into the vocabulary as it stands


def _spell_spaces(piece: str) -> bytes:
    return piece.replace(_SPACE, " ").encode()


def _spell_with_byte_pieces(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else _spell_spaces(piece)
