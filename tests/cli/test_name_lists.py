"""Names on the command line: commas, what is there where none is given, completion, and options as they were typed."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.docs.test_docs import COMMANDS
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.cli import app
from trajstore.cli.name_lists import split_names
from trajstore.errors import BadOption, BadSteps, UnknownStep
from trajstore.store.store import Store


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ,", ["a", "b"]),
        ("position_between(1, 5)", ["position_between(1, 5)"]),
        ("x,f(1, g(2, 3)),y", ["x", "f(1, g(2, 3))", "y"]),
        ("token_in(['a', 'b']),z", ["token_in(['a', 'b'])", "z"]),
        ("text_is('),('),z", ["text_is('),(')", "z"]),
        ("tiny-[12]l*,b", ["tiny-[12]l*", "b"]),
        (",", []),
    ],
)
def test_commas_join_names_outside_of_brackets_and_quotes(text: str, names: list[str]) -> None:
    assert split_names(text) == names


SEVERAL = {"--model": "-m", "--dataset": "-d", "--group": "-g"}


def test_every_option_for_several_names_takes_commas() -> None:
    seen = 0
    for name, command in COMMANDS.items():
        for option in command.params:
            if option.name in ("dataset", "model", "group", "groups", "models") and option.multiple is True:
                assert option.callback is not None, (name, option.opts)
                seen += 1
    assert seen > 20


def test_commas_and_repetition_are_the_same(planted: Store) -> None:
    ask = ["trajectory", "--ci", "none", "--json", "-s", planted.path]
    joined = run(*ask, "every_token,position_between(1, 5)", "-m", "a,b", "-d", "d,e").stdout
    again = ["every_token", "position_between(1, 5)", "-m", "a", "-m", "b", "-d", "d", "-d", "e"]
    assert joined == run(*ask, *again).stdout
    assert len(json.loads(joined)) == 2 * 2 * 2 * 8
    assert (
        "Cannot" not in run("matrix", planted.path.parent / "m.npy", "-d", "d,e", "-s", planted.path).stderr
    )
    assert "names nothing" in run(*ask, "every_token", "-m", ",", code=2).stderr


@pytest.mark.parametrize("words", [["score", "x"], ["matrix", "m.npy"], ["shapes"], ["spikes", "-m", "a"]])
def test_the_datasets_are_listed_where_none_is_given(planted: Store, words: list[str]) -> None:
    said = run(*words, "-s", planted.path, code=2)
    assert "Error: --dataset is needed: name one or several of: d, e (as in -d d,e)" in " ".join(
        said.stderr.split()
    )
    assert said.stdout == ""


def test_an_empty_store_says_how_to_add_a_dataset(store: Store) -> None:
    assert "trajstore dataset add" in run("score", "x", "-s", store.path, code=2).stderr


def test_options_are_named_as_they_were_typed(planted: Store) -> None:
    with pytest.raises(UnknownStep, match="^from_step=7 matches no checkpoint"):
        planted.query("most_improved", from_step=7, models="a", datasets="d")
    with pytest.raises(BadSteps, match="^Cannot read from_step='x'"):
        planted.query("most_improved", from_step="x")
    with pytest.raises(UnknownStep, match="^steps=7 matches"):
        planted.matrix("d", steps=7)
    with pytest.raises(BadOption, match="^Cannot read ci='x'"):
        Interval("x")  # type: ignore[arg-type]
    words = ["query", "most_improved", "-s", planted.path]
    assert "-p from_step 7 matches no" in run(*words, "-p", "from_step=7", code=1).stderr
    assert (
        "--steps 7 matches"
        in run("matrix", "m.npy", "-d", "d", "--steps", "7", "-s", planted.path, code=1).stderr
    )


def completed(line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_TRAJSTORE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(app, [], prog_name="trajstore", env=asked).stdout.split()


@pytest.fixture(scope="module")
def cwd(planted_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completed")
    with Store(shutil.copytree(planted_once, folder / "store")) as store:
        store.groups.add(
            "nines", "SELECT dataset, context, position FROM tokens WHERE position = 9", "Ninth."
        )
    return folder


@pytest.mark.parametrize(
    ("line", "among", "exact"),
    [
        ("trajstore tra", ["trajectory"], True),
        ("trajstore group ex", ["examples"], True),
        ("trajstore matrix m.npy -m ", ["a", "b"], True),
        ("trajstore matrix m.npy -d ", ["d", "e"], True),
        ("trajstore matrix m.npy -d d,", ["d,d", "d,e"], True),
        ("trajstore trajectory nin", ["nines"], True),
        ("trajstore trajectory every", ["every_token"], True),
        ("trajstore group show ", ["nines", "digits", "every_token"], False),
        ("trajstore matrix m.npy --me", ["--measure"], True),
        ("trajstore dataset show ", ["d", "e"], True),
        ("trajstore trajectory every_token -s nowhere -m ", [], True),
    ],
)
def test_completion(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, line: str, among: list[str], exact: bool
) -> None:
    monkeypatch.chdir(cwd)
    found = completed(line)
    assert found == among if exact else set(among) <= set(found)


def test_completion_is_quick_and_loads_nothing_heavy(cwd: Path) -> None:
    code = (
        "import os, sys\n"
        "os.environ.update(_TRAJSTORE_COMPLETE='complete_bash', COMP_WORDS='trajstore group show ', COMP_CWORD='3')\n"
        "from trajstore.cli import main\nsys.argv[0] = 'trajstore'\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'duckdb', 'polars', 'numpy', 'transformers'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "nines" in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start < 2
