"""Problems zero-shot and few-shot: their tokens, items and roles, and the matrix that gives both the same columns."""

from __future__ import annotations

import json
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from tests.conftest import ragged
from tests.helpers.progress import Heard
from trajstore.analysis.components.pca import pca
from trajstore.cli import app
from trajstore.datasets.generated_mathematics import CATEGORIES, draw, mathematics_dataset
from trajstore.datasets.prompts import Problem, prompt_dataset
from trajstore.datasets.tokenizers import load_tokenizer
from trajstore.errors import (
    BadDataset,
    MissingSlices,
    NotAligned,
    NothingChosen,
    TrajstoreError,
)
from trajstore.importers.ingest import ingest
from trajstore.pipelines.trajectories import trajectories
from trajstore.scoring import token_losses
from trajstore.store.files.datasets import NewDataset
from trajstore.store.matrix.export import save_matrix
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from tests.conftest import NewStore
    from trajstore.store.store import Store

TEXTS = [problem.text for category in CATEGORIES for problem in draw(category)]
ZERO, FEW = "dm-zero", "dm-few"


def wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@cache
def merging() -> PreTrainedTokenizerFast:
    """Byte-level BPE that merges across line breaks, between problems and inside them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    runs = ["\n".join(TEXTS[n : n + 10]) for n in range(0, len(TEXTS), 10)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        runs, trainers.BpeTrainer(vocab_size=512, initial_alphabet=alphabet, show_progress=False)
    )
    return wrapped(backend)


@cache
def spaced() -> PreTrainedTokenizerFast:
    """As SentencePiece does it: a space before any text, and line breaks as bytes."""
    characters = sorted(set("".join(TEXTS)) - {"\n", " "})
    pieces = ["<unk>", "<0x0A>", "▁", *characters]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256) if byte != 10]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *bytes_])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return wrapped(backend)


@pytest.fixture(scope="session", params=["merging", "spaced"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp(request.param)
    {"merging": merging, "spaced": spaced}[request.param]().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def merging_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("merging")
    merging().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def made(tokenizer: str) -> tuple[NewDataset, NewDataset]:
    """All 560 problems, zero-shot and few-shot."""
    return mathematics_dataset(tokenizer, "zero"), mathematics_dataset(tokenizer, "few")


def tokens(new: NewDataset) -> pl.DataFrame:
    """Every token with its labels."""
    assert new.items is not None
    context = np.repeat(np.arange(len(new.ids)), [len(ids) for ids in new.ids])
    flat = [text for texts in new.texts for text in texts]
    return new.items.with_columns(
        context=pl.Series(context), token=pl.Series(np.concatenate(new.ids)), text=pl.Series(flat)
    )


# The datasets


def test_zero_and_few_of_all_categories(tokenizer: str, made: tuple[NewDataset, NewDataset]) -> None:
    zero, few = made
    assert (len(zero.ids), len(few.ids)) == (560, 56)
    assert zero.contexts["category"].to_list() == [name for name in CATEGORIES for _ in range(10)]
    assert few.contexts["category"].to_list() == list(CATEGORIES)
    assert zero.contexts["shot"].to_list() == [0] * 560
    items = tokens(few).drop_nulls("item").group_by("context").agg(pl.col("item").n_unique()).sort("context")
    assert few.contexts["shot"].to_list() == (items["item"] - 1).to_list()
    assert max(few.contexts["shot"]) == 9
    facts = {"source": "generated-mathematics", "problems": 10, "seed": 0, "generator": 1, "length": 512}
    assert zero.source == facts | {"prompting": "zero"}
    assert few.source == facts | {"prompting": "few"}

    own = load_tokenizer(tokenizer)
    for n, ids in enumerate(zero.ids):
        assert ids.tolist() == own(TEXTS[n], add_special_tokens=False)["input_ids"]
    lengths = {len(ids) for ids in few.ids}
    assert max(lengths) == 512
    assert min(lengths) < 512


def test_few_shot_contexts_are_the_problems_joined_and_cut(merging_folder: str) -> None:
    few = mathematics_dataset(merging_folder, "few")
    own, merged = load_tokenizer(merging_folder), 0
    for n, ids in enumerate(few.ids):
        text = "\n".join(TEXTS[10 * n : 10 * n + 10])
        assert text.startswith(own.decode(ids))
        assert own.decode(ids) == text or len(ids) == 512
        merged += own(text)["input_ids"][:512] != ids.tolist()
    assert merged > 40  # tokenised as a whole, most would be other tokens: the merge is real
    separators = tokens(few).filter(role="separator")
    assert separators.select("text", "item", "item_position").unique().rows() == [("\n", None, None)]


def test_the_same_item_and_place_is_the_same_token(made: tuple[NewDataset, NewDataset]) -> None:
    zero, few = map(tokens, made)
    key = ["item", "item_position"]
    assert not few.drop_nulls("item").select(pl.struct(key).is_duplicated().any()).item()
    both = few.drop_nulls("item").join(zero, on=key, how="left", suffix=" zero")
    assert both["token"].equals(both["token zero"])
    assert both["role"].equals(both["role zero"])
    assert 0.6 < both.height / zero.height < 1  # the cut takes some
    last = few.drop_nulls("item").group_by("context").agg(pl.col("item").max()).sort("context")
    assert (last["item"] < 10 * (last["context"] + 1)).all()


def test_the_inner_line_break_belongs_to_the_answer(
    tokenizer: str, made: tuple[NewDataset, NewDataset]
) -> None:
    zero = tokens(made[0])
    with_both = 0
    for (item,), problem in zero.group_by("item", maintain_order=True):
        roles = problem["role"].to_list()
        assert [role for role, _ in groupby(roles)] == ["question", "answer"]
        first = roles.index("answer")
        assert "\n" in problem["text"][first]
        assert not any("\n" in text for text in problem["text"][:first])
        question, answer = TEXTS[item].split("\n")
        told = "".join(problem["text"][first:])
        assert told.partition("\n")[2] == answer
        with_both += not told.startswith("\n")
        asked = "".join(problem["text"][:first]) + told.partition("\n")[0]
        assert asked.lstrip() == question
    if "merging" in tokenizer:
        assert with_both > 100  # a token may hold the question's end and the line break: it is the answer's


def test_a_seed_gives_the_same_dataset_and_another_gives_others(merging_folder: str) -> None:
    first, again, other = (
        mathematics_dataset(merging_folder, "few", problems=2, seed=n).tokens_sha256 for n in (5, 5, 6)
    )
    assert first == again != other


def test_what_is_cut_is_said(merging_folder: str) -> None:
    heard = Heard()
    few = mathematics_dataset(merging_folder, "few", problems=3, length=60, progress=heard)
    assert max(map(len, few.ids)) == 60
    there = tokens(few).drop_nulls("item").group_by("item").len()
    full = [len(load_tokenizer(merging_folder)(p.text)["input_ids"]) for c in CATEGORIES for p in draw(c, 3)]
    whole = sum(full[item] == length for item, length in there.rows())
    (line,) = heard.lines
    assert f"at 60 tokens: of 168 problems {whole} are whole, {there.height - whole} in part" in line
    assert f"{168 - there.height} left out" in line
    heard.lines.clear()
    mathematics_dataset(merging_folder, "zero", problems=1, progress=heard)
    assert heard.lines == []


def test_one_space_of_the_tokenizer_is_no_separator(tmp_path: Path) -> None:
    spaced().save_pretrained(tmp_path)
    few = tokens(prompt_dataset([Problem("c", "p", "q"), Problem("c", "r", "s")], str(tmp_path), "few"))
    assert few["text"].to_list() == [" ", "p", "\n", "q", "\n", " ", "r", "\n", "s"]
    assert few["item"].to_list() == [0, 0, 0, 0, None, 1, 1, 1, 1]
    assert few["item_position"].to_list() == [0, 1, 2, 3, None, 0, 1, 2, 3]
    roles = ["question", "question", "answer", "answer"]
    assert few["role"].to_list() == [*roles, "separator", *roles]


def test_questions_may_have_lines_of_their_own(tmp_path: Path) -> None:
    spaced().save_pretrained(tmp_path)
    zero = tokens(prompt_dataset([Problem("c", "p\np", "q\nq")], str(tmp_path), "zero"))
    assert "".join(zero.filter(role="answer")["text"]) == "\nq\nq"


def test_what_is_refused(tmp_path: Path, merging_folder: str) -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "p": 1, "q": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped(words).save_pretrained(tmp_path)
    with pytest.raises(BadDataset, match="keeps no line breaks"):
        prompt_dataset([Problem("c", "p", "q")], str(tmp_path), "zero")
    with pytest.raises(BadDataset, match="prompting='one': there is zero and few"):
        mathematics_dataset(merging_folder, "one")  # type: ignore[arg-type]
    with pytest.raises(BadDataset, match="length=1"):
        mathematics_dataset(merging_folder, "few", length=1)
    with pytest.raises(BadDataset, match="0 problems"):
        mathematics_dataset(merging_folder, "few", problems=0)
    with pytest.raises(BadDataset, match="one problem at least"):
        prompt_dataset([], merging_folder, "few")
    new = mathematics_dataset(merging_folder, "few", problems=1)
    assert new.items is not None
    with pytest.raises(BadDataset, match="rows with their items"):
        NewDataset(new.ids, new.texts, new.contexts, new.tokenizer, new.source, new.items[1:])


# The aligned matrix


@cache
def tiny() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPTNeoXConfig(vocab_size=512, max_position_embeddings=512, initializer_range=0.3, **sizes)
    return GPTNeoXForCausalLM(config).eval()


@pytest.fixture(scope="module")
def scored(merging_folder: str, new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with both datasets and a model's losses on them: one of a real pass, one made up."""

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("scored") / "store"
    with new_store(path) as store:
        for name, prompting in ((ZERO, "zero"), (FEW, "few")):
            made = store.add_dataset(
                name, mathematics_dataset(merging_folder, prompting, problems=4, length=128)
            )
            store.append(model="m", dataset=name, step=0, losses=token_losses(tiny(), made.ids()))
            counted = np.arange(made.n_losses, dtype=np.float32) + (0.5 if prompting == "few" else 0)
            store.append(model="m", dataset=name, step=1, losses=counted, allow_large=True)
    return path


