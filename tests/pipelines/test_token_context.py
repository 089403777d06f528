"""Examples of a group: which tokens are drawn, how they are shown, and their losses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import new_dataset, ragged
from trajstore.cli import app
from trajstore.errors import BadOption, GroupError, NotScored, QueryError, UnknownName, UnknownStep
from trajstore.pipelines.token_context import examples, with_context
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

WORDS = ["The", " cat", "\n", " s", "<0xE2>", "<0x82>", "<0xAC>", "\x1b[31m", " end"]


@pytest.fixture(scope="module")
def whole(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that no test changes: d and e with many contexts, words with hand-written ones."""
    path = tmp_path_factory.mktemp("examples") / "store"
    with new_store(path) as store:
        store.add_dataset("d", ragged([30] * 12, seed=1))
        store.add_dataset("e", ragged([20] * 3, seed=2))
        words = store.add_dataset("words", new_dataset([WORDS, ["a", " b"]]))
        for step in (0, 512):
            losses = [step + n / 2 for n in range(words.n_losses)]
            store.append(model="m", dataset="words", step=step, losses=losses, allow_large=True)
        store.append(model="other", dataset="words", step=7, losses=[[3.0]], contexts=[1])
        store.groups.add("even", "FROM tokens WHERE position % 2 = 0 AND dataset IN ('d', 'e')", "Even.")
        store.groups.add("fourths", "FROM tokens WHERE position = 4 AND dataset = 'words'")
        store.groups.add("word_tokens", "FROM tokens WHERE dataset = 'words'")
        store.groups.add("none", "FROM tokens WHERE position < 0")
        store.groups.add("ghosts", "SELECT 'd' AS dataset, 3 AS context, 30 AS position")
        yield store


