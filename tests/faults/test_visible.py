"""Nothing that a store, file or model holds steers the terminal: every command, on hostile names and texts."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import rich.console
from typer.testing import CliRunner, Result

from tests.conftest import new_dataset
from tests.docs.test_docs import COMMANDS
from trajstore.cli import app, output
from trajstore.cli.streams import VisibleStream, visible_streams
from trajstore.store.catalog import catalog
from trajstore.store.files.datasets import NewDataset, TokenizerFacts
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import Provenance
from trajstore.store.store import Store
from trajstore.text import shown, visible, visible_json

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202etxt\u2066\r\x08[/x][bold]z"
IN_A_NAME = EVIL.replace("/", "")
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def build(root: Path) -> None:
    """A store in which every text that may come from somebody else is hostile, and files to take in."""
    texts = [[f"{EVIL}{token % 5}" for token in range(start, start + 12)] for start in range(6)]
    plain = new_dataset(texts)
    ids = [np.asarray(each) for each in plain.ids]
    dataset = NewDataset(
        ids=ids,
        texts=texts,
        contexts=plain.contexts.with_columns(pl.lit(EVIL).alias("document"), pl.lit(EVIL).alias("category")),
        tokenizer=TokenizerFacts(EVIL, "sha256:" + "0" * 64, 5),
        source={"source": EVIL, EVIL: EVIL},
    )
    rng = np.random.default_rng(0)
    with Store.create(root / "store") as store:
        for name in ("d", "e"):
            store.add_dataset(name, dataset)
        base = rng.gamma(3, 1, 66)
        for model in ("a", "b"):
            store.publish_model(ModelFacts(model, repo=EVIL, family=EVIL, size=EVIL, tokenizer=EVIL))
            for name in ("d", "e"):
                for step in (0, 1, 2, 4, 8, 16, 32, 64):
                    losses = base / np.log(step + 3) + rng.gamma(2, 0.1, 66)
                    how = Provenance(revision=EVIL, commit=EVIL, known_bad=EVIL, device=EVIL, source=EVIL)
                    store.append(model=model, dataset=name, step=step, losses=losses, provenance=how)
        store.groups.add("g", "SELECT dataset, context, position FROM tokens WHERE position > 3", EVIL)
        store.groups.add(
            "h", f"SELECT dataset, context, position FROM tokens WHERE text <> '{EVIL}' OR true", "Fine."
        )
    rows = pl.DataFrame(
        {"context": [0, 0], "position": [1, 2], "token": [1, 2], "loss": [1.0, 2.0], EVIL: [1, 2]}
    )
    rows.write_parquet(root / f"{IN_A_NAME}.parquet")
    (root / f"{IN_A_NAME}.py").write_text("def f(frame):\n    return frame['position'] > 1\n")
    (root / IN_A_NAME).mkdir()
    (root / "losses.npy").write_bytes(EVIL.encode())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / f"here {re.sub(r'[][]', '', IN_A_NAME)}"
    folder.mkdir()
    build(folder)
    return folder


@pytest.fixture(autouse=True)
def _there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(root)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


Q = shlex.quote(IN_A_NAME)
WALK = {
    "demo": [f"{Q}.parquet"],
    "init": ["", f"-s {Q}.parquet"],
    "migrate": ["--list", "--list --json", ""],
    "status": ["", "--json", f"-s {Q}", f"-s {Q}.parquet"],
    "check": ["", "--deep", "--deep --json"],
    "rebuild": [f"-s {Q}", ""],
    "drop": [f"-m {Q}", f"-m a --steps {Q}", "-m b -d e --steps 64 --yes"],
    "score": [f"{Q} -d d", f"a -d {Q}", f"a -d d --steps {Q} --dtype {Q}", f"nowhere/{Q} -d d"],
    "ingest": [f"{Q}.parquet -m c -d d --step 3", f"{Q}.parquet -m c -d d", f"losses.npy -m {Q} -d d --step 0"],
    "sql": [
        "'SELECT text, text AS \"[red]x\" FROM tokens LIMIT 2'",
        "'FROM tokens LIMIT 2' --json",
        "'PIVOT (SELECT text, position FROM tokens) ON text USING count(*)'",
        "'PIVOT (SELECT text, position FROM tokens) ON text USING count(*)' --format markdown",
        "\"SELECT error(chr(27) || '[31m' || chr(155))\"",
        "'SELECT text::INT FROM tokens'",
        "'SELECT text::INT FROM tokens' --json",
        f"{shlex.quote('SELECT ' + EVIL)}",
        f"-f {Q}",
        f"'SELECT 1' -o {Q}/x.csv",
        f"'SELECT 1' -o {Q}.txt",
        "'SELECT $x AS \"[/x]\"' -p " + shlex.quote(f"x={EVIL}"),
        "'SELECT 1' -p " + shlex.quote(EVIL),
    ],
    "query": ["list", f"{Q}", "coverage", f"coverage -p {shlex.quote('models=' + EVIL)}", "coverage --explain"],
    "schema": ["", "tokens", f"{Q}"],
    "shell": [f"-s {Q}", f"--files {Q}.parquet"],
    "trajectory": ["g h", "g --text", "g --json", f"g -m {Q}", f"{Q}", "'token_is($$x$$)'", f"g --plot {Q}/p.pngg"],
    "matrix": [f"{Q}/m.npy -d d", f"{Q}.csv -d d", f"m.npy -d {Q}"],
    "compare": ["a b -d d --steps last", f"a {Q}", "a b -d d --steps last --json --name again", f"a b --measure {Q}"],
    "pca": ["-d d --components 2", "-d d --components 2 --json --name again", f"--name {Q}"],
    "spikes": ["-d d", "-d d --json --name again", f"-d {Q}"],
    "phases": ["g -d d", "g -d d --json --name again", f"{Q}"],
    "unigram-first": ["", f"-m {Q}", f"-d {Q}"],
    "shapes": ["-d d -m a", f"-d d --name {Q}"],
    "audit": ["", "--json"],
    "serve": [f"-s {Q}"],
    "report": ["r.html -d d -g g", f"{Q}.htm", f"r.html -d {Q}"],
    "dataset add": [f"n {Q} --tokenizer {Q}", f"{Q} x.txt --tokenizer t", f"n {Q}.parquet --tokenizer nowhere/{Q}"],
    "dataset list": ["", "--json"],
    "dataset show": ["d", "d --json", f"{Q}"],
    "dataset drop": [f"{Q}", "d"],
    "measure": [
        "list",
        "list --json",
        f"{Q} -m a -d d",
        f"rankme -m {Q} -d d",
        f"rankme -m a -d d -p {shlex.quote('x=' + EVIL)}",
    ],
    "model list": ["", "--json"],
    "model show": ["a", "a --json", f"{Q}"],
    "model rename": [f"a {Q}", f"{Q} a", "a z"],
    "suite list": [""],
    "suite show": ["pythia", f"{Q}"],
    "group add": [
        f"k --sql {shlex.quote('SELECT ' + EVIL)}",
        f"k --python {Q}:f",
        f"k --file {Q}",
        f"k --sites {Q}.parquet",
        f"{Q} --sql 'SELECT 1'",
        f"k --sql 'FROM groups.g' --description {shlex.quote(EVIL)}",
    ],
    "group list": ["", "--json"],
    "group show": ["g", "h", "h --json", f"{Q}"],
    "group refresh": ["--all", f"{Q}"],
    "group drop": [f"{Q}", "k"],
    "group examples": ["g", "g --model a --step 8", "g --json", f"{Q}"],
    "group balance": [f"g {Q}", "g h --by text"],
    "diff steps": ["-d d --from 0 --to 8", "-d d --from 0 --to 8 --json --name again", f"-m {Q} --from 0 --to 1"],
    "diff models": ["a b -d d", f"a {Q}"],
    "diff prompts": ["d e", f"d {Q}"],
    "heads kinds": ["", f"-m {Q}", f"-d {Q}"],
    "heads match": ["", f"-m {Q}", f"-d {Q}"],
    "finding list": ["", "--json"],
    "finding kinds": ["", "--json"],
    "finding show": ["pca again", "pca again --json", f"{Q} {Q}", f"pca {Q}"],
    "finding drop": [f"pca {Q}", f"{Q} x"],
    "finding groups": ["again", f"{Q}"],
}  # fmt: skip
ASKED = [f"{command} {words}" for command, each in WALK.items() for words in each]


def run(words: list[str]) -> Result:
    return CliRunner().invoke(app, words)


def test_every_command_is_walked() -> None:
    assert {f"trajstore {name}" for name in WALK} == set(COMMANDS)


@pytest.mark.parametrize("asked", ASKED, ids=[visible(asked) for asked in ASKED])
@pytest.mark.filterwarnings("ignore::Warning")
def test_nothing_steers_the_terminal(asked: str) -> None:
    result = run(shlex.split(asked))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert STEERING.findall(result.stdout) == []
    assert STEERING.findall(result.stderr) == []
    assert (result.stdout + result.stderr).strip()


def test_what_is_hostile_is_seen() -> None:
    """Escaped, not dropped; brackets are no markup; csv and json keep what is there."""
    assert visible(EVIL).startswith("␛[31mred␛]0;title␇<U+009B>2J<U+202E>txt<U+2066>␍␈[/x][bold]z")
    ask = "SELECT text AS \"[red]x\" FROM tokens WHERE dataset = 'd' LIMIT 1"
    table = run(["sql", ask]).stdout
    assert table.splitlines()[0].strip() == "[red]x"
    assert shown(EVIL) in table
    assert run(["sql", ask, "--format", "csv"]).stdout_bytes.decode() == f'"[red]x"\n"{EVIL}0"\n'
    assert json.loads(run(["sql", ask, "--json"]).stdout) == [{"[red]x": f"{EVIL}0"}]
    error = run(["sql", "SELECT error(chr(27) || '[31mx' || chr(155))"])
    assert "␛[31mx<U+009B>" in error.stderr
    assert shown(EVIL) in run(["dataset", "list"]).stdout


@pytest.mark.parametrize("asked", ["migrate --list", "migrate", "status"])
def test_a_foreign_migration_is_shown_as_text(root: Path, asked: str) -> None:
    with catalog.writing(root / "store") as connection:
        connection.execute("INSERT INTO migrations VALUES (?, now()::TIMESTAMP)", [EVIL])
    result = run(asked.split())
    with catalog.writing(root / "store") as connection:
        connection.execute("DELETE FROM migrations WHERE name = ?", [EVIL])
    assert visible(EVIL) in result.output
    assert STEERING.findall(result.output) == []


def test_json_of_any_text_is_the_same_value() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x3000)])) + EVIL
    text = json.dumps({every: every}, ensure_ascii=False, indent=1)
    assert json.loads(visible_json(text)) == {every: every}
    assert STEERING.findall(visible_json(text)) == []


def test_lines_keep_their_breaks_and_nothing_else_unseen() -> None:
    assert visible("a\n\tb\r\n\x00\x7f\x85\u200b\udcff\ud800") == "a\n\tb␍\n␀␡<U+0085><U+200B><0xFF><U+D800>"
    assert shown("a\nb") == "a⏎b"
    assert shown(["\x1b", "\u202e"]) == repr(["\x1b", "\u202e"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_of_our_own_reach_a_terminal_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with visible_streams():
        output.print_table([f"[red]{EVIL}"], [[EVIL], ["x" * 9]])
        print(f"somebody else's {EVIL}")
    assert sys.stdout is stream
    printed = stream.getvalue()
    assert "\x1b[1m" in printed  # the header is bold
    own = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert STEERING.findall(own) == []
    assert "\x1b[31m" not in printed
    assert own.count(visible(EVIL)) == 3


def test_bars_of_libraries_may_draw_themselves_anew() -> None:
    behind = io.StringIO()
    stream = VisibleStream(behind)
    for text in ("\r 5 %", "\n\x1b[A", "a\rb\x1b[A", "\x1b[Aup", "\x1b[31m"):
        stream.write(text)
    stream.writelines(["\x07", "ok\n"])
    assert behind.getvalue() == "\r 5 %\n\x1b[Aa␍b␛[A␛[Aup␛[31m␇ok\n"


def test_a_bar_shows_brackets_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, real = Terminal(), rich.console.Console
    monkeypatch.setattr(
        rich.console, "Console", lambda **_: real(file=terminal, force_terminal=True, width=200, color_system=None)
    )  # fmt: skip
    bars = output.Bars()
    bars.start(f"[/x]{EVIL}", 4, "files")
    bars.advance(1, f"[red]{EVIL}")
    bars.say(EVIL)
    bars._bar.refresh()
    bars.stop()
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", "", terminal.getvalue())
    assert STEERING.findall(printed) == []
    assert f"[/x]{shown(EVIL)}" in printed
    assert f"[red]{shown(EVIL)}" in printed


def test_a_traceback_is_made_visible(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from trajstore import cli\n"
        "from trajstore.cli import output\n"
        "def fail(path):\n"
        f"    raise ZeroDivisionError({EVIL!r})\n"
        "output.open_store = fail\n"
        "cli.store.open_store = fail\n"
        "sys.argv = ['trajstore', 'status']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    printed = done.stderr.decode()
    assert done.returncode == 1
    assert f"ZeroDivisionError: {visible(EVIL)}" in printed
    assert STEERING.findall(printed) == []
