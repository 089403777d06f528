"""Tokens that go on in a language, on sentences in five of them, under tokens of words, characters and bytes."""

from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import polars as pl
import pytest
from transformers import PreTrainedTokenizerFast

from tests.conftest import new_dataset
from tests.store.groups.test_groups_text import sentencepiece_tokenizer
from trajstore.datasets.token_bytes import encode, piece_texts
from trajstore.errors import GroupError
from trajstore.groupfunctions import languages
from trajstore.groupfunctions.languages import ENOUGH, continuing, not_english
from trajstore.store.store import Store
from trajstore.text import escape_stray_bytes

__all__ = ["sentencepiece_tokenizer"]

ENGLISH = "The old bridge over the river was built by masons who had come from the north of the country."
FRENCH = "Le vieux pont de pierre traverse la rivière depuis trois siècles, et personne ne sait qui l'a bâti."
MORE_FRENCH = "Les enfants du village y jouent chaque été jusqu'à la tombée de la nuit."
GERMAN = "Der alte Bäcker öffnet seinen Laden jeden Morgen um sechs Uhr, auch wenn es draußen schneit."
RUSSIAN = "Старый мост через реку построили ещё в прошлом веке, и с тех пор его никто не чинил."
CHINESE = "这座古老的石桥已经有三百年的历史了，村里的人每天早上都从桥上走过去上班。"
CODE = "for (int i = 0; i < n; i++) { total += prices[i] * (1 + rate); }"


def words(text: str) -> list[str]:
    """Words with the space before them, line breaks, and signs; of Chinese, characters."""
    return re.findall(r" ?[^\W\u4e00-\u9fff]+|[\u4e00-\u9fff]|\n| ?[^\w\n]", text)


def pieces(text: str) -> list[bytes]:
    """Tokens of one byte, and some of two."""
    data = text.encode()
    cuts = [n for n in range(len(data) + 1) if n % 5 != 3 or n == len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


def members(tokens: list[str], wanted: list[str] | None = None) -> list[str]:
    mask = continuing(pl.DataFrame({"text": tokens}), wanted)
    assert mask.dtype == bool
    assert mask.shape == (len(tokens),)
    return [token for token, inside in zip(tokens, mask, strict=True) if inside]


def letters(token: str) -> int:
    return len("".join(re.findall(r"[^\W\d_]", token)).encode())


def after_enough(text: str) -> list[str]:
    """Words of a text, less those in its first `ENOUGH` bytes of letters."""
    found, before = [], 0
    for word in words(text):
        before += letters(word)
        if letters(word) and before > ENOUGH:
            found.append(word)
    return found


def all_words(text: str) -> list[str]:
    return [word for word in words(text) if letters(word)]


@pytest.mark.parametrize(("code", "text"), [("fr", FRENCH), ("de", GERMAN), ("ru", RUSSIAN), ("zh", CHINESE)])
def test_a_sentence_goes_on_after_its_first_words(code: str, text: str) -> None:
    expected = after_enough(text)
    assert 0 < len(expected) < len(all_words(text))
    assert members(words(text)) == expected
    assert members(words(text), [code]) == expected
    assert members(words(text), sorted({"fr", "de", "ru", "zh"} - {code})) == []


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        CODE,
        f"{ENGLISH}\n{CODE}\n{ENGLISH}",
        "Oui.\nNon merci.\nPeut-être.\nBonsoir",
        "Paris, Lyon, Nice",
        "1 234 567, 8 910; 11",
        "",
        " \n\n",
    ],
)
def test_english_code_and_short_lines_are_not_in_it(text: str) -> None:
    assert members(words(text)) == []


def test_the_next_line_goes_on_from_its_first_letter() -> None:
    expected = after_enough(FRENCH) + all_words(MORE_FRENCH)
    assert members(words(f"{FRENCH}\n{MORE_FRENCH}")) == expected
    assert members(words(f"{FRENCH}\n\n  {MORE_FRENCH}")) == expected
    in_one_line = [" Les" if word == "Les" else word for word in expected]
    assert members(words(f"{FRENCH} {MORE_FRENCH}")) == in_one_line


