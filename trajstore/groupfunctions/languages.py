"""Tokens that go on in a language: the same one as what stands before them, as py3langid tells it.

`trajstore group add foreign --python trajstore.groupfunctions.languages:not_english` makes the group of all
languages but English. A group of one is a function of one's own:

    from trajstore.groupfunctions.languages import continuing

    def french(frame):
        return continuing(frame, ["fr"])

Languages are told of stretches: a line, or where it is long, sentences of it, `STRETCH` bytes of letters at least. What
has fewer than `ENOUGH` bytes of letters, fewer than `LETTERS` letters among its signs (code, formulas, tables), or is
less than `SURE` is of no language, and stands for nothing. So this cannot see a foreign word or a short quotation in a
sentence of another language, nor where in a stretch the language changes; it often passes over headings, names and
lists; it may take close relatives for each other (Catalan and Spanish), which ends what went on; and transliterated
text is mostly told as something else. Bytes are those of UTF-8: 24 are 24 letters of English, 22 or so of French, 12 of
Russian, 8 of Chinese.

Needs the extra `languages`. Opens no store.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.errors import GroupError
from trajstore.text import piece_bytes

if TYPE_CHECKING:
    import polars as pl

STRETCH = 60
"""Bytes of letters that make a stretch of their own in a long line."""
ENOUGH = 24
"""Bytes of letters from which a language can be told, and after which a token goes on in it."""
LETTERS = 0.7
"""Share of letters among the signs of a stretch, below which it is of no language."""
SURE = 0.7
"""Probability, by py3langid, below which a stretch is of no language."""

_NONE = {"zxx", "pcm"}
"""Labels that stand for no language: py3langid's own for that, and Nigerian Pidgin, for which it takes odd English."""

_KINDS = {"wuu": "zh", "yue": "zh", "id": "ms", "nn": "no", "bs": "sh", "hr": "sh", "sr": "sh"}
"""Languages that ISO 639 counts as kinds of one, and that are hardly told apart: Chinese, Malay with Indonesian,
Norwegian, and Serbo-Croatian."""

_LINE = re.compile(r"[^\n\r\v\f\x85\u2028\u2029]+")
_SENTENCE_END = re.compile(r"""[.!?…]+["'”’»)\]]*\s+|[。！？]+[”’」』）]*""")
_STRAY = re.compile("[\udc80-\udcff]")


def not_english(frame: pl.DataFrame) -> np.ndarray:
    """Tokens that go on in the language of what stands before them in the line or context, other than English."""
    return continuing(frame)


def continuing(frame: pl.DataFrame, languages: Collection[str] | None = None) -> np.ndarray:
    """Tokens with a letter that goes on in the language of what stands before it: a mask, bool (tokens,).

    Before it stand `ENOUGH` bytes of letters of its stretch, or stretches of which the last that has a language has the
    same. Where a character is spread over tokens, all of them hold it. `languages` are ISO 639 codes (`fr`, `ru`); None
    stands for all but English. Chinese is `zh`, Indonesian `ms`, Norwegian `no`, and Bosnian, Croatian and Serbian
    are `sh`. Raises `GroupError` where py3langid is not installed, or does not know one of them.
    """
    known = {_KINDS.get(label, label) for label in _identifier().labels} - _NONE
    if unknown := sorted(set(languages or ()) - known):
        raise GroupError(
            f"{unknown[0]!r} is no language that can be told. Those are: {', '.join(sorted(known))}."
        )
    wanted = known - {"en"} if languages is None else languages
    pieces = [piece_bytes(text) for text in frame["text"]]
    text = b"".join(pieces).decode("utf-8", errors="surrogateescape")
    widths = np.array([1 if _STRAY.match(sign) else len(sign.encode()) for sign in text], dtype=np.int64)
    is_letter = np.array([unicodedata.category(sign)[0] in "LM" for sign in text], dtype=bool)
    goes_on = is_letter & _goes_on(text, is_letter, np.append(0, np.cumsum(widths * is_letter)), wanted)
    ends = np.cumsum(widths)[goes_on]
    inside = np.zeros(sum(map(len, pieces)), dtype=bool)  # by byte
    for end, width in zip(ends.tolist(), widths[goes_on].tolist(), strict=True):
        inside[end - width : end] = True
    edges = accumulate(map(len, pieces))
    held = [inside[edge - len(piece) : edge].any() for piece, edge in zip(pieces, edges, strict=True)]
    return np.array(held, dtype=bool)


def _goes_on(text: str, is_letter: np.ndarray, before: np.ndarray, wanted: Collection[str]) -> np.ndarray:
    """For each character, whether a wanted language goes on there; `before` has the bytes of letters before each."""
    goes_on = np.zeros(len(text), dtype=bool)
    last = None
    for start, end in _stretches(text, before):
        if before[end] - before[start] < ENOUGH:
            continue
        language = _language(text[start:end], int(is_letter[start:end].sum()))
        if language is None:
            continue
        if language in wanted:
            goes_on[start:end] = before[start:end] - before[start] >= (0 if language == last else ENOUGH)
        last = language
    return goes_on


def _stretches(text: str, before: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, end) of each stretch: lines, cut at sentences' ends that have `STRETCH` on both sides."""
    for line in _LINE.finditer(text):
        start, end = line.span()
        for sentence_end in _SENTENCE_END.finditer(text, start, end):
            cut = sentence_end.end()
            if before[cut] - before[start] >= STRETCH and before[end] - before[cut] >= STRETCH:
                yield start, cut
                start = cut
        yield start, end


def _language(stretch: str, letters: int) -> str | None:
    if letters < LETTERS * sum(map(len, stretch.split())):
        return None
    probabilities: Counter[str] = Counter()
    for label, probability in _identifier().rank(_STRAY.sub("", stretch)):
        probabilities[_KINDS.get(label, label)] += probability
    language = max(probabilities, key=probabilities.__getitem__)
    return None if probabilities[language] < SURE or language in _NONE else language


@cache
def _identifier() -> Any:
    """py3langid's model of 139 languages, which takes half a second to load."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise GroupError(
            f"Telling languages needs py3langid ({error}). Install it: pip install 'trajstore[languages]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
