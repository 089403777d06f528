"""Groups by what occurred before: copying, repeated and shared spans, on hand-written tokens and against a search."""

from __future__ import annotations

import re
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

EIGHT = " a· b· <0xE2>·<0x80>·<0x94>· a·\n· c"
SIXTEEN = f"{EIGHT}· d· e· f· g· h· i· j· k"
CASES = {
    "first_occurrence": ["▸the·▸ the·the·▸The· the·▸<0xC3>·▸<0xA9>·<0xC3>", "▸the·▸\n"],
    "induction_bigram": [
        "a·b·c·a·▸b·a·x·a·▸x·▸a·b",  # at the end, the last a was followed by x
        "a·a·▸a·▸a·b·a·▸b·▸a·▸b",  # a run, whose last a was followed by b
        "<0xC3>·<0xA9>·x·<0xC3>·▸<0xA9>·▸x",
        "a·b",
    ],
    "induction_bigram_wrong": [
        "a·b·c·a·b·▸a·▸x·a·x·a·▸b",
        "a·a·a·a·▸b·a·b·a·b",
        "The· cat· the· cat·▸ sat·The·▸cat",
    ],
    "induction_trigram": [
        "a·b·c·a·b·▸c·d·b·c·▸d·▸b·▸c·▸d",  # b c was followed by a first, then by d
        "a·a·a·▸a·▸a·b",  # two occurrences may overlap
        "a·b·c·x·b·d",
    ],
    "induction_trigram_wrong": ["a·b·c·a·b·▸d·c·a·▸d·b·c·▸d·a·b·▸c", "a·a·a·a·▸b"],
    "repeated_span": [
        f"{EIGHT}·x·{'·'.join('▸' + each for each in EIGHT.split('·'))}·y",
        f"x·{EIGHT.removesuffix('· c')}·y·{EIGHT.removesuffix('· c')}· d",  # seven and seven
        "·".join(["a", *["▸a"] * 8, "b"]),  # a run of nine: the second to the ninth
        "a·" * 7 + "a·b",  # and of eight: nothing
    ],
    "shared_phrase": [
        f"x·{'·'.join('▸' + each for each in SIXTEEN.split('·'))}·y",
        f"{'·'.join('▸' + each for each in SIXTEEN.split('·'))}·▸l·z",
        f"{SIXTEEN.removesuffix('· k')}· l",  # fifteen
        f"m·{'·'.join('▸' + each for each in (SIXTEEN + '·l').split('·')[1:])}",
        "·".join([*"nopqrstuvwxyzABC", *"nopqrstuvwxyzABC"]),  # twice, but in one context
    ],
}
SHIPPED = set(CASES)
"""Groups that come with the store and are tested here."""