@pytest.mark.parametrize("between", ["Oui.", CODE, "1 234"])
def test_what_has_no_language_ends_nothing_and_is_not_in_it(between: str) -> None:
    expected = after_enough(FRENCH) + all_words(MORE_FRENCH)
    assert members(words(f"{FRENCH}\n{between}\n{MORE_FRENCH}")) == expected


@pytest.mark.parametrize("between", [ENGLISH, GERMAN])
def test_another_language_ends_it(between: str) -> None:
    expected = after_enough(FRENCH) + after_enough(MORE_FRENCH)
    assert members(words(f"{FRENCH}\n{between}\n{MORE_FRENCH}"), ["fr"]) == expected


@pytest.mark.parametrize("sign", ["\n", " "])
def test_after_english_a_language_begins_anew(sign: str) -> None:
    """On a line of its own, or in sentences of the same line."""
    assert members(words(f"{ENGLISH}{sign}{FRENCH}{sign}{ENGLISH}")) == after_enough(FRENCH)


@pytest.mark.parametrize("text", [f"{ENGLISH}\n{FRENCH}", RUSSIAN, f"{CHINESE}\n{GERMAN}"])
def test_tokens_of_bytes_are_members_where_their_letters_are(text: str) -> None:
    """Each byte of a letter that is in the group, and no other."""
    tokens = pieces(text)
    inside = continuing(pl.DataFrame({"text": [escape_stray_bytes(token) for token in tokens]}))
    by_character = continuing(pl.DataFrame({"text": list(text)}))
    assert by_character.any()
    ends = np.cumsum([len(sign.encode()) for sign in text])
    for stop, token, found in zip(np.cumsum([*map(len, tokens)]), tokens, inside, strict=True):
        first, last = np.searchsorted(ends, [stop - len(token), stop - 1], side="right")
        assert found == by_character[first : last + 1].any()


def test_strange_tokens_move_nothing() -> None:
    strange = ["", "<0xFF>", "<0xC3>", "\x00", "\ud7ff", "<0x80>"]
    assert members([*strange, *words(FRENCH), *strange]) == after_enough(FRENCH)
    assert members(strange) == []


def test_relatives_are_one_language() -> None:
    text = "Ovaj stari kameni most preko rijeke izgradili su majstori koji su došli sa sjevera zemlje."
    assert members(words(text), ["sh"]) == after_enough(text)


def test_tokens_of_a_store(store: Store, sentencepiece_tokenizer: PreTrainedTokenizerFast) -> None:
    """The group function on a context as a store has it, of a SentencePiece tokenizer with byte fallback."""
    ids = encode(sentencepiece_tokenizer, f"{FRENCH}\n{ENGLISH}").ids
    tokens = piece_texts(sentencepiece_tokenizer, ids)
    store.add_dataset("d", new_dataset([tokens]))
    frame = store.sql("FROM tokens ORDER BY position").pl()
    inside = np.flatnonzero(not_english(frame))
    joined = "".join(tokens).replace("<0xC3><0xA8>", "è").replace("<0xC3><0xA2>", "â")
    assert joined.lstrip() == f"{FRENCH}\n{ENGLISH}"
    assert tokens[inside[-1]].endswith("i"), "the end of bâti"
    assert len("".join(tokens[: inside[0]]).replace(" ", "")) in range(ENOUGH - 4, ENOUGH + 1)
    assert {"<0xC3>", "<0xA8>", "<0xA2>"} <= {tokens[n] for n in inside}
    assert not {" ", ",", "'", "."} & {tokens[n] for n in inside}


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(GroupError, match=r"'hr' is no language that can be told\. Those are: .*, sh, "):
        continuing(pl.DataFrame({"text": ["a"]}), ["fr", "hr"])


def test_without_py3langid_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    languages._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(GroupError, match=r"pip install 'trajstore\[languages\]'"):
        not_english(pl.DataFrame({"text": ["a"]}))