@pytest.fixture
def opened(scored: Path) -> Store:
    from trajstore.store.store import Store

    return Store(scored)


JOINED = """
SELECT z.item, z.item_position, z.token, z.text, z.role, zl.loss AS zero, fl.loss AS few
FROM tokens z
JOIN tokens f USING (item, item_position)
JOIN raw_losses zl ON (zl.dataset, zl.context, zl.position) = (z.dataset, z.context, z.position)
JOIN raw_losses fl ON (fl.dataset, fl.context, fl.position) = (f.dataset, f.context, f.position)
WHERE z.dataset = 'dm-zero' AND f.dataset = 'dm-few' AND zl.step = {step} AND fl.step = {step}
ORDER BY z.item, z.item_position
"""


def test_values_and_labels_are_those_of_sql(opened: Store) -> None:
    matrix = opened.matrix([ZERO, FEW], align="item")
    assert matrix.rows.rows() == [("m", 0, ZERO), ("m", 0, FEW), ("m", 1, ZERO), ("m", 1, FEW)]
    for step in (0, 1):
        expected = opened.sql(JOINED.format(step=step)).pl()
        assert matrix.columns.rows() == expected.drop("zero", "few").rows()
        assert matrix.values[2 * step].tolist() == expected["zero"].to_list()
        assert matrix.values[2 * step + 1].tolist() == expected["few"].to_list()
    assert matrix.columns["item_position"].min() == 1  # a first token has no zero-shot loss
    assert set(matrix.columns["role"]) == {"question", "answer"}
    swapped = opened.matrix([FEW, ZERO], align="item", steps=1)
    assert swapped.rows["dataset"].to_list() == [FEW, ZERO]
    assert swapped.columns.equals(matrix.columns)
    assert np.array_equal(swapped.values, matrix.values[[3, 2]])
    assert pca(matrix).scores.columns == ["model", "step", "dataset", "component", "score"]


