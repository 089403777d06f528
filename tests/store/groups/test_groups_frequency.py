"""Groups by how often a type of token occurs in its dataset, on hand-written tokens and against counting."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import new_dataset
from tests.store.groups.test_groups_text import members, read, sentencepiece_tokenizer, with_cases
from trajstore.datasets.token_bytes import encode, piece_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerFast

    from tests.conftest import NewStore
    from trajstore.store.store import Store

__all__ = ["sentencepiece_tokenizer"]

CASES = {
    # the 3 times, " the" 2 times, the others once: a case of letters, a space and a byte make another type
    "hapax": ["the· the·▸The·▸<0xC3>·▸<0xA9>", "the· the·the·▸ cat·▸\n"],
    "top_tokens(1)": ["▸the· the·The·<0xC3>·<0xA9>", "▸the· the·▸the· cat"],
    "top_tokens(2)": ["▸the·▸ the·The·<0xC3>·<0xA9>", "▸the·▸ the·▸the· cat"],
    # The and <0xC3> and so on occur once each; ids go by first appearance, and the highest is the commonest of them
    "top_tokens(3)": ["▸the·▸ the·The·<0xC3>·<0xA9>", "▸the·▸ the·▸the·▸ cat"],
    "top_tokens(0)": ["the· the"],
    # of 9 tokens, 4 types hold one each: 1 / 9 is held by the first alone, 2 / 9 by two
    "rarest_share(0.1)": ["the· the·▸The·<0xC3>·<0xA9>", "the· the·the· cat"],
    "rarest_share(0.2)": ["the· the·▸The·▸<0xC3>·<0xA9>", "the· the·the· cat"],
    "rarest_share(0.5)": ["the·▸ the·▸The·▸<0xC3>·▸<0xA9>", "the·▸ the·the·▸ cat"],
    "rarest_share(1)": ["▸the·▸ the·▸The·▸<0xC3>·▸<0xA9>", "▸the·▸ the·▸the·▸ cat"],
    "rarest_share(0)": ["the· the"],
    # rarer than " the" are 4 of 9 tokens, so it lies in bin 1 + 4 · 2 // 9; rarer than "the" are 6
    "frequency_bin(1, 2)": ["the·▸ the·▸The·▸<0xC3>·▸<0xA9>", "the·▸ the·the·▸ cat"],
    "frequency_bin(2, 2)": ["▸the· the·The·<0xC3>·<0xA9>", "▸the· the·▸the· cat"],
    "frequency_bin(3, 2)": ["the· the"],
}
SHIPPED = {"hapax"}
"""Groups that come with the store and are tested here."""


@pytest.fixture(scope="module")
def written(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a dataset for each case, numbered."""
    cases = {f"d{number}": cases for number, cases in enumerate(CASES.values())}
    with new_store(tmp_path_factory.mktemp("written") / "store") as store:
        yield with_cases(store, cases)


@pytest.mark.parametrize(("number", "asked"), list(enumerate(CASES)))
def test_on_hand_written_tokens(written: Store, number: int, asked: str) -> None:
    source = f"groups.{asked}" if asked in SHIPPED else asked
    assert members(written, source, f"d{number}") == [read(case)[1] for case in CASES[asked]]


def drawn(seed: int) -> list[list[str]]:
    """Contexts of tokens that are the rarer the later in the alphabet."""
    draw = np.random.default_rng(seed)
    return [[chr(97 + int(k)) for k in draw.geometric(0.2, n) - 1] for n in draw.integers(2, 60, 12)]


def test_unigrams_are_counts(store: Store) -> None:
    for name, seed in (("d", 1), ("e", 2)):
        store.add_dataset(name, new_dataset(drawn(seed)))
    for name in ("d", "e"):
        ids = np.concatenate(store.dataset(name).ids())
        counts = Counter(ids.tolist())
        rows = store.sql(f"FROM unigrams WHERE dataset = '{name}' ORDER BY rank").pl()
        assert len(counts) > 15
        order = sorted(counts, key=lambda token: (-counts[token], -token))
        assert rows["token"].to_list() == order
        assert rows["rank"].to_list() == list(range(1, len(counts) + 1))
        assert rows["occurrences"].to_list() == [counts[token] for token in order]
        assert rows["share"].to_list() == pytest.approx([counts[token] / len(ids) for token in order])
        rarer = np.cumsum([0, *(counts[token] for token in reversed(order))])[:-1]
        assert rows["rarer"].to_list() == rarer[::-1].tolist()
        texts = dict(
            zip(ids.tolist(), (text for each in drawn(1 + (name == "e")) for text in each), strict=True)
        )
        assert dict(rows.select("token", "text").iter_rows()) == texts


def test_bins_part_all_tokens(store: Store) -> None:
    """Bins are apart, together hold every token, and none holds more than its share and one type more."""
    contexts = drawn(3)
    store.add_dataset("d", new_dataset(contexts))
    counts = Counter(token for each in contexts for token in each)
    total = sum(counts.values())
    found = [members(store, f"frequency_bin({n}, 4)") for n in (1, 2, 3, 4)]
    for number, tokens in enumerate(contexts):
        assert sorted(position for each in found for position in each[number]) == list(range(len(tokens)))
    types = [{contexts[n][k] for n, each in enumerate(one) for k in each} for one in found]
    for one in types:
        assert sum(counts[text] for text in one) <= total / 4 + max(counts[text] for text in one)
    for rarer, commoner in itertools.pairwise(types):
        assert max(counts[text] for text in rarer) <= min(counts[text] for text in commoner)
    assert members(store, "rarest_share(0.25)") == found[0]
    halves = [sorted(each + found[1][n]) for n, each in enumerate(found[0])]
    assert members(store, "rarest_share(0.5)") == halves


@pytest.mark.parametrize(
    "asked", ["groups.hapax", "top_tokens(2)", "rarest_share(0.5)", "frequency_bin(2, 3)"]
)
def test_counts_are_of_one_dataset(store: Store, asked: str) -> None:
    store.add_dataset("d", new_dataset(drawn(1)))
    alone = members(store, asked)
    store.add_dataset("e", new_dataset(drawn(2)))
    assert members(store, asked) == alone
    assert members(store, asked, "e") != alone


def test_hapax_of_a_sentencepiece_tokenizer(
    store: Store, sentencepiece_tokenizer: PreTrainedTokenizerFast
) -> None:
    pieces = piece_texts(
        sentencepiece_tokenizer, encode(sentencepiece_tokenizer, "naïve: the integers are integers").ids
    )
    store.add_dataset("d", new_dataset([pieces]))
    counts = Counter(pieces)
    once = [n for n, piece in enumerate(pieces) if counts[piece] == 1]
    assert 0 < len(once) < len(pieces)
    assert any(piece.startswith("<0x") for piece in pieces)
    assert members(store, "groups.hapax") == [once]
