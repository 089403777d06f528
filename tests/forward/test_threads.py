"""The number of torch's threads: as asked for, else the better of one and all, looked at again after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.cli import app
from trajstore.forward import threads
from trajstore.forward.threads import AGAIN, Threads
from trajstore.scoring import score

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trajstore.store.store import Store

CPU = torch.device("cpu")
CONTEXTS = [np.arange(40, dtype=np.int32)] * 9


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Machine:
    """A machine on which a pass takes as long as it is said to, by the number of threads, and what is said there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.now, self.seconds, self.passes = 0.0, seconds, 0
        self.said: list[str] = []
        monkeypatch.setattr(threads, "token_losses", self.work)

    def work(self, _model: Any, contexts: list[np.ndarray]) -> None:
        assert 2 <= sum(map(len, contexts)) <= 256
        self.passes += 1
        self.now += self.seconds["one" if torch.get_num_threads() == 1 else "all"]

    def clock(self) -> float:
        return self.now

    def say(self, message: str) -> None:
        self.said.append(message)

    def threads(self, number: int | None = None, device: torch.device = CPU, tokens: int = 9999) -> Threads:
        return Threads(number, device, tokens, self, self.clock)  # type: ignore[arg-type]


def test_where_threads_wait_for_each_other_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, one=0.2, all=2.0)
    chosen = machine.threads()
    chosen.look(neox(), CONTEXTS)
    assert torch.get_num_threads() == 1
    assert machine.said == [
        "2 threads 120 tokens/s and one thread 1,200 tokens/s here now: one thread taken (threads=N sets them)."
    ]
    chosen.close()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("one", "both", "taken"), [(1.0, 0.6, 2), (1.0, 0.99, 1), (1.0, 1.0, 1)])
def test_all_are_taken_where_they_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, one: float, both: float, taken: int
) -> None:
    Machine(monkeypatch, one=one, all=both).threads().look(neox(), CONTEXTS)
    assert torch.get_num_threads() == taken


def test_it_looks_again_after_a_minute_and_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, one=0.01, all=0.1)
    chosen, model = machine.threads(), neox()
    looks = []
    for _ in range(500):
        before = machine.passes
        chosen.look(model, CONTEXTS)
        if machine.passes > before:
            looks.append(machine.now)
        machine.now += 2.0
    gaps = np.diff(looks)
    np.testing.assert_allclose(gaps, [AGAIN, 2 * AGAIN, 4 * AGAIN, 8 * AGAIN][: len(gaps)], atol=4)
    assert len(gaps) >= 3
    assert len(machine.said) == 1
    machine.seconds = {"one": 0.1, "all": 0.05}  # the others have gone
    machine.now += 20 * AGAIN
    chosen.look(model, CONTEXTS)
    assert torch.get_num_threads() == 2
    assert machine.said[1].endswith("2 threads taken (threads=N sets them).")


def test_nothing_is_timed_where_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, one=0.1, all=1.0)
    for chosen in (machine.threads(number=2), machine.threads(tokens=100)):
        chosen.look(neox(), CONTEXTS)
        assert torch.get_num_threads() == 2
    machine.threads(device=torch.device("cuda")).look(neox(), CONTEXTS)
    torch.set_num_threads(1)
    machine.threads().look(neox(), CONTEXTS)
    assert (machine.passes, machine.said) == (0, [])


def test_score_takes_the_threads_asked_for_and_puts_back_what_there_was(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trajstore.scoring.job import publish

    seen, whole = [], publish.token_scores

    def looking(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return whole(*arguments, **options)

    monkeypatch.setattr(publish, "token_scores", looking)
    store.add_dataset("d", random_dataset())
    run = save_run(tmp_path / "run", [1])
    words = ["score", str(run), "-d", "d", "-s", str(store.path), "--threads", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "Scoring on cpu (1 thread) in float32." in result.stderr
    assert (seen, torch.get_num_threads()) == ([1], 2)


def test_a_job_of_many_tokens_times_its_own_contexts(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset([32] * 130))
    said: list[str] = []

    class Saying:
        def start(self, *_: Any) -> None: ...
        def advance(self, *_: Any) -> None: ...
        def stop(self) -> None: ...
        def say(self, message: str) -> None:
            said.append(message)

    score(store, str(save_run(tmp_path / "run", [1, 2])), ["d"], progress=Saying(), device="cpu")
    assert sum("threads" in each and "tokens/s" in each for each in said) == 1
    assert torch.get_num_threads() == 2


def test_threads_go_with_this_machine_only() -> None:
    words = ["score", "m", "-d", "d", "--executor", "ray", "--threads", "2"]
    assert CliRunner().invoke(app, words).exit_code == 2
