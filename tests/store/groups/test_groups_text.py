"""Groups over texts and places, on hand-written tokens: words and characters that are spread over tokens.

A context is written as its tokens with `·` between them and `▸` before those that are in the group, such as a
byte-level BPE gives them: a byte that is no whole character is `<0xE2>`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.conftest import new_dataset
from trajstore.datasets.token_bytes import encode, piece_texts, token_bytes
from trajstore.errors import GroupError
from trajstore.store.files.datasets import ITEM_COLUMNS, NewDataset
from trajstore.text import escape_stray_bytes, join_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.conftest import NewStore
    from trajstore.store.store import Store

CASES: dict[str, list[str]] = {
    "capitalised": [
        "▸The· the·▸ É·a·▸\nA·1A·tHe·▸ X·▸ (A·b·C·▸ <0xC3>·▸<0x89>·t",
        "ab·Cd·▸ Ma·c·Donald·▸ ǅ· 東·▸A· _·B· '·▸A",  # Donald goes on with a word; ǅ is one letter in title case
    ],
    "word_continuation": [
        "don·▸'·▸t· in·▸teresting· caf·▸é·▸s· x·▸_·▸y· well·-·known· '·90·▸s",
        " na·▸<0xC3>·▸<0xAF>·▸ve· 東·京·<0xE3>·▸<0x81>·▸<0xAE>·a·▸b·.·c",
        " o·▸’·▸clock· 3·.·14· a· b· e·▸\u0301·▸t",
        "<0xAF>·ve·▸ry",
    ],
    "stopword": [
        "▸ in·▸ i· inn·▸ don·▸'·▸t· THEN·ce·▸ THE·▸ the·▸se· the·sis· us·ers·▸ I·▸'m· rock·'n'· roll",
        "▸It·▸’·▸s· a_·b·▸ a·-·b·.·▸And·,·▸ of·\n·▸the",
    ],
    "sentence_start": [
        "The· end·.·▸ T·he· Mr·.· Smith·?· “·▸Yes·.”·▸ No·\n· J·.· R·.· Mr·s·.· Brown· went·.",
        "U·.·S·.· Army· e·.g·. ·Foo·!\n\n·▸A·a·...·▸ So· 3·.·A· x·.y·.·z·.· (·▸Why· NASA·.·▸ It· says·:· Now",
        "a·.\n·▸<0xC3>·▸<0x89>·tat· b·.· then· C",
    ],
    "acronym": [
        "▸NA·▸SA· and·▸ G·▸PU·s· H·a·▸ H·▸2·▸O· Na·SA· A· A·1· MAX·_LEN·▸ СС·▸СР·▸ <0xC3>·▸<0x89>·▸U",
        " I·'m·▸ IBM·'s· 1·AB·▸ (UN·)· iOS",
        "NEW· DIRECT·OR· OF· NASA· named·\n·THE· END·.\n·The·▸ NASA· man·, the·▸ IBM·▸ PC·s·\n·SEE· ALSO·\n· see",
        "  I·. THE· OLD·\n·as is·, WITHOUT· ANY· IMPLIED· TERM·, LOSS·, (DATA·) or·▸ GPL·.·▸ UTF·-·8·\n·▸SHA1·,·▸ SHA2",
        "a·▸ TCP·/·▸IP·▸ PEP· 8·\n·▸ RFC·: of·▸ NASA·,·▸ ESA·,·▸ JAXA·;·▸ IN· A· HURRY·ed man·, a·▸ HTTP·▸ AP·▸I· TUx",
        "В· СССР· ИДЕТ· так·\n·▸СССР· и·\n",
    ],
    "completed_acronym": [
        "World· Health· Organization· (·▸WH·▸O·)· and· United· States· of· America· (·▸USA·)· (·UK·)",
        " Dep·artment· of· Defense· (·▸Do·▸D·)· Health· World· (·WHO·)· the· foo· (·see· WHO·)",
        "Organisation· for· Economic· Co-·operation· and· Development·▸ (OE·▸CD· x· (ABC·)",
        "graphics·\n·processing· unit·s· (·▸GPU·s·)· or· a· graphics· processing· unit· (·GPT·)· World· Wide· (·WW·W",
        "a· (small)· magnetic· resonance· imaging· (·▸MRI·,· so· I· am· (·iam·)· A·. B· (" + "·AB" * 300 + "·)",
    ],
    "opening_bracket": ["▸(·a·▸ [·b·])·)·▸ f(x)·<·▸（·▸<0xE3>·▸<0x80>·▸<0x8C>·<0xE3>·<0x80>·<0x8D>"],
    "closing_bracket": ["(·a· [·b·▸])·▸)·▸ f(x)·>·▸）·<0xE3>·<0x80>·<0x8C>·▸<0xE3>·▸<0x80>·▸<0x8D>"],
    "matched_bracket": [
        "(·a· [·b·▸])· )",  # the token of the ] counts for it, and its ) is right as well
        "(·[·)·▸]·▸)",  # the first ) stands where a ] should
        "a·)· (·▸)·)·]",
        "()· (·x·]·▸)· f(·▸))",  # what a token opens itself does not count
        "{·(·▸})·▸}·)",  # the } of }) is wrong, its ) and the next } are right
        "[·（·a·)·▸）·▸]· [·0·,·1·)",
        "(·a",
    ],
    "quote": ['▸"·a·▸"· don·\'t·▸ \'·b·▸\'.· rock·\'n\'·roll·▸ “·x·▸”· dogs·▸\'· 5·\'·s·▸ <0xC2>·▸<0xAB>·a·`'],
    "indentation": ["a·:·\n·▸   · return· x·▸\n ·▸\t·y·\n·  ·\n·z· · b·▸\n\n  ·c·\n· d", "  ·a·\n·  "],
    "non_ascii": [" a·▸ é·▸<0xC3>·~·▸—·▸b<0xE2>·<0x1F>·<0x·A9>·▸東"],
    "script_latin": ["▸ a·▸É·1· д·▸<0xC3>·▸<0xA9>·▸e·▸\u0301·東·▸ﬁ·_"],
    "script_greek": ["a·▸ λό·▸γος·б·▸<0xCE>·▸<0xBB>·;"],
    "script_cyrillic": ["▸ при·▸вет· b·▸<0xD0>·▸<0xB9>·c·▸ѣ·λ"],
    "script_hebrew": ["▸ של·▸ום·a·,"],
    "script_arabic": ["▸ سل·▸ام·،·a"],
    "script_devanagari": ["▸ नम·▸स्·▸ते·।·a"],
    "script_thai": ["▸สวัส·▸ดี·a·ກ"],
    "script_hangul": ["▸안·▸녕· a·東"],
    "script_kana": ["▸の·▸ー·東·▸カ·ㄅ"],
    "script_han": ["の·▸東·▸<0xE4>·▸<0xBA>·▸<0xAC>b·안", "<0xBA>·<0xAC>·▸京·<0xE4>·<0xBA>"],
    "script_cjk": ["▸の·▸東·▸안·a·▸ㄅ·。"],
    "number": [
        "▸3·▸.·▸14·▸ 1·▸,·▸000·▸,·▸000·▸ -·▸5· x·2·▸ 5·-·▸3· v·1·.·2·.·3·▸ 1·▸e·▸-·▸9· 5·km·▸ 19·▸90·.·▸ .·▸5",
        " [·▸1·,·▸2·]·+·▸7·▸ 1·,·▸2345· 1·st·▸ 2020·-·▸01·-·▸31·▸ +·▸4·▸ 5·%·▸ −·▸2·.· 10·.·0·.·0·.·1· 0x·1F",
        "▸-·▸1·▸\n-·▸2·.·x·_·3· abc·-·▸4·▸ 1·▸,·▸234·▸.·▸50·,· ٣",
    ],
    "url": [
        "see·▸ http·▸://·▸en·▸.wiki·▸/A_·▸(b)·).·▸ www·▸.x·▸.org·, http· x://·\"·▸https·▸://·▸a·▸.b·▸?q·▸=·▸é·\"·)",
        "▸FTP·▸://·▸a·.· http·: ·//·a·▸ s3·▸://·▸b/·▸<0xE4>·▸<0xBA>·▸<0xAC>·。",
    ],
    "email": ["▸a·▸.b·▸@·▸c-d·▸.com·, x·@y·▸ <me·▸@·▸x.org·>· a@b· @pro·perty· n·@·host·."],
    "email_host": ["a·.b·@·▸c-d·▸.com·, x·@y· <me·▸@x.org·>"],
    "dot_com_after_at": ["a·@·b·▸.·▸com·. www·.c·.com· @x·▸.com·.au· @y·.comm· @z·.com·-a"],
    "date": [
        "on·▸ 20·▸24·▸-01·▸-·▸31·▸ 31·▸ Jan·▸uary·▸ 20·▸24· may· 5·.·▸ May·▸ 5·▸th·▸,·▸ 2020·▸ 1/2·▸/99· 13·/45/·99",
        "▸2024·▸-05·▸-01·▸T·▸12·▸:00·▸Z·▸ Sept·▸.·▸ 2019·▸ 3·▸rd·▸ of·▸ May·.·▸ 1·▸.·▸2·▸.·▸2024· 1·.·2·.·3",
        " the· Mar·ch· of· 2024-·13-·01· 12·024-·01-·01· May·be· 5",
    ],
    "latex_command": ["▸\\·▸frac·{·a·▸}\\·▸alpha·\\\\·beta· C:\\·Users\\me·▸ \\section·▸*·{·\\·a· \\%·▸\\begin"],
    "code_line": [
        "▸def·▸ f·▸(x·▸):·\n·▸   ·▸ return·▸ x·▸ +·▸ 1·\n·This· returns· x·.·\n·▸x·▸ =·▸ 5·▸\r\n·▸x·▸ =·▸ 6",
        "▸if·▸ (a·▸ ==·▸ b·▸)·▸ {·\n·▸  ·▸ go·▸(a·▸);·\n·▸}·\n·Then· go· on·:·\n\n·▸<br·▸/>",
        "▸import·▸ os·\n·import· of· goods·\n·from· the· start·\n·▸#include·▸ <x.h>·\n·# A· title·\n·===·\n·▸>>>·▸ f",
        "Prices· rose·,· and· so· did· demand·;·\n·costs· (see· above·)· did· not· (yet·)·.",
    ],
}  # fmt: skip

SHIPPED = {*CASES, "question", "answer"}
"""Groups that come with the store and are tested here."""


def read(case: str) -> tuple[list[str], list[int]]:
    """(tokens, positions of the members) of a context as it is written above."""
    marked = case.split("·")
    return [each.removeprefix("▸") for each in marked], [
        n for n, each in enumerate(marked) if each[:1] == "▸"
    ]


def context(case: str) -> list[str]:
    return read(case)[0]


def members(store: Store, source: str, dataset: str = "d") -> list[list[int]]:
    """Positions of the members in each context, sorted; `source` is a view or a call of a macro."""
    found = store.sql(
        f"SELECT context, position FROM {source} WHERE dataset = '{dataset}' ORDER BY ALL"
    ).fetchall()
    contexts = store.dataset(dataset).n_contexts
    return [[position for number, position in found if number == each] for each in range(contexts)]


def with_cases(store: Store, by_dataset: Mapping[str, Sequence[str]]) -> Store:
    """Give a store datasets of hand-written contexts."""
    for name, cases in by_dataset.items():
        store.add_dataset(name, new_dataset([context(case) for case in cases]))
    return store


@pytest.fixture(scope="module")
def texts(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a dataset for each group, of its hand-written contexts."""
    with new_store(tmp_path_factory.mktemp("texts") / "store") as store:
        yield with_cases(store, CASES)