@pytest.fixture(scope="module")
def written(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a dataset for each case, numbered."""
    cases = {f"d{number}": cases for number, cases in enumerate(CASES.values())}
    with new_store(tmp_path_factory.mktemp("written") / "store") as store:
        yield with_cases(store, cases)


@pytest.mark.parametrize(("number", "name"), list(enumerate(CASES)))
def test_shipped_group(written: Store, number: int, name: str) -> None:
    assert members(written, f"groups.{name}", f"d{number}") == [read(case)[1] for case in CASES[name]]


# against a search through the tokens


def drawn(seed: int, letters: int = 3) -> list[list[str]]:
    """Contexts of 2 to 50 tokens of a few letters, in which much repeats: spans of 15 within some and across some."""
    draw = np.random.default_rng(seed)
    contexts = [
        draw.integers(0, letters, n) for n in (2, 3, *draw.integers(4, 51, 6), *draw.integers(40, 51, 6))
    ]
    for tokens in contexts[-6:]:
        tokens[24:39] = tokens[2:17]
    contexts[-1][4:19] = contexts[-2][20:35] = contexts[-3][10:25]
    return [[f" {letter}" for letter in tokens] for tokens in contexts]


def predicted(tokens: list[str], length: int) -> list[tuple[int, str, str]]:
    """(position, token, what copying predicts) by looking back from each position."""
    found = []
    for position in range(length, len(tokens)):
        before = tokens[position - length : position]
        for start in range(position - length - 1, -1, -1):
            if tokens[start : start + length] == before:
                found.append((position, tokens[position], tokens[start + length]))
                break
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 13])
def test_copying_is_what_a_search_finds(store: Store, length: int) -> None:
    contexts = drawn(length)
    store.add_dataset("d", new_dataset(contexts))
    names = dict(store.sql("SELECT DISTINCT token, text FROM tokens").fetchall())
    rows = store.sql(
        f"SELECT context, position, token, predicted FROM copying({length}) ORDER BY ALL"
    ).fetchall()
    expected = [(n, *each) for n, tokens in enumerate(contexts) for each in predicted(tokens, length)]
    assert [(n, position, names[token], names[copy]) for n, position, token, copy in rows] == expected
    assert len(expected) > 10


def covered(starts: list[int], length: int) -> list[int]:
    return sorted({position for start in starts for position in range(start, start + length)})


@pytest.mark.parametrize("length", [1, 2, 3, 6, 8, 11, 100])
def test_repeated_spans_are_what_a_search_finds(store: Store, length: int) -> None:
    contexts = drawn(length, letters=2)
    store.add_dataset("d", new_dataset(contexts))
    expected = []
    for tokens in contexts:
        spans = [tuple(tokens[k : k + length]) for k in range(len(tokens) - length + 1)]
        expected.append(covered([k for k, span in enumerate(spans) if span in spans[:k]], length))
    assert members(store, f"in_repeated_span({length})") == expected
    assert any(expected) == (length < 100)


@pytest.mark.parametrize(("length", "least"), [(1, 13), (2, 2), (4, 3), (5, 2), (9, 2), (100, 1), (3, 1)])
def test_shared_spans_are_what_a_search_finds(store: Store, length: int, least: int) -> None:
    contexts = drawn(length)
    store.add_dataset("d", new_dataset(contexts))
    spans = [[tuple(tokens[k : k + length]) for k in range(len(tokens) - length + 1)] for tokens in contexts]
    expected = []
    for mine in spans:
        shared = [k for k, span in enumerate(mine) if sum(span in each for each in spans) >= least]
        expected.append(covered(shared, length))
    assert members(store, f"in_shared_span({length}, {least})") == expected
    assert any(expected) == (length < 100)


def test_every_span_of_a_context_is_there_once(store: Store) -> None:
    contexts = drawn(5)
    store.add_dataset("d", new_dataset(contexts))
    for length in (1, 3, 4, 40, 64):
        rows = store.sql(f"SELECT context, position FROM all_spans({length}) ORDER BY ALL").fetchall()
        assert rows == [(n, k) for n, tokens in enumerate(contexts) for k in range(len(tokens) - length + 1)]
    assert store.sql("FROM all_spans(0)").fetchall() == []


# contexts and datasets are apart; nothing grows out of hand

ASKED = [*(f"groups.{name}" for name in CASES), "in_repeated_span(2)", "in_shared_span(2, 2)", "copying(1)"]


@pytest.mark.parametrize("asked", ASKED)
def test_what_other_datasets_hold_does_not_count(store: Store, asked: str) -> None:
    store.add_dataset("d", new_dataset(drawn(1)))
    alone = members(store, asked)
    store.add_dataset("e", new_dataset(drawn(1)))
    store.add_dataset("f", new_dataset([["a", "b", "c", "d"], ["b", "c", "e"]]))
    assert members(store, asked) == alone
    assert members(store, asked, "e") == alone
    only_here = {
        "groups.first_occurrence": [[0, 1, 2, 3], [0, 1, 2]],
        "in_shared_span(2, 2)": [[1, 2], [0, 1]],
    }
    assert members(store, asked, "f") == only_here.get(asked, [[], []])


@pytest.mark.parametrize("asked", ASKED)
def test_one_dataset_s_members_are_found_in_its_file_alone(store: Store, asked: str) -> None:
    for name in ("d", "e", "f"):
        store.add_dataset(name, new_dataset([["a", "b", "a"]]))
    plan = store.sql(f"EXPLAIN SELECT context, position FROM {asked} WHERE dataset = 'e'").fetchall()[0][1]
    assert set(re.findall(r"Files: (\d+)/(\d+)", plan)) == {("1", "4")}


def test_runs_and_equal_contexts_cost_no_more_than_others(store: Store) -> None:
    """512 contexts of one token 512 times, and 512 that are equal: pairs of occurrences would be millions each."""
    draw = np.random.default_rng(0)
    text = [f" {k}" for k in draw.permutation(512)]
    store.add_dataset("run", new_dataset([[" a"] * 512] * 512))
    store.add_dataset("equal", new_dataset([text] * 512))
    sizes = {
        "groups.induction_bigram": (510, 0),
        "groups.induction_bigram_wrong": (0, 0),
        "groups.induction_trigram": (509, 0),
        "groups.repeated_span": (511, 0),
        "in_repeated_span(100)": (511, 0),
        "groups.shared_phrase": (512, 512),
        "in_shared_span(50, 512)": (512, 512),
        "in_shared_span(50, 513)": (0, 0),
    }
    for asked, expected in sizes.items():
        counts = store.sql(f"SELECT dataset, count(*) FROM {asked} GROUP BY dataset").fetchall()
        assert dict(counts) == {
            name: 512 * n for name, n in zip(("run", "equal"), expected, strict=True) if n
        }, asked


LINE = "the integers are naïve\n"


def test_repetition_under_a_sentencepiece_tokenizer(
    store: Store, sentencepiece_tokenizer: PreTrainedTokenizerFast
) -> None:
    """A line three times: from its second time on, every token is copied, and lies in a repeated span."""
    pieces = piece_texts(sentencepiece_tokenizer, encode(sentencepiece_tokenizer, "x\n" + LINE * 3).ids)
    line = (
        len(pieces) - len(piece_texts(sentencepiece_tokenizer, encode(sentencepiece_tokenizer, "x\n").ids))
    ) // 3
    assert "".join(pieces[-line:-1]).endswith("<0xC3><0xAF>ve")
    second = len(pieces) - 2 * line
    store.add_dataset("d", new_dataset([pieces]))
    assert set(range(second, len(pieces))) <= set(members(store, "groups.repeated_span")[0])
    assert set(range(second + 2, len(pieces))) <= set(members(store, "groups.induction_trigram")[0])
