"""Problems from files written by hand: a .jsonl, and folders as DeepMind's published problems come in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from tests.helpers.progress import Heard
from trajstore.cli import app
from trajstore.datasets.problems import problem_dataset, read_mathematics_files, read_problems
from trajstore.datasets.prompts import Problem
from trajstore.errors import BadDataset
from trajstore.store.files.datasets import NewDataset
from trajstore.store.store import Store

QUIZ = [
    {"category": "sums", "question": "1 + 1?", "answer": "2"},
    {"category": "capitals", "question": "Capital of Norway?", "answer": "Oslo", "source": "an atlas"},
    {"category": "sums", "question": "2 + 3?", "answer": "5"},
    {"category": "sums", "question": "4 + 4?", "answer": "8"},
]
SUMS = "What is 1 + 1?\n2\nWhat is 2 + 2?\n4\nWhat is 3 + 3?\n6\n"


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer with a token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("bytes")
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    path = tmp_path / "quiz.jsonl"
    path.write_text("\n".join(map(json.dumps, QUIZ)) + "\n\n")
    return path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """As an archive of the published problems unpacks: a folder a split, a file a module."""
    root = tmp_path / "mathematics_dataset-v1.0"
    for split in ("interpolate", "train-easy", ".hidden"):
        (root / split).mkdir(parents=True)
    (root / "README.md").write_text("not problems\n")
    (root / "interpolate" / "arithmetic__add.txt").write_text(SUMS)
    (root / "interpolate" / "algebra__linear_1d.txt").write_text("Solve x = 1 for x.\n1\n")
    (root / "train-easy" / "arithmetic__add.txt").write_bytes(b"What is 9 + 9?\r\n18\r\nWhat is 1 + 1?\r\n2")
    (root / ".hidden" / "arithmetic__add.txt").write_text("Hidden?\nyes\n")
    return root


def texts(new: NewDataset) -> list[str]:
    return ["".join(pieces) for pieces in new.texts]


# A .jsonl file


def test_all_problems_of_a_file_zero_shot_and_few_shot(quiz: Path, byte_level: str) -> None:
    zero = problem_dataset(str(quiz), byte_level, "zero")
    assert texts(zero) == [f"{row['question']}\n{row['answer']}" for row in QUIZ]
    assert zero.contexts["category"].to_list() == ["sums", "capitals", "sums", "sums"]
    few = problem_dataset(str(quiz), byte_level, "few")
    assert texts(few) == ["1 + 1?\n2\n2 + 3?\n5\n4 + 4?\n8", "Capital of Norway?\nOslo"]
    assert few.contexts["shot"].to_list() == [2, 0]
    assert few.source == {
        "source": str(quiz),
        "problems": None,
        "seed": None,
        "prompting": "few",
        "length": 512,
    }


def test_items_are_the_same_tokens_under_both_promptings(quiz: Path, byte_level: str) -> None:
    both = []
    for prompting in ("zero", "few"):
        new = problem_dataset(str(quiz), byte_level, prompting)  # type: ignore[arg-type]
        assert new.items is not None
        pieces = pl.Series([text for context in new.texts for text in context])
        both.append(new.items.with_columns(text=pieces).drop_nulls("item").sort("item", "item_position"))
    assert both[0].equals(both[1])
    assert both[0].columns == ["item", "item_position", "role", "text"]
    second = both[0].filter(pl.col("item") == 1)
    assert "".join(second["text"]) == "Capital of Norway?\nOslo"
    assert "".join(second.filter(role="answer")["text"]) == "\nOslo"
    assert second["item_position"].to_list() == list(range(second.height))


def test_a_sample_of_each_category_grows_with_its_size(quiz: Path, byte_level: str) -> None:
    heard = Heard()
    one = texts(problem_dataset(str(quiz), byte_level, "zero", problems=1, seed=3, progress=heard))
    two = texts(problem_dataset(str(quiz), byte_level, "zero", problems=2, seed=3, progress=heard))
    assert len(one) == 2
    assert len(two) == 3
    assert set(one) < set(two)
    assert heard.lines == ["capitals has 1 problems, all of which are taken; 2 were asked for."]
    drawn = {
        tuple(texts(problem_dataset(str(quiz), byte_level, "zero", problems=1, seed=n))) for n in range(9)
    }
    assert len(drawn) > 1


def test_bad_lines_are_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = json.dumps(QUIZ[0]).encode()
    lines = [
        good,
        b"{",
        b"[1]",
        b'{"category": "c", "answer": "a"}',
        b'{"category": "c", "question": 7, "answer": "a"}',
    ]
    lines += [b'{"category": " ", "question": "q", "answer": "a"}', b"\xff", good]
    lines += [rb'{"category": "c", "question": "\ud800", "answer": "a"}']
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(BadDataset) as caught:
        read_problems(path)
    assert str(caught.value) == (
        f"{path}: line 2 is not JSON; line 3 is not an object; line 4 lacks question; line 5 has 7 for question, not a "
        'text; line 6 has " " for category, not a text; 2 more lines are bad. Nothing was written.'
    )
    path.write_bytes(lines[-1])
    with pytest.raises(BadDataset, match="line 1 has half a character in its question"):
        read_problems(path)
    path.write_text("\n")
    with pytest.raises(BadDataset, match="has no problems"):
        read_problems(path)
    with pytest.raises(BadDataset, match="is no .jsonl file"):
        read_problems(tmp_path / "absent.jsonl")


# DeepMind's published files


def test_one_published_file(published: Path) -> None:
    drawn = read_mathematics_files(published / "interpolate" / "arithmetic__add.txt", 10)
    assert {problem.category for problem in drawn} == {"arithmetic__add"}
    assert sorted(problem.text for problem in drawn) == [
        "What is 1 + 1?\n2",
        "What is 2 + 2?\n4",
        "What is 3 + 3?\n6",
    ]


def test_a_folder_of_folders_has_a_category_a_module(published: Path) -> None:
    heard = Heard()
    drawn = read_mathematics_files(published, 4, seed=1, progress=heard)
    assert [problem.category for problem in drawn] == ["algebra__linear_1d"] + ["arithmetic__add"] * 4
    assert Problem("algebra__linear_1d", "Solve x = 1 for x.", "1") in drawn
    assert (
        Problem("arithmetic__add", "What is 9 + 9?", "18") in drawn
    )  # of another folder, lines ending in \r\n
    assert len({problem.question for problem in drawn}) == 5
    assert heard.lines == ["algebra__linear_1d has 1 problems, all of which are taken; 4 were asked for."]


def test_a_seed_fixes_the_problems_and_more_add_to_the_end(published: Path) -> None:
    folder = published / "interpolate"
    (folder / "many__of.txt").write_text("".join(f"What is {n}?\n{n}\n" for n in range(1000)))
    few = read_mathematics_files(folder / "many__of.txt", 10, seed=5)
    many = read_mathematics_files(folder / "many__of.txt", 200, seed=5)
    assert many[:10] == few
    assert all(problem.question == f"What is {problem.answer}?" for problem in many)
    numbers = [int(problem.answer) for problem in many]
    assert len(set(numbers)) == 200
    assert 350 < sum(numbers) / 200 < 650  # from all over the file
    assert read_mathematics_files(folder / "many__of.txt", 10, seed=6) != few
    together = read_mathematics_files(folder, 10, seed=5)
    assert [problem for problem in together if problem.category == "many__of"] == few


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Question?\n1\nAnother?\n", "has 3 lines"),
        (b"", "has 0 lines"),
        (b"Question?\n\nAnother?\n2\n", "line 2 is empty"),
        (b"\nQuestion?\n", "line 1 is empty"),
        (b"Question?\r\n\r\n", "line 2 is empty"),
        (b"\xff?\n1\n", "line 1 or the next is not UTF-8"),
    ],
)
def test_files_that_are_no_published_problems(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "module.txt"
    path.write_bytes(content)
    with pytest.raises(BadDataset, match=reason):
        read_mathematics_files(path, 1)


def test_paths_without_published_problems(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="is no .txt file and no folder"):
        read_mathematics_files(tmp_path / "absent", 1)
    with pytest.raises(BadDataset, match="no .txt file in"):
        read_mathematics_files(tmp_path, 1)
    with pytest.raises(BadDataset, match="takes no path"):
        problem_dataset("generated-mathematics", "t", "zero", path=tmp_path)
    with pytest.raises(BadDataset, match="0 problems"):
        problem_dataset("dm-mathematics", "t", "zero", path=tmp_path, problems=0)


# The command


def test_commands(quiz: Path, published: Path, byte_level: str, tmp_path: Path) -> None:
    run = CliRunner()
    store = str(tmp_path / "store")
    assert run.invoke(app, ["init", "-s", store]).exit_code == 0
    options = ["--tokenizer", byte_level, "-s", store]
    add = ["dataset", "add"]
    done = run.invoke(app, [*add, "quiz", str(quiz), "--prompting", "few", *options])
    assert done.exit_code == 0, done.output
    assert "Dataset quiz added: 2 contexts" in done.stderr
    few = ["--prompting", "few", "--problems", "3", *options]
    done = run.invoke(app, [*add, "dm", "dm-mathematics", str(published / "interpolate"), *few])
    assert done.exit_code == 0, done.output
    assert "Dataset dm added: 2 contexts" in done.stderr
    shown = json.loads(run.invoke(app, ["dataset", "show", "dm", "-s", store, "--json"]).stdout)
    assert shown["source"] == "dm-mathematics"
    assert shown["path"] == str(published / "interpolate")
    with Store(store) as opened:
        frame = opened.dataset("dm").frame()
        assert frame["role"].unique().sort().to_list() == ["answer", "question", "separator"]
        before = opened.dataset_names()

    quiz.write_text(quiz.read_text().replace('"answer": "5"', '"answer": 5'))
    bad = run.invoke(app, [*add, "bad", str(quiz), "--prompting", "zero", *options])
    assert bad.exit_code == 1
    assert "line 3 has 5 for answer, not a text" in bad.stderr
    with Store(store) as opened:
        assert opened.dataset_names() == before
    for wrong in (
        [str(quiz), "--problems", "2"],
        [str(quiz), str(published)],
        ["dm-mathematics", str(published)],
        [str(quiz), "--prompting", "few", "--contexts", "3"],
    ):
        done = run.invoke(app, [*add, "x", *wrong, *options])
        assert done.exit_code == 2, wrong
    done = run.invoke(app, [*add, "x", str(quiz), str(published), "--prompting", "zero", *options])
    assert done.exit_code == 1
    assert "takes no path behind it" in done.stderr


def test_generators_are_imported_only_where_they_are_the_source(
    quiz: Path, byte_level: str, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "import trajstore.cli, trajstore.datasets.build\n"
        "from trajstore.datasets.problems import problem_dataset\n"
        "def generators():\n"
        "    return [name for name in sys.modules if 'generated_mathematics' in name]\n"
        f"problem_dataset({str(quiz)!r}, {byte_level!r}, 'zero')\n"
        "assert not generators(), generators()\n"
        f"problem_dataset('generated-mathematics', {byte_level!r}, 'zero', problems=1)\n"
        "assert generators()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