@pytest.mark.parametrize("name", CASES)
def test_shipped_group(texts: Store, name: str) -> None:
    assert members(texts, f"groups.{name}", name) == [read(case)[1] for case in CASES[name]]


def test_the_tokens_are_such_as_a_byte_level_bpe_shows() -> None:
    """The pieces above as the vocabulary of one: their texts come back as they are written."""
    pieces = list(
        dict.fromkeys(piece for cases in CASES.values() for case in cases for piece in context(case))
    )
    characters = bytes_to_unicode()

    def spelled(piece: str) -> str:
        parts = re.split(r"<0x([89A-F][0-9A-F])>", piece)
        data = b"".join(bytes.fromhex(part) if n % 2 else part.encode() for n, part in enumerate(parts))
        return "".join(characters[byte] for byte in data)

    backend = Tokenizer(models.BPE({spelled(piece): n for n, piece in enumerate(pieces)}, merges=[]))
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert piece_texts(tokenizer, range(len(pieces))) == pieces


# places


def test_positions(store: Store) -> None:
    store.add_dataset("d", new_dataset([list("abcde"), list("ab")]))
    assert members(store, "position_is(0)") == [[0], [0]]
    assert members(store, "position_is(3)") == [[3], []]
    assert members(store, "position_between(1, 3)") == [[1, 2, 3], [1]]
    assert members(store, "position_between(3, 1)") == [[], []]


