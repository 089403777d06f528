from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trajstore.store.text import escape_stray_bytes, join_pieces


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
