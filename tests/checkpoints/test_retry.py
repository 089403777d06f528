"""Waiting between tries, and for what it is worth it."""

from __future__ import annotations

import errno
import time

import pytest

from trajstore.checkpoints import retry


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were taken; none takes time."""
    taken: list[float] = []
    monkeypatch.setattr(retry, "pause", lambda seconds, stopped: taken.append(seconds))
    monkeypatch.setattr(retry, "_answered", set())
    monkeypatch.setattr(retry, "_failing", set())
    return taken


class Asked:
    """Raises the errors one after another, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_a_hub_that_never_answered_is_asked_once(waits: list[float]) -> None:
    ask = Asked(ConnectionRefusedError("refused"))
    with pytest.raises(ConnectionRefusedError):
        retry.patiently(ask)
    assert (ask.times, waits) == (1, [])


def test_one_that_answered_is_asked_again(waits: list[float]) -> None:
    assert retry.patiently(Asked()) == "answer"
    ask = Asked(ConnectionResetError("reset"), TimeoutError("no answer"))
    assert retry.patiently(ask) == "answer"
    assert (ask.times, waits) == (3, list(retry.WAITS[:2]))


def test_tries_are_bounded(waits: list[float]) -> None:
    retry.patiently(Asked())
    ask = Asked(*(ConnectionResetError(str(number)) for number in range(9)))
    with pytest.raises(ConnectionResetError, match="4"):
        retry.patiently(ask)
    assert (ask.times, waits) == (5, list(retry.WAITS))


def test_one_that_was_asked_in_vain_to_the_end_is_asked_less_until_it_answers(waits: list[float]) -> None:
    def failing() -> Asked:
        return Asked(*(ConnectionResetError("reset") for _ in range(9)))

    retry.patiently(Asked())
    for asked, waited in [(5, list(retry.WAITS)), (2, [retry.WAITS[0]]), (2, [retry.WAITS[0]])]:
        waits.clear()
        ask = failing()
        with pytest.raises(ConnectionResetError):
            retry.patiently(ask)
        assert (ask.times, waits) == (asked, waited)
    retry.patiently(Asked(ConnectionResetError("reset")))
    ask = failing()
    with pytest.raises(ConnectionResetError):
        retry.patiently(ask)
    assert ask.times == 5


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError("no"), ValueError("no")]
)
def test_what_waiting_does_not_mend_is_raised_at_once(waits: list[float], error: Exception) -> None:
    retry.patiently(Asked())
    with pytest.raises(type(error)):
        retry.patiently(Asked(error))
    assert waits == []


def test_the_cause_of_an_error_counts(waits: list[float]) -> None:
    retry.patiently(Asked())
    outer = FileNotFoundError("not in the cache")
    outer.__cause__ = ConnectionResetError("reset")
    assert retry.patiently(Asked(outer)) == "answer"


def test_a_wait_ends_when_nobody_waits_any_more() -> None:
    started = time.monotonic()
    retry.pause(0.1, lambda: False)
    assert 0.1 <= time.monotonic() - started < 5
    retry.pause(60, lambda: time.monotonic() - started > 0.2)
    assert time.monotonic() - started < 10