def test_questions_and_answers(store: Store) -> None:
    roles = ["question", "question", "answer", "separator", "question", "answer", None]
    made = new_dataset([["1", "+1", "\n2", "\n", "3", "\n3"], ["x", "y"]])
    items = pl.DataFrame(
        {
            "item": [0, 0, 0, None, 1, 1, None, None],
            "item_position": [0, 1, 2, None, 0, 1, None, None],
            "role": [*roles, None],
        },
        schema=ITEM_COLUMNS,
    )
    store.add_dataset(
        "d", NewDataset(made.ids, made.texts, made.contexts, made.tokenizer, made.source, items)
    )
    store.add_dataset("e", new_dataset([["a", "b"]]))
    assert members(store, "groups.question") == [[0, 1, 4], []]
    assert members(store, "groups.answer") == [[2, 5], []]
    assert members(store, "groups.answer", "e") == [[]]


# macros over texts


@pytest.mark.parametrize(
    ("word", "case"),
    [
        ("president", "the·▸ Pres·▸ident·'·s· president·ial·▸ PRESIDENT·.· president·_x"),
        ("don't", "▸don·▸'t· don·t·▸ Don·▸’·▸t·'·s"),
        ("co", "▸Co·-·operate· Co·operate"),
        ("x.y", "x·.y·xzy"),
        ("a+", "a·+· aa"),
        ("naïve", " na·<0xC3>·<0xAF>·ves·▸ na·▸<0xC3>·▸<0xAF>·▸ve"),
    ],
)
def test_word_is(store: Store, word: str, case: str) -> None:
    tokens, expected = read(case)
    store.add_dataset("d", new_dataset([tokens]))
    quoted = word.replace("'", "''")
    assert members(store, f"word_is('{quoted}')") == [expected]


