"""Asks the Hub again where what went wrong may pass: a server that is busy or asks to wait, a connection that breaks.

A Hub that has not answered this process yet and does not answer now is taken to be out of reach, and asked once. One
that was asked in vain to the end is asked again but once from then on, until it answers: what it does not give now is
left to a later run.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

WAITS = (1.0, 5.0, 20.0, 60.0)
"""Seconds between one try and the next, unless the Hub asks for more."""

LONGEST_WAIT = 330.0
"""However long the Hub asks to wait: it counts requests by windows of five minutes."""

_answered: set[str] = set()
"""The addresses of Hubs that have answered this process."""

_failing: set[str] = set()
"""Addresses of Hubs that were asked as often as can be, the last time without an answer."""


def patiently(ask: Callable[[], T], stopped: Callable[[], bool] = lambda: False) -> T:
    """Return what `ask` returns, asked up to five times where what it raises may pass.

    It is not asked again once `stopped` is true.
    """
    from huggingface_hub import constants

    hub = constants.ENDPOINT
    waits = list(WAITS[:1] if hub in _failing else WAITS)
    while True:
        try:
            answer = ask()
        except Exception as error:
            if stopped() or not _may_pass(error):
                raise
            if not waits:
                _failing.add(hub)
                raise
            wait = waits.pop(0)
            pause(_asked_to_wait(error) or wait, stopped)
            if stopped():
                raise
        else:
            _answered.add(hub)
            _failing.discard(hub)
            return answer


def pause(seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait; ends soon after `stopped` has become true."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, 0.5))


def _may_pass(error: BaseException) -> bool:
    """Return whether the same request may go well a little later."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    http_error = HfHubHTTPError.__bases__[0]  # of whichever HTTP library the client uses
    for cause in _causes(error):
        if isinstance(cause, OfflineModeIsEnabled | ConnectionAbortedError):
            return False
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            return cause.response.status_code in (408, 429) or cause.response.status_code >= 500
        if isinstance(cause, ConnectionError | TimeoutError | http_error):
            return constants.ENDPOINT in _answered
    return str(error).startswith("Consistency check failed")  # a file that came short


def _asked_to_wait(error: BaseException) -> float | None:
    """Seconds for which the Hub asks to be left alone."""
    for cause in _causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", {})
        after = headers.get("Retry-After", "")
        # RateLimit: "api";r=0;t=55 says that none is left, and how soon there will be more
        limit = re.search(r"(?:^|;)\s*t=([0-9]+)", headers.get("RateLimit", ""))
        seconds = float(limit[1]) if limit else float(after) if after.isdecimal() else None
        if seconds is not None:
            return min(seconds + 1, LONGEST_WAIT)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
