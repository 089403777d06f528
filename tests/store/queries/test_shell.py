"""The DuckDB command line on a copy of the catalog: driven by a pipe and on a terminal of ours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trajstore.cli import app
from trajstore.errors import QueryError, ShellUnavailable
from trajstore.store.queries import shell
from trajstore.store.store import Store

pytest.importorskip("duckdb_cli", reason="the package duckdb-cli is not installed")

COMMAND = [sys.executable, "-m", "trajstore", "shell", "-s"]


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which shells started here keep their copies."""
    folder = tmp_path / "private"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    return folder


def piped(store: Store, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(store.path), *words], input=text, capture_output=True, text=True, timeout=60
    )


def copies(private: Path) -> list[Path]:
    return list(private.glob("trajstore-*/*/shell-*"))


def test_queries_are_answered(planted: Store, private: Path) -> None:
    done = piped(
        planted, ".mode csv\nSELECT count(*) AS n FROM losses;\nFROM trajectory('every_token') LIMIT 1;\n"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["n", "3104"]
    assert lines[3].startswith("a,d,0,97,")
    assert "\x1b" not in done.stdout
    assert copies(private) == []


def test_what_it_is_kept_from(planted: Store, private: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("x\n1\n")
    refused = [
        (f"FROM '{tmp_path}/mine.csv'", "file system operations are disabled"),
        (f"COPY (SELECT 1) TO '{tmp_path}/out.csv'", "file system operations are disabled"),
        (f"ATTACH '{tmp_path}/other.duckdb'", "file system operations are disabled"),
        ("DROP VIEW losses", "read-only mode"),
        ("CREATE VIEW groups.mine AS SELECT 1", "read-only mode"),
        ("SET enable_external_access = true", "locked"),
        ("SET allowed_directories = ['/']", "locked"),
    ]
    done = piped(planted, "".join(f"{query};\n" for query, _ in refused))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "Error:" in line]
    assert len(errors) == len(refused), errors
    for (query, reason), error in zip(refused, errors, strict=True):
        assert reason in error, query
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "private", "store"]
    assert copies(private) == []


def test_nobody_is_locked_out(planted: Store, private: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, str(planted.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(".mode csv\nSELECT 1 AS x;\n")
        process.stdin.flush()
        assert process.stdout.readline() == "x\n"
        assert len(copies(private)) == 1
        planted.groups.add("mine", "SELECT dataset, context, position FROM tokens WHERE position = 3")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert copies(private) == [], "the copy goes, however the shell ends"


def test_files_of_ones_own(planted: Store, private: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("word\n w7\n")
    ask = f".mode csv\nSELECT count(*) AS n FROM tokens JOIN '{tmp_path}/mine.csv' ON text = word;\n"
    done = piped(planted, ask, "--files", str(tmp_path))
    assert done.returncode == 0, done.stderr
    expected = planted.sql("SELECT count(*) FROM tokens WHERE text = ' w7'").fetchall()[0][0]
    assert done.stdout.split() == ["n", str(expected)]


# a terminal

_ASKED = {
    "\x1b[6n": b"\x1b[1;1R",
    "\x1b[c": b"\x1b[?62c",
    "\x1b]11;?": b"\x1b]11;rgb:0000/0000/0000\x07",
}
"""A terminal's answers to requests for its cursor, its kind and its colour."""
_CODES = re.compile(r"\x1b\][^\x07]*\x07|\x1b\[[0-9;?]*[A-Za-z]")


def own_terminal() -> None:
    """Make what is stdin the terminal from which Ctrl-C comes."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A terminal on which a program runs."""

    def __init__(self, command: list[str]) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._end = ours
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=own_terminal,
        )
        os.close(theirs)

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def until(self, pattern: str, seconds: float = 30) -> str:
        """Return the text shown, colours left out, as soon as it has the pattern."""
        shown = ""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._end], [], [], 0.05)[0]:
                try:
                    new = os.read(self._end, 65536).decode(errors="replace")
                except OSError:
                    break
                shown += new
                for question in re.findall("|".join(map(re.escape, _ASKED)), new):
                    os.write(self._end, _ASKED[question])
            if re.search(pattern, plain := _CODES.sub("", shown)):
                return plain
        raise AssertionError(f"{pattern!r} did not come: {_CODES.sub('', shown)!r}")

    def close(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            os.close(self._end)


@pytest.fixture
def terminal(planted: Store, private: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("DUCKDB_HISTORY", str(private / "history"))
    planted.groups.add("my_own_group", "SELECT dataset, context, position FROM tokens WHERE position = 3")
    found = Terminal([*COMMAND, str(planted.path)])
    yield found
    found.process.send_signal(signal.SIGTERM)


def test_on_a_terminal(terminal: Terminal, private: Path) -> None:
    """Several lines, times, completion of groups and columns, Ctrl-C, history."""
    prompt = r"store D $"
    assert ".tables lists what there is" in terminal.until(prompt)
    terminal.type("SELECT count(*) AS n\r")
    terminal.until(r"\n")
    terminal.type("FROM raw_losses;\r")
    assert "3104" in terminal.until(r"Run Time[^\n]*\n.*" + prompt)
    for begun, completed in [
        ("SELECT item_pos", "item_position"),
        (" AS y FROM groups.my_o", "my_own_group"),
    ]:
        terminal.type(begun)
        terminal.until(begun[-4:])
        terminal.type("\t")  # by itself, since Tab in a pasted text is a blank
        terminal.until(completed)
    terminal.type(" JOIN tokens USING (dataset, context, position) LIMIT 1;\r")
    assert re.search(r"\by\b.*\b3\b", terminal.until(r"Run Time[^\n]*\n.*" + prompt), re.DOTALL)
    terminal.type("SELECT count(*) FROM range(100_000_000_000) t(i) WHERE sqrt(i) > 5;\r")
    terminal.until(r"\n\r*$")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.until(prompt)
    terminal.type("SELECT 'still ' || 'here' AS x;\r")
    assert "still here" in terminal.until(r"Run Time[^\n]*\n.*" + prompt)
    terminal.type(".quit\r")
    assert terminal.close() == 0
    assert "FROM groups.my_own_group" in (private / "history").read_text()
    assert copies(private) == []


# which program


def fake(folder: Path, says: str) -> None:
    program = folder / "duckdb"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.program().parent.name == "duckdb_cli"
    monkeypatch.setattr(shell.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShellUnavailable, match="is not installed. Install it with: pip install duckdb-cli"):
        shell.program()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake(tmp_path, "v2.1.0 (Some Duck) abc")
    assert shell.program() == tmp_path / "duckdb"
    fake(tmp_path, "v1.4.4 (Andium) abc")
    with pytest.raises(ShellUnavailable, match=r"v1\.4\.4, which is too old"):
        shell.program()
    fake(tmp_path, "")
    with pytest.raises(ShellUnavailable, match="no DuckDB"):
        shell.program()


def test_what_is_wrong_is_said_before_it_starts(planted: Store, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="There is no folder"):
        shell.command(planted.path, tmp_path, [tmp_path / "none"])
    result = CliRunner().invoke(app, ["shell", "-s", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "There is no store" in result.stderr