def test_no_parameter_of_a_macro_bears_a_column_s_name(store: Store) -> None:
    """If one did, `WHERE position = position` would be true of every row. Of the relations that macros read."""
    macros = store.sql(
        "SELECT function_name, parameters, macro_definition FROM duckdb_functions() WHERE NOT internal"
    ).fetchall()
    words = {word for *_, text in macros for word in re.findall(r"\w+", text)}
    columns: dict[str, set[str]] = {}
    for view, name in store.sql("SELECT table_name, column_name FROM information_schema.columns").fetchall():
        columns.setdefault(view, set()).add(name)
    read = words & set(columns)
    assert {"losses", "raw_losses", "tokens", "measures", "unigrams"} <= read
    taken = {name for view in read for name in columns[view]}
    assert {name: taken & set(parameters) for name, parameters, _ in macros if taken & set(parameters)} == {}


def test_script_is(store: Store) -> None:
    store.add_dataset("d", new_dataset([["a", "Հայ", "եր", "<0xD5>", "<0xA5>", "ქ"]]))
    assert members(store, "script_is('Armenian')") == [[1, 2, 3, 4]]


def test_matching_makes_groups(store: Store) -> None:
    store.add_dataset("d", new_dataset([[" Sm", "ith", " and", " Jones", "es", " Jones"], ["Smith", "s"]]))
    store.groups.add("surnames", r"FROM matching('Smith|Jones\b')")
    assert members(store, "groups.surnames") == [[0, 1, 5], [0]]
    store.groups.add("ends", r"FROM matching('Smith|Jones', part := '([A-Z]..)(.*)')")
    assert members(store, "groups.ends") == [[1, 3, 5], [0]]
    with pytest.raises(GroupError, match="missing \\)"):
        store.groups.add("bad", "FROM matching('(')")


