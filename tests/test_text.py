from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajstore.text import escape_stray_bytes, join_around, join_pieces, join_shared, shown


def test_half_characters_are_shown_and_joined() -> None:
    smile = "🙂".encode()
    first, second = escape_stray_bytes(b"hi " + smile[:2]), escape_stray_bytes(smile[2:] + b"!")
    assert first == "hi <0xF0><0x9F>"
    assert join_pieces([first, second]) == "hi 🙂!"
    assert join_pieces([first]) == first


@given(st.text(), st.lists(st.integers(0, 40), max_size=6))
def test_cut_anywhere_the_text_comes_back(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", errors="replace")
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [escape_stray_bytes(data[a:b]) for a, b in pairwise(at)]
    assert join_pieces(pieces) == data.decode()


@pytest.mark.parametrize(
    ("pieces", "at", "parts"),
    [
        (["a", "b", "c"], 1, ("a", "b", "c")),
        (["b"], 0, ("", "b", "")),
        (["a€", "b", "€c"], 1, ("a€", "b", "€c")),
        # € is E2 82 AC, é is C3 A9.
        (["a", "<0xE2>", "<0x82>", "<0xAC>b"], 0, ("", "a", "€b")),
        (["a", "<0xE2>", "<0x82>", "<0xAC>b"], 1, ("a", "€", "b")),
        (["a", "<0xE2>", "<0x82>", "<0xAC>b"], 2, ("a", "€", "b")),
        (["a", "<0xE2>", "<0x82>", "<0xAC>b"], 3, ("a", "€b", "")),
        (["é<0xC3>", "<0xA9><0xC3>", "<0xA9>é"], 1, ("é", "éé", "é")),
        (["<0x82>", "<0xE2>", "x"], 1, ("<0x82>", "<0xE2>", "x")),
        (["a", "", "b"], 1, ("a", "", "b")),
    ],
)
def test_a_token_has_its_characters_whole(pieces: list[str], at: int, parts: tuple[str, str, str]) -> None:
    assert join_around(pieces[:at], pieces[at], pieces[at + 1 :]) == parts


@given(st.text(), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 6))
def test_the_parts_around_a_token_are_the_text(text: str, cuts: list[int], at: int) -> None:
    data = text.encode("utf-8", errors="replace")
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [escape_stray_bytes(data[a:b]) for a, b in pairwise(ends)] or [""]
    at = min(at, len(pieces) - 1)
    parts = join_around(pieces[:at], pieces[at], pieces[at + 1 :])
    assert "".join(parts) == data.decode()
    assert parts[1].encode().find(data[ends[at] : ends[min(at + 1, len(ends) - 1)]]) >= 0


def test_what_has_no_sign_is_shown() -> None:
    assert shown("a\tb\r\n \x1b[31m\x00\x7f") == "a⇥b␍⏎ ␛[31m␀␡"
    assert shown("\u202eabc\u200b\xad\x85\ufeff") == "<U+202E>abc<U+200B><U+00AD><U+0085><U+FEFF>"
    assert shown("naïve 日本 🙂 \xa0") == "naïve 日本 🙂 \xa0"


@pytest.mark.parametrize(
    ("texts", "once"),
    [
        (["a", "b"], {}),
        (["<0xF0><0x9F>", "<0x98>", "<0x80>", "x"], {0: "😀", 1: "", 2: ""}),
        (["x", "<0xE2>", "y"], {}),
        ([" <0xC3>", "<0xA9>t", "<0xC3>", "<0xA9>"], {0: " ét", 1: "", 2: "é", 3: ""}),
        (["<0xE2>", "<0xE2>", "<0x82>", "<0xAC>"], {1: "€", 2: "", 3: ""}),
        (["a<0x2>b", "<0x"], {}),
    ],
)
def test_tokens_that_share_a_character_show_it_once(texts: list[str], once: dict[int, str]) -> None:
    assert join_shared(texts) == once
