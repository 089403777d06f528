"""The examples of README.md and docs/ run: each block of commands or Python, in order, on a store like the demo's.

A block that cannot run here has a line `<!-- not run: REASON -->` before it, with one of `REASONS`. Outputs are
compared on a real demo's store alone: `TRAJSTORE_DEMO=demo pytest -m slow tests/docs/test_docs_examples.py`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.docs import untrained_demo
from trajstore.cli import app
from trajstore.demo.recipe import Recipe
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REASONS = {
    "goes on until it is stopped",
    "needs a cluster",
    "needs another machine",
    "needs another package",
    "needs the network",
    "needs the package on this page",
    "needs the server",
    "sets up an environment",
}
MEASURING = ("docs/how-to/compare.md", "docs/how-to/measures.md", "docs/reference/measures/llc.md")
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]*) -->\n)?^```(?P<language>\w*)(?P<title>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_DATA = {"", "text", "toml", "mermaid"}
"""Languages of blocks that show something and run nothing; a `text` that begins with `$ ` is commands."""


@dataclass(frozen=True)
class Block:
    """A block that runs, or says why it does not."""

    place: str
    language: str
    text: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are commands or code; those with a title are run in test_extending."""
    text = page.read_text(encoding="utf-8")
    result = []
    for match in _BLOCK.finditer(text):
        place = f"{page.relative_to(ROOT)}:{text[: match.start('language')].count(chr(10)) + 1}"
        commands = match["language"] == "text" and match["text"].startswith("$ ")
        if match["title"] or (match["language"] in _DATA and not commands):
            continue
        result.append(Block(place, match["language"], match["text"], match["reason"]))
    return result


BLOCKS = {page.relative_to(ROOT).as_posix(): blocks(page) for page in PAGES}


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block: as it is written, and its words; quotes and `\\` go on over lines."""
    lines = block.text.splitlines()
    if block.language == "text":
        lines = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)
    written = ""
    for line in lines:
        written += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(written.replace("\\\n", " "), comments=True)
            words = words[: words.index("|")] if "|" in words else words  # the shell's part is not run
        except ValueError:
            continue
        if words:
            yield written.strip(), words
        written = ""
    assert not written, f"{block.place}: quotes that do not end: {written}"


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    untrained_demo.make(folder)
    return folder


@pytest.fixture
def folder(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page: a copy, with TRAJSTORE set to the demo's store in it."""
    working = tmp_path / "working"
    shutil.copytree(_made, working)
    monkeypatch.chdir(working)
    monkeypatch.syspath_prepend(working)
    monkeypatch.setenv("TRAJSTORE", "demo/store")
    monkeypatch.setenv("COLUMNS", "120")
    return working


def prepare(page: str, folder: Path) -> None:
    """Give the folder what earlier pages, or earlier work, are said to have made."""
    for block in BLOCKS[page]:
        if name := re.match(r"# (\w+\.py)\b", block.text):
            (folder / name[1]).write_text(block.text, encoding="utf-8")
    if page == "docs/how-to/score.md":  # something that is not scored yet
        shutil.rmtree(folder / "demo/store/losses/model=tiny-2l-seed0/dataset=docs/step=1448")
    if page in MEASURING:  # where the weights are, as scoring notes it
        with Store(folder / "demo" / "store") as store:
            for model in ("tiny-2l-seed0", "tiny-2l-seed1"):
                store.publish_model(ModelFacts(model, repo=str(folder / untrained_demo.TOKENIZER)))
    if page in ("docs/cookbook.md", "docs/how-to/phases.md"):  # what the demo measures
        with Store(folder / "demo" / "store") as store:
            untrained_demo.append_measures(store, folder)
    if page == "docs/extending.md":
        learned = re.search(
            r'^```python title="learned.py"\n(.*?)^```$', (ROOT / page).read_text(), re.M | re.S
        )
        assert learned
        (folder / "learned.py").write_text(learned[1], encoding="utf-8")
    if page in ("docs/how-to/differences.md", "docs/how-to/export.md"):
        for prompting in ("zero", "few"):
            name = f"dm-{prompting}"
            source = f"dataset add {name} dm-mathematics mathematics_dataset-v1.0/interpolate --prompting {prompting}"
            _command([*source.split(), "--tokenizer", untrained_demo.TOKENIZER], "", source)
            with Store(folder / "demo" / "store") as store:
                untrained_demo.append_course(store, Recipe(), store.dataset(name))