def test_what_a_text_may_hold_moves_nothing(store: Store) -> None:
    """Characters that the macros themselves use, stray bytes that are none, and tokens without text."""
    odd = [
        "\ufdd0",
        "a\u034f",
        "\U0010f0e4",
        "<0x",
        "E2>",
        "<0xFF>",
        "",
        "<0xC0>",
        "<0x80>",
        "x",
        "\ufdd1",
        "<0xED>",
        "<0xA0>",
        "<0x80>",
    ]
    store.add_dataset("d", new_dataset([[*odd, "needle", *odd, "nee", "dle"]]))
    assert members(store, "matching('needle')") == [[len(odd), 2 * len(odd) + 1, 2 * len(odd) + 2]]
    assert members(store, "groups.script_han") == [[]]


def test_contexts_and_datasets_are_apart(store: Store) -> None:
    store.add_dataset(
        "d", new_dataset([["a", "b"], ["c", "d"], ["<0xC3>", "x"], ["<0xA9>", "("], [")", "e"]])
    )
    store.add_dataset("e", new_dataset([["b", "c"]]))
    assert members(store, "matching('bc')") == [[]] * 5
    assert members(store, "matching('bc')", "e") == [[0, 1]]
    assert members(store, "matching('é')") == [[]] * 5
    assert members(store, "groups.matched_bracket") == [[]] * 5


def random_tokens(seed: int, n: int = 200) -> list[list[bytes]]:
    """Texts of letters of one to four bytes, cut into tokens anywhere, and some bytes of no character between."""
    draw = np.random.default_rng(seed)
    letters = [*"aab1 (\n)x", "é", "東", "🙂", "e\u0301"]
    contexts = []
    for _ in range(n):
        parts = [letters[k].encode() for k in draw.integers(0, len(letters), draw.integers(4, 40))]
        parts += [bytes([byte]) for byte in draw.integers(0x80, 0x100, draw.integers(0, 3))]
        draw.shuffle(parts)
        data = b"".join(parts)
        cuts = [0, *np.flatnonzero(draw.random(len(data) - 1) < 0.6) + 1, len(data)]
        pieces = [data[a:b] for a, b in itertools.pairwise(cuts)]
        contexts.append(pieces if len(pieces) > 1 else [*pieces, b"."])
    return contexts