def test_every_columns_token_is_the_same_in_both(opened: Store) -> None:
    columns = opened.matrix([ZERO, FEW], align="item").columns
    for name in (ZERO, FEW):
        own = opened.dataset(name).frame()
        found = columns.join(own, on=["item", "item_position"], how="left", suffix=" own")
        assert found["token"].equals(found["token own"])
        assert found["role"].equals(found["role own"])


def test_what_few_shot_cuts_drops_from_both(opened: Store) -> None:
    columns = opened.matrix([ZERO, FEW], align="item").columns
    wanted = {
        name: set(
            opened.dataset(name)
            .frame()
            .filter(pl.col("position") > 0)
            .drop_nulls("item")["item", "item_position"]
            .rows()
        )
        for name in (ZERO, FEW)
    }
    assert set(columns["item", "item_position"].rows()) == wanted[ZERO] & wanted[FEW]
    assert wanted[ZERO] - wanted[FEW]
    assert {position for _, position in wanted[FEW] - wanted[ZERO]} == {0}


def test_a_contexts_first_problem_has_its_zero_shot_losses(opened: Store) -> None:
    matrix = opened.matrix([ZERO, FEW], align="item", steps=0)
    difference = np.abs(matrix.values[1] - matrix.values[0])
    first = (matrix.columns["item"] % 4 == 0).to_numpy()
    assert first.sum() > 500
    assert difference[first].max() < 1e-5
    assert np.median(difference[~first]) > 1e-2  # what stands before the others counts