def run(store: Store, *words: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(app, ["group", "examples", *words, "-s", str(store.path)], env=env)
    assert result.exit_code == 0, result.output
    return result


# what is drawn


def test_datasets_and_contexts_take_turns(whole: Store) -> None:
    drawn = examples(whole, "even", 10).tokens
    assert Counter(drawn["dataset"]) == {"d": 5, "e": 5}
    of_d, of_e = drawn.filter(dataset="d"), drawn.filter(dataset="e")
    assert of_d["context"].n_unique() == 5
    assert sorted(Counter(of_e["context"]).values()) == [1, 2, 2]
    assert drawn["position"].is_in(range(0, 30, 2)).all()


def test_all_of_them_where_there_are_no_more(whole: Store) -> None:
    drawn = examples(whole, "even", 1000).tokens
    members = whole.sql("FROM groups.even ORDER BY ALL").fetchall()
    assert drawn.select("dataset", "context", "position").rows() == members
    assert len(members) == 12 * 15 + 3 * 10


def test_sizes_are_of_all_members(whole: Store) -> None:
    one = examples(whole, "even", 1)
    assert one.tokens.height == 1
    assert one.sizes == {"d": 180, "e": 30}
    assert examples(whole, "even", 5, datasets="e").sizes == {"e": 30}
    assert set(examples(whole, "even", 5, datasets=["[ef]"]).tokens["dataset"]) == {"e"}


def test_the_seed_decides(whole: Store) -> None:
    assert examples(whole, "even", 5, seed=3).tokens.equals(examples(whole, "even", 5, seed=3).tokens)
    draws = [
        whole.query("group_examples", group="even", datasets="e", n=12, seed=n).fetchall() for n in range(20)
    ]
    found = Counter((context, position) for drawn in draws for _, _, context, position in drawn)
    # Each of the 30 tokens has a chance of 0.4 in each draw, so the counts have mean 8 and standard deviation 2.2.
    assert len(found) == 30
    assert min(found.values()) >= 1
    assert max(found.values()) <= 17


def test_places_that_do_not_exist(whole: Store) -> None:
    with pytest.raises(GroupError, match="'ghosts' names context 3, position 30 of d, which does not exist"):
        examples(whole, "ghosts")


def test_a_group_that_can_no_longer_be_computed(store: Store) -> None:
    store.add_dataset("d", new_dataset([["1", "2"]]))
    store.groups.add("numbers", "FROM tokens WHERE text::INT > 0")
    assert examples(store, "numbers").sizes == {"d": 2}
    store.add_dataset("e", new_dataset([["x", "y"]]))
    with pytest.raises(QueryError, match="Conversion Error"):
        examples(store, "numbers")


def test_what_there_is_not(whole: Store) -> None:
    with pytest.raises(UnknownName, match="no group 'evn'.*Did you mean even"):
        examples(whole, "evn")
    with pytest.raises(UnknownName, match="no dataset 'x'"):
        examples(whole, "even", datasets=["x"])
    with pytest.raises(BadOption, match="at least one token"):
        examples(whole, "even", 0)


# how it is shown


def test_context_by_hand(whole: Store) -> None:
    token = examples(whole, "fourths", width=3).tokens.row(0, named=True)
    assert token["text"] == "<0xE2>"
    assert (token["before"], token["marked"], token["after"]) == (" cat\n s", "€", "\x1b[31m")
    token = examples(whole, "fourths", width=20).tokens.row(0, named=True)
    assert (token["before"], token["marked"], token["after"]) == ("The cat\n s", "€", "\x1b[31m end")


def test_a_context_ends_where_it_ends(whole: Store) -> None:
    shown = with_context(
        whole, examples(whole, "word_tokens", 50).tokens.drop("before", "marked", "after"), 1
    )
    around = {
        (c, p): (b, a) for c, p, b, a in shown.select("context", "position", "before", "after").iter_rows()
    }
    assert around[0, 0] == ("", " cat")
    assert around[0, 8] == ("\x1b[31m", "")
    assert around[1, 0] == ("", " b")
    assert around[1, 1] == ("a", "")


def test_the_command(whole: Store) -> None:
    result = run(whole, "fourths", "--width", "20")
    header, line = result.stdout.splitlines()
    assert header.split() == ["dataset", "context", "position", "text"]
    assert line.split(maxsplit=3) == ["words", "0", "4", line[line.index("The") :]]
    assert line.rstrip().endswith("The cat⏎ s[€]␛[31m end")
    assert "\x1b" not in result.stdout
    assert "Tokens: 1 in words. 1 drawn at random with seed 0" in result.stderr


def test_colours(whole: Store) -> None:
    colored = run(whole, "fourths", env={"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": ""}).stdout
    assert "\x1b[30;43m€\x1b[0m" in colored
    assert "[€]" not in colored
    plain = run(whole, "fourths", env={"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"}).stdout
    assert "[€]" in plain
    assert "43m" not in plain


def test_json(whole: Store) -> None:
    found = json.loads(run(whole, "even", "-n", "2", "--seed", "4", "--json").stdout)
    tokens = found.pop("tokens")
    assert found == {
        "group": "even",
        "description": "Even.",
        "sizes": {"d": 180, "e": 30},
        "align": "predict",
        "seed": 4,
        "checkpoint": None,
    }
    assert tokens == examples(whole, "even", 2, seed=4).tokens.to_dicts()
    assert set(tokens[0]) == {"dataset", "context", "position", "text", "before", "marked", "after"}


def test_an_empty_group_says_so(whole: Store) -> None:
    for words in (["none"], ["even", "-d", "words"], ["none", "--loss", "m"]):
        result = run(whole, *words)
        assert "has no tokens in the datasets asked for" in result.stderr
        assert result.stdout == ""
    assert json.loads(run(whole, "none", "--json").stdout)["tokens"] == []


def test_after_says_so(whole: Store) -> None:
    result = run(whole, "fourths", "--align", "after", "--width", "1")
    assert "Tokens that follow one of the group: 1 in words." in result.stderr


# losses


def test_losses_by_hand(whole: Store) -> None:
    found = examples(whole, "word_tokens", 50, checkpoint="m@0")
    assert found.checkpoint == ("m", 0)
    assert found.tokens["loss"].to_list() == [None, *(n / 2 for n in range(8)), None, 4.0]
    last = examples(whole, "word_tokens", 50, checkpoint="m")
    assert last.checkpoint == ("m", 512)
    assert last.tokens["loss"].to_list()[1] == 512


def test_losses_that_are_not_there(whole: Store) -> None:
    """Of a context that a partial slice lacks, and of a dataset without a slice."""
    found = examples(whole, "word_tokens", 50, checkpoint="other").tokens
    assert found["loss"].to_list() == [None] * 10 + [3.0]
    with pytest.raises(NotScored, match="no losses of m on d, e; there are of: m on words"):
        examples(whole, "even", checkpoint="m")
    both = examples(whole, "every_token", 500, checkpoint="m").tokens
    assert both.filter(dataset="d")["loss"].null_count() == 360
    assert both.filter(dataset="words")["loss"].null_count() == 2


@pytest.mark.parametrize(
    ("checkpoint", "error", "message"),
    [
        ("x", UnknownName, "no model 'x'"),
        ("m@5", UnknownStep, "^m@5 matches no checkpoint of m. The nearest that exist: 0, 512"),
        ("m@all", BadOption, "Cannot read loss='m@all'. It takes one checkpoint"),
        ("*", BadOption, "one checkpoint"),
    ],
)
def test_checkpoints_that_are_not(
    whole: Store, checkpoint: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        examples(whole, "word_tokens", checkpoint=checkpoint)


def test_the_loss_is_shown(whole: Store) -> None:
    result = run(whole, "fourths", "--loss", "m@512")
    assert result.stdout.splitlines()[0].split() == ["dataset", "context", "position", "loss", "text"]
    assert result.stdout.splitlines()[1].split()[3] == "513.5"
    assert "loss (nats) of m at step 512:" in result.stderr