def characters(data: bytes) -> tuple[str, np.ndarray]:
    """The text with a surrogate for each byte of no character, and where each character begins and the last ends."""
    text = data.decode("utf-8", errors="surrogateescape")
    widths = [len(character.encode("utf-8", errors="surrogateescape")) for character in text]
    return text, np.concatenate([[0], np.cumsum(widths)])


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        (r"[ab]+1?", None),
        (r"[^\s()]+ ", r"([^ab]*)([ab]+)"),
        (r"東+x?|é", None),
        (r"🙂[ab]", r"(🙂)(.)$"),
        (r"\n *[a-z]", None),
        (r"x*", None),
        (r"(?m)^.+$", None),
    ],
)
def test_matching_finds_what_pythons_re_finds(store: Store, pattern: str, part: str | None) -> None:
    contexts = random_tokens(3)
    store.add_dataset("d", new_dataset([[escape_stray_bytes(piece) for piece in each] for each in contexts]))
    expected = []
    for pieces in contexts:
        text, starts = characters(b"".join(pieces))
        found = set()
        for match in re.finditer(pattern, text):
            if part is None:
                first, last = match.span()
            elif inner := re.match(part, match[0]):
                first, last = (match.start() + edge for edge in inner.span(2))
            else:
                continue
            stops = np.cumsum([len(piece) for piece in pieces])
            held = [
                n
                for n, stop in enumerate(stops)
                if starts[first] < stop and starts[last] > stop - len(pieces[n])
            ]
            found |= set(held) if last > first else set()
        expected.append(sorted(found))
    assert sum(map(len, expected)) > 50
    asked = f"matching('{pattern}')" if part is None else f"matching('{pattern}', part := '{part}')"
    assert members(store, asked) == expected


def test_context_texts_are_the_joined_tokens(store: Store) -> None:
    contexts = random_tokens(4)
    store.add_dataset("d", new_dataset([[escape_stray_bytes(piece) for piece in each] for each in contexts]))
    rows = store.sql("SELECT * EXCLUDE (dataset, context) FROM context_texts ORDER BY context").fetchall()
    spread = 0
    for pieces, (text, holders, starters, widths, byte_holders) in zip(contexts, rows, strict=True):
        shown = re.sub("[\U0010f080-\U0010f0ff]", lambda byte: f"<0x{ord(byte[0]) & 255:02X}>", text)
        assert shown == join_pieces(map(escape_stray_bytes, pieces))
        _, starts = characters(b"".join(pieces))
        edges = np.cumsum([0, *map(len, pieces)])
        assert holders == (np.searchsorted(edges, starts[:-1], side="right") - 1).tolist()
        begins = {int(edge): n for n, edge in enumerate(edges[:-1])}
        assert starters == [begins.get(int(start)) for start in starts[:-1]]
        if widths is not None:
            spread += 1
            assert len(widths) == len(text)
            assert len(byte_holders) == sum(widths)
    assert spread > 100


def test_matched_brackets_are_those_of_a_stack(store: Store) -> None:
    draw = np.random.default_rng(0)
    contexts = [
        ["".join(draw.choice([*"([{)]}a"], draw.integers(1, 4))) for _ in range(40)] for _ in range(100)
    ]
    store.add_dataset("d", new_dataset(contexts))
    expected = []
    for pieces in contexts:
        still_open: list[tuple[str, int]] = []
        found = set()
        for position, sign in ((n, sign) for n, piece in enumerate(pieces) for sign in piece):
            if sign in "([{":
                still_open.append((")]}"["([{".index(sign)], position))
            elif still_open and still_open[-1][0] == sign:
                found |= {position} if still_open.pop()[1] < position else set()
        expected.append(sorted(found))
    assert members(store, "groups.matched_bracket") == expected


@pytest.mark.parametrize("name", CASES)
def test_one_dataset_s_members_are_found_in_its_file_alone(texts: Store, name: str) -> None:
    asked = texts.sql(f"EXPLAIN SELECT context, position FROM groups.{name} WHERE dataset = 'url'").fetchall()
    scans = re.findall(r"Files: (\d+)/(\d+)", asked[0][1])
    assert scans
    assert {(int(read), int(there) > len(CASES)) for read, there in scans} == {(1, True)}