def _command(words: list[str], answer: str, place: str) -> None:
    """Run the command `trajstore` with these words; it must exit with 0, with an answer of no also with 1."""
    result = CliRunner().invoke(app, words, input=answer)
    allowed = {0, 1} if answer == "n\n" else {0}
    error = result.exception if not isinstance(result.exception, SystemExit) else None
    assert error is None or answer == "n\n", f"{place}: {error!r}\n{result.output}"
    assert result.exit_code in allowed, f"{place}: exit code {result.exit_code}\n{result.output}"


def run_commands(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for written, words in commands(block):
        place = f"{block.place}: {written}"
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
        elif words == [".", ".venv/bin/activate"]:
            continue  # the tests run in it
        elif words[0] in ("cp", "rm"):
            subprocess.run(words, check=True)
        else:
            assert words[0] == "trajstore", f"{place}: only trajstore, cp and rm run here; mark the block"
            spread = [path for word in words[1:] for path in _spread(word)]
            _command(spread, "n\n" if "say no" in written else "y\n", place)


def _spread(word: str) -> list[str]:
    """The files that a word with `*` names, as a shell has it; any other word itself."""
    files = sorted(str(path) for path in Path().glob(word)) if "/" in word and "*" in word else []
    return files or [word]


def a_training_run(folder: Path) -> dict[str, Any]:
    """Return the names of a script that trains: a model, its data, a Trainer's arguments, the step of a loop."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    ids = [[number % 512 for number in range(start, start + 16)] for start in range(8)]
    return {
        "Trainer": Trainer,
        "model": AutoModelForCausalLM.from_pretrained(folder / untrained_demo.TOKENIZER / "step0"),
        "args": TrainingArguments(
            folder / "out", max_steps=2, report_to=[], save_strategy="no", use_cpu=True
        ),
        "data": Dataset.from_dict({"input_ids": ids, "labels": ids}),
        "step": 3,
    }


def run_code(block: Block, names: dict[str, Any]) -> None:
    if not re.match(r"# \w+\.py\b", block.text):
        exec(compile(block.text, block.place, "exec"), names)


@pytest.mark.parametrize("page", [page for page, found in BLOCKS.items() if any(not b.reason for b in found)])
@pytest.mark.usefixtures("one_thread", "drawn_rho")
def test_the_examples_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(page, folder)
    with Store(folder / "demo" / "store") as store:
        names: dict[str, Any] = {"__name__": "example", "store": store}
        if page == "docs/how-to/watch.md":
            names |= a_training_run(folder)
        for block in BLOCKS[page]:
            if block.reason:
                continue
            if block.language == "python":
                run_code(block, names)
            else:
                run_commands(block, monkeypatch)
        for value in names.values():
            if isinstance(value, Store):
                value.close()


def test_each_block_runs_or_says_why_not() -> None:
    every = [block for found in BLOCKS.values() for block in found]
    for block in every:
        assert block.language in ("bash", "python", "text"), f"{block.place}: what is {block.language}?"
        assert block.reason is None or block.reason in REASONS, f"{block.place}: {block.reason}"
    marks = sum(path.read_text(encoding="utf-8").count("<!-- not run:") for path in PAGES)
    assert marks == sum(block.reason is not None for block in every)
    assert sum(block.reason is None for block in every) >= 50


_DEMO = os.environ.get("TRAJSTORE_DEMO")
"""Read before the fixture that cleans the environment."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(_DEMO is None, reason="TRAJSTORE_DEMO is not set to the folder that make demo made")
def test_the_outputs_are_those_of_the_demo() -> None:
    script = ROOT / "docs" / "run_examples.py"
    done = subprocess.run(
        [sys.executable, script, str(_DEMO), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
