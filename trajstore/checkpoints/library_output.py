"""Keeps the bars and reports of transformers and of the Hub's client off stderr while trajstore works.

What their reports would say is checked and raised instead; trajstore shows a bar of its own.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Inside:
    """The number of open blocks, in all threads: what they silence is the whole process's."""

    lock = threading.Lock()
    count = 0
    restore: Callable[[], None]


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no messages below an error inside the block; after the last one that is open, as before the first."""
    with _Inside.lock:
        if _Inside.count == 0:
            _Inside.restore = staticmethod(_silence())
        _Inside.count += 1
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.count -= 1
            if _Inside.count == 0:
                _Inside.restore()


def _silence() -> Callable[[], None]:
    """Silence both libraries; gives what undoes it."""
    from huggingface_hub import constants
    from huggingface_hub import utils as hub
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_level = hub.logging.get_verbosity()
    # A user's environment variable has the last word on the Hub's bars.
    downloads = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not hub.are_progress_bars_disabled()
    logging.set_verbosity_error()
    hub.logging.set_verbosity_error()  # its client tells of every retry
    logging.disable_progress_bar()
    if downloads:
        hub.disable_progress_bars()

    def restore() -> None:
        logging.set_verbosity(level)
        hub.logging.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()
        if downloads:
            hub.enable_progress_bars()

    return restore