def test_capitals_of_headlines_are_no_acronyms(store: Store) -> None:
    """Of a licence's capitals none, of its sentences' acronyms all: in Python's library, by hand-read lines."""
    from pydoc_data.topics import topics

    shouted = (
        'THIS SOFTWARE IS PROVIDED BY THE AUTHORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT '
        "LIMITED TO, THE WARRANTIES OF FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL WE BE LIABLE."
    )
    prose = "Under the GNU GPL, the FSF and NASA ask for ASCII or UTF-8 in each PEP; see RFC 822."
    texts = [shouted, f"It says: {shouted} And so on.", prose, *(text for _, text in sorted(topics.items()))]
    words = [re.findall(r"\w+|\W", text) for text in texts]
    store.add_dataset("d", new_dataset([each if len(each) > 1 else [*each, "."] for each in words]))
    found = members(store, "groups.acronym")
    assert found[0] == []
    assert found[1] == []
    assert [words[2][at] for at in found[2]] == ["GNU", "GPL", "FSF", "NASA", "ASCII", "UTF", "PEP", "RFC"]
    in_docs = Counter(words[n][at] for n in range(3, len(words)) for at in found[n])
    every = Counter(
        word for each in words[3:] for word in each if re.fullmatch(r"[A-Z][0-9]*[A-Z][A-Z0-9]*", word)
    )
    assert all(in_docs[word] == every[word] for word in ("PEP", "NFKC", "SIGINT", "API"))
    assert not in_docs.keys() & {"COMBINING", "CEDILLA", "ARABIC", "FIFTH"}


# a SentencePiece tokenizer

PROSE = (
    "The World Health Organization (WHO) began on 7 April 1948. It isn't small: NASA and GPUs cost 1,234.50 a day. "
    "Write to info@who.int, or see https://www.who.int/about (in 東京). Не так\nif x == 77:\n    y = f(x)\n"
)
FOUND = {
    "completed_acronym": ["(WHO"],
    "acronym": ["(WHO", "NASA", "GPU"],
    "date": ["7 April 1948"],
    "number": ["7", "1948", "1,234.50", "77"],
    "email": ["info@who.int"],
    "url": ["https://www.who.int/about"],
    "script_han": ["東京"],
    "script_cyrillic": ["Не", "так"],
    "code_line": ["if x == 77:", "    y = f(x)"],
}


@pytest.fixture(scope="module")
def sentencepiece_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """A unigram model trained by the sentencepiece library, with byte fallback, as transformers loads one."""
    from pydoc_data.topics import topics

    prefix = str(tmp_path_factory.mktemp("sentencepiece") / "tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in topics["integers"].splitlines() if line] * 20),
        model_prefix=prefix,
        vocab_size=340,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    pieces = [(processor.id_to_piece(n), processor.get_score(n)) for n in range(processor.get_piece_size())]
    backend = Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("name", FOUND)
def test_groups_of_a_sentencepiece_tokenizer(
    store: Store, sentencepiece_tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    ids = encode(sentencepiece_tokenizer, PROSE).ids
    pieces = piece_texts(sentencepiece_tokenizer, ids)
    assert join_pieces(pieces) == " " + PROSE
    store.add_dataset("d", new_dataset([pieces]))
    stops = np.cumsum([len(token_bytes(sentencepiece_tokenizer)(token)) for token in ids.tolist()]) - 1
    expected = set()
    for words in FOUND[name]:
        end = PROSE.index(words) + len(words)
        first, last = (len(PROSE[:edge].encode()) for edge in (end - len(words.lstrip("(")), end))
        expected |= set(
            range(int(np.searchsorted(stops, first, "right")), int(np.searchsorted(stops, last)) + 1)
        )
    assert members(store, f"groups.{name}") == [sorted(expected)]