def test_a_group_in_any_of_the_datasets(opened: Store) -> None:
    every = opened.matrix([ZERO, FEW], align="item", steps=1).columns
    key = ["item", "item_position"]
    digits = opened.matrix([ZERO, FEW], align="item", group="digits")
    assert digits.columns.equals(every.filter(pl.col("text").str.contains(r"^\s*[0-9]+$")))
    # A token is repeated in a few-shot context where it is not in its problem alone.
    for name in (ZERO, FEW):
        members = opened.sql(
            f"SELECT item, item_position FROM tokens JOIN groups.repeated_token USING (dataset, context, position) "
            f"WHERE dataset = '{name}'"
        ).pl()
        in_one = every.join(members, on=key, how="semi")
        assert in_one.height < every.height
        found = opened.matrix([name], align="item", group="repeated_token", steps=1).columns
        assert in_one.join(found, on=key, how="anti").is_empty()
    both = opened.matrix([ZERO, FEW], align="item", group="repeated_token").columns
    assert (
        both.height
        == every.join(
            opened.sql(
                "SELECT item, item_position FROM tokens JOIN groups.repeated_token USING (dataset, context, position)"
            ).pl(),
            on=key,
            how="semi",
        ).height
    )
    with pytest.raises(
        NothingChosen, match="The group 'nothing' has no token with a loss in each of dm-zero"
    ):
        opened.matrix([ZERO, FEW], align="item", group=_nothing(opened))


def _nothing(store: Store) -> str:
    """A group without tokens."""
    store.groups.add("nothing", "SELECT dataset, context, position FROM tokens WHERE false")
    return "nothing"


def test_missing_steps_contexts_and_padding(scored: Path, opened: Store) -> None:
    made = opened.dataset(ZERO)
    opened.append(model="half", dataset=ZERO, step=7, losses=np.ones(made.n_losses))
    try:
        with pytest.raises(MissingSlices, match="half on dm-few at step 7"):
            opened.matrix([ZERO, FEW], "half", align="item")
        matrix = opened.matrix([ZERO, FEW], ["m*", "hal*"], steps="1,7:", align="item", missing="nan")
        assert matrix.rows.rows() == [("half", 7, ZERO), ("half", 7, FEW), ("m", 1, ZERO), ("m", 1, FEW)]
        assert (matrix.values[0] == 1).all()
        assert np.isnan(matrix.values[1]).all()
        assert not np.isnan(matrix.values[2:]).any()
    finally:
        opened.drop([("half", ZERO, 7)])
    for options in ({"contexts": "0:2"}, {"pad_first": True}):
        with pytest.raises(
            TrajstoreError, match="align='item' does not go together with contexts or pad_first"
        ):
            opened.matrix([ZERO, FEW], align="item", **options)  # type: ignore[arg-type]
    with pytest.raises(TrajstoreError, match="align='item': there is predict"):
        trajectories(opened, ["digits"], Selection([ZERO], align="item"))  # type: ignore[arg-type]


def test_datasets_that_are_not_aligned(store: Store, merging_folder: str, tmp_path: Path) -> None:
    def add(name: str, new: NewDataset) -> None:
        made = store.add_dataset(name, new)
        store.append(model="m", dataset=name, step=0, losses=np.ones(made.n_losses))

    add("zero", mathematics_dataset(merging_folder, "zero", problems=2))
    add("other", mathematics_dataset(merging_folder, "few", problems=2, seed=1))
    add("d", ragged((9, 9), 1))
    add("e", ragged((9, 9), 2))
    spaced().save_pretrained(tmp_path / "spaced")
    add("spaced", mathematics_dataset(str(tmp_path / "spaced"), "few", problems=2))
    with pytest.raises(
        NotAligned,
        match="At item 0, item_position 1, zero has the token .* other has .*seed and problems",
    ):
        store.matrix(["zero", "other"], align="item")
    with pytest.raises(NotAligned, match=r"At item 0, item_position \d, d has the token"):
        store.matrix(["d", "e"], align="item")
    with pytest.raises(NotAligned, match="their vocabularies differ"):
        store.matrix(["zero", "spaced"], align="item")
    new = mathematics_dataset(merging_folder, "zero", problems=1)
    assert new.items is not None
    twice = new.items.with_columns(item=pl.lit(7, pl.Int64))
    add("twice", NewDataset(new.ids, new.texts, new.contexts, new.tokenizer, new.source, twice))
    with pytest.raises(NotAligned, match="twice has item 7 at item_position 1 more than once"):
        store.matrix(["twice"], align="item")


