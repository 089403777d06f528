"""The number of torch's threads for passes on a CPU: as many as asked for, else the better of one and all.

On a machine that others use too, several threads that wait for each other can be ten times slower than one. So a few
contexts are timed with all threads and with one, and again after a while, since the others come and go. Another number
of threads changes the last bits of the losses, no more than another batch does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from trajstore.arguments.spelling import option
from trajstore.forward.losses import token_losses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids
    from trajstore.progress import Progress

LEAST_TOKENS = 4096
"""Tokens of a job under which the threads are left as they are: looking would not pay."""
SAMPLE_TOKENS = 256
"""About as many are timed."""
AGAIN = 60.0
"""Seconds after which the threads are timed again; doubled each time the answer is the same."""
_TIMES = 2
_WORTH = 1.1
"""Factor of speed that all threads must reach to be taken."""


class Threads:
    """Torch's threads for the passes of one job; leave it by `close`, which puts back what was there."""

    def __init__(
        self,
        number: int | None,
        device: torch.device,
        tokens: int,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`number` is that of the threads, None for the better of one and all; `tokens` are those of the job."""
        self._before, self._progress, self._clock = torch.get_num_threads(), progress, clock
        self._looks = number is None and device.type == "cpu" and self._before > 1 and tokens >= LEAST_TOKENS
        self._next = clock()
        self._wait = AGAIN
        self._taken: int | None = None
        if number is not None:
            torch.set_num_threads(number)

    def close(self) -> None:
        """Put back the threads that there were."""
        torch.set_num_threads(self._before)

    def look(self, model: PreTrainedModel, contexts: Sequence[Ids]) -> None:
        """Take the better number of threads for a model's passes, where it is time to look, and say so."""
        if not self._looks or self._clock() < self._next:
            return
        sample = _sample(contexts)
        token_losses(model, sample)  # checks that a new model needs, which shall not be timed
        numbers = (self._before, 1)
        rates = dict.fromkeys(numbers, 0.0)
        for number in numbers * _TIMES:
            torch.set_num_threads(number)
            begin = self._clock()
            token_losses(model, sample)
            rates[number] = max(rates[number], sum(map(len, sample)) / max(self._clock() - begin, 1e-9))
        best = self._before if rates[self._before] >= _WORTH * rates[1] else 1
        torch.set_num_threads(best)
        if best != self._taken:
            self._say(best, rates)
        self._wait = AGAIN if best != self._taken else 2 * self._wait
        self._taken, self._next = best, self._clock() + self._wait

    def _say(self, best: int, rates: dict[int, float]) -> None:
        rated = [f"{_named(number)} {rate:,.0f} tokens/s" for number, rate in rates.items()]
        self._progress.say(
            f"{' and '.join(rated)} here now: {_named(best)} taken ({option('threads', 'N')} sets them)."
        )


def _sample(contexts: Sequence[Ids]) -> list[Ids]:
    """The first contexts, of about `SAMPLE_TOKENS` together; the first one is cut to that."""
    chosen, tokens = [contexts[0][:SAMPLE_TOKENS]], len(contexts[0])
    for ids in contexts[1:]:
        tokens += len(ids)
        if tokens > SAMPLE_TOKENS:
            break
        chosen.append(ids)
    return chosen


def _named(number: int) -> str:
    return "one thread" if number == 1 else f"{number} threads"
