"""Progress on the terminal and in a scheduler's log, by a clock of the test's own."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import rich.console
import typer
from typer.testing import CliRunner

from trajstore.cli import output
from trajstore.cli.output import Bars


class Clock:
    """Seconds, put forward by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def plain(text: str) -> str:
    """Return the text that a terminal shows, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Terminal:
    """Return the pictures shown on stderr as a terminal of 120 columns, one at a time."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = io.StringIO()
        real = rich.console.Console

        def console(**_: Any) -> rich.console.Console:
            return real(file=self.file, force_terminal=True, width=120, get_time=clock, color_system=None)

        monkeypatch.setattr(rich.console, "Console", console)

    def picture(self, bars: Bars) -> str:
        self.file.truncate(0)
        bars._bar.refresh()
        return plain(self.file.getvalue()).strip()


def test_a_bar_shows_rate_and_time_left(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(clock, monkeypatch)
    bars = Bars()
    bars.start("scoring", 10_000, "tokens")
    assert re.search(r"scoring .* 0 % +-:--:-- left", terminal.picture(bars))
    for number in range(1, 11):
        clock.now += 2
        bars.advance(500, f"step {number}")
    shown = terminal.picture(bars)
    # 500 tokens every 2 s: 250 a second, and 5,000 are left.
    assert "50 %" in shown
    assert "250 tokens/s" in shown
    assert "0:00:20 left" in shown
    assert shown.endswith("step 10")
    bars.say("a word [in brackets]")
    assert "a word [in brackets]" in terminal.file.getvalue()
    bars.stop()
    bars.advance(1)  # after the end: nothing


def test_a_bar_without_a_pace_yet_shows_none(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(clock, monkeypatch)
    bars = Bars()
    bars.start("reading", 4, "files")
    bars.advance(1, "one.csv")
    shown = terminal.picture(bars)
    assert "25 %" in shown
    assert "files/s" not in shown
    bars.start("checking", 2, "slices")
    assert "checking" in terminal.picture(bars)
    bars.stop()


def test_a_log_has_a_line_at_the_start_and_one_every_half_minute(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output.time, "monotonic", clock)
    bars = Bars()
    bars.start("scoring", 400_000, "tokens")
    for number in range(70):
        clock.now += 1
        bars.advance(1000, f"step {number}")
    bars.say("a word")
    bars.stop()
    bars.advance(1000)
    # 1,000 tokens a second: 370,000 and 340,000 are left.
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 400,000 tokens",
        "scoring: 8 %, 1.0k tokens/s, 6 min left step 29",
        "scoring: 15 %, 1.0k tokens/s, 6 min left step 59",
        "a word",
    ]


def test_nothing_done_for_long_says_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output.time, "monotonic", clock)
    bars = Bars()
    bars.start("scoring", 0, "tokens")
    clock.now += 100
    bars.advance(0)
    assert capsys.readouterr().err == "scoring: 0 tokens\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0"), (950, "950"), (13_600, "13.6k"), (136_000, "136k"), (2.1e6, "2.1M"), (3e9, "3.0G")],
)
def test_numbers_for_people(number: float, text: str) -> None:
    assert output.short(number) == text


@pytest.mark.parametrize("word", [KeyboardInterrupt(), RuntimeError("Query interrupted")])
def test_ctrl_c_is_a_sentence_whoever_noticed_it(word: BaseException) -> None:
    app = typer.Typer(cls=output.CommandGroup)

    @app.callback()
    def stopped() -> None:
        """Commands."""

    @app.command()
    def work() -> None:
        raise word

    result = CliRunner().invoke(app, ["work"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Stopped. Nothing is half-written")