def test_other_datasets_have_their_contexts_as_items(store: Store) -> None:
    made = store.add_dataset("d", ragged((9, 4), 1))
    store.append(model="m", dataset="d", step=0, losses=np.arange(made.n_losses, dtype=np.float32))
    matrix = store.matrix("d", align="item")
    plain = store.matrix("d")
    assert np.array_equal(matrix.values, plain.values)
    assert matrix.columns["item", "item_position"].rows() == plain.columns["context", "position"].rows()
    assert matrix.columns["role"].null_count() == matrix.columns.height


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_export(opened: Store, tmp_path: Path, suffix: str) -> None:
    matrix = opened.matrix([ZERO, FEW], align="item")
    out = tmp_path / f"prompts{suffix}"
    rows, columns, _ = save_matrix(matrix, out)
    assert pl.read_parquet(rows).equals(matrix.rows)
    assert pl.read_parquet(columns).equals(matrix.columns)
    if suffix == ".npy":
        assert np.array_equal(np.load(out), matrix.values)
    else:
        wide = pl.read_parquet(out)
        assert wide.columns == ["model", "step", "dataset", "losses"]
        assert np.array_equal(np.stack(wide["losses"].to_list()), matrix.values)
    report = ingest(opened, [out], dataset=ZERO, model="new")
    assert not report.written
    assert "labels columns by item" in report.failures[0].reason
    assert "Export each dataset by itself" in report.failures[0].reason


def test_commands(tmp_path: Path, merging_folder: str) -> None:
    run = CliRunner()
    store = str(tmp_path / "store")
    assert run.invoke(app, ["init", "-s", store]).exit_code == 0
    options = ["--tokenizer", merging_folder, "--problems", "2", "-s", store]
    for name in ("zero", "few"):
        done = run.invoke(app, ["dataset", "add", name, "dm-mathematics", "--prompting", name, *options])
        assert done.exit_code == 0, done.output
        contexts = 112 if name == "zero" else 56
        assert f"Dataset {name} added: {contexts} contexts" in done.stderr
    for source in ("dm-mathematics", "generated-mathematics"):  # an alias of the other where it has no path
        again = run.invoke(app, ["dataset", "add", "few", source, "--prompting", "few", *options])
        assert "was there already, with the same tokens" in again.stderr
        assert ("not the published ones" in again.stderr) == (source == "dm-mathematics")
    shown = json.loads(run.invoke(app, ["dataset", "show", "few", "-s", store, "--json"]).stdout)
    assert (shown["source"], shown["prompting"]) == ("generated-mathematics", "few")
    assert (shown["problems"], shown["generator"]) == (2, 1)

    from trajstore.store.store import Store

    with Store(store) as opened:
        for name in ("zero", "few"):
            losses = np.ones(opened.dataset(name).n_losses)
            opened.append(model="m", dataset=name, step=0, losses=losses)
        count = opened.matrix(["zero", "few"], align="item").columns.height
    out = str(tmp_path / "m.npy")
    done = run.invoke(app, ["matrix", out, "-d", "zero", "-d", "few", "--align", "item", "-s", store])
    assert f"2 checkpoints and datasets × {count:,} tokens" in done.stderr
    assert run.invoke(app, ["trajectory", "digits", "--align", "item", "-s", store]).exit_code == 1

    add = ["dataset", "add", "x"]
    wrong = [
        [*add, "dm-mathematics", *options],
        [*add, "dm-mathematics", "--prompting", "few", "--contexts", "5", *options],
        [*add, "dm-mathematics", "--prompting", "few", "--split", "test", *options],
        [*add, "notes.txt", "--tokenizer", merging_folder, "--prompting", "few", "-s", store],
    ]
    for arguments in wrong:
        done = run.invoke(app, arguments)
        assert done.exit_code == 2, arguments
        assert "dm-mathematics" in done.stderr
    unknown = run.invoke(app, [*add, "dm-mathematics", "--prompting", "one", *options])
    assert unknown.exit_code == 1
    assert "there is zero and few" in unknown.stderr
