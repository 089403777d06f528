"""Keeps the bars and reports of transformers and of the Hub's client off stderr while trajstore works.

What their reports would say is checked and raised instead; trajstore shows a bar of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no messages below an error inside the block; afterwards as before."""
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
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.logging.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()
        if downloads:
            hub.enable_progress_bars()
