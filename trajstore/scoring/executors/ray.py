"""Runs a plan on a Ray cluster: one worker a GPU, or some CPUs each, and checkpoints as tasks.

Workers put slices straight into the store, which every machine must reach under the same path, as it must a local
run's folder. A slice's path is its key, so what is scored twice is there once. A checkpoint that fails is tried again;
a worker that dies is replaced, and its checkpoint goes back to the queue. No losses pass through the driver.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trajstore.arguments.spelling import current, option
from trajstore.errors import ExecutorError
from trajstore.progress import SILENT
from trajstore.scoring.executors.driver import Died, Driver, carry_out
from trajstore.scoring.executors.worker import Worker
from trajstore.scoring.model_facts import record_facts
from trajstore.scoring.options import ScoringOptions, scoring_options
from trajstore.scoring.plan_check import check_plan
from trajstore.scoring.report import ScoringReport
from trajstore.scoring.settings import choose_settings
from trajstore.scoring.time_budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trajstore.progress import Progress
    from trajstore.scoring.executors.worker import Outcome
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.store.store import Store


PATIENCE = 30.0
"""Seconds without news after which it is said what is waited for."""
_WITHOUT_STORE = "Every machine of the cluster must reach the store under this path."


def run_on_ray(
    store: Store,
    plan: Plan,
    options: ScoringOptions | None = None,
    *,
    address: str | None = None,
    num_cpus: int = 1,
    progress: Progress = SILENT,
    **keywords: Any,
) -> ScoringReport:
    """Score what the plan says on a Ray cluster; takes and returns what `run` does.

    `address` is a cluster's (`auto`, `HOST:PORT`); without one it is RAY_ADDRESS, else the cluster of this machine,
    else one that is started here and stopped at the end. A session of Ray that is connected is used and left as it is.
    `num_cpus` are those of a worker, and its threads. Raises as `run`, and `ExecutorError` where Ray is not
    installed, where the cluster has no room for a worker, and where a worker cannot use its device or the store.
    """
    started = time.monotonic()
    options = scoring_options(options, keywords)
    budget = Budget(options.budget_seconds)
    settings = choose_settings(replace(options, device="cpu"))  # workers have the device
    tokenizers = check_plan(store, plan, settings, progress)
    record_facts(store, plan, progress)
    if not plan.pending:
        return ScoringReport(skipped=plan.present)
    with _cluster(address) as ray:
        places, gpus = _places(ray.cluster_resources(), options.device, num_cpus)
        actor = ray.remote(num_cpus=num_cpus, num_gpus=gpus)(Worker)
        on_worker = replace(options, device="cuda" if gpus else "cpu", budget=None)
        path, run_id = str(store.path.resolve()), settings.provenance.run

        def make() -> Any:
            return actor.remote(
                path, plan, tokenizers, run_id, num_cpus, on_worker, current(), SILENT, _WITHOUT_STORE
            )

        job = Driver(Actors(ray, make, places, progress), store, plan, progress)
        return carry_out(job, plan, budget, started, progress)


class Actors:
    """The workers of a driver as actors of a Ray cluster."""

    attempts = 3
    speaks = False

    def __init__(self, ray: Any, make: Callable[[], Any], places: int, progress: Progress) -> None:
        """`make` asks for an actor of the class `Worker`, of which there is room for `places`."""
        self.places = places
        self._ray, self._make, self._progress = ray, make, progress
        self._actors: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._scoring: dict[Any, Any] = {}

    def start(self, place: int) -> Any:  # noqa: ARG002  # a cluster's places are all alike
        """Ask for an actor."""
        actor = self._make()
        self._actors.append(actor)
        self._starting[actor.start.remote()] = actor
        return actor

    def score(self, worker: Any, pending: Pending, following: Pending | None) -> None:
        """Have a checkpoint scored."""
        self._scoring[worker.score.remote(pending, following)] = worker

    def finish(self, worker: Any) -> None:
        """Have an actor end what it still has to publish."""
        self._scoring[worker.finish.remote()] = worker

    def wait(self) -> list[tuple[Any, Outcome | str | Died | None]]:
        """Return what the next actor gave, if there is one within a while."""
        done, _ = self._ray.wait([*self._scoring, *self._starting], num_returns=1, timeout=PATIENCE)
        if not done and not self._scoring:
            self._progress.say(
                "Waiting for a worker to start: the Ray cluster is busy, or has lost a machine."
            )
        return [self._take(reference) for reference in done]

    def end(self, worker: Any) -> None:
        """Strike off an actor that died."""
        self._actors.remove(worker)

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors:
            self._ray.kill(actor)

    def unusable(self, problem: str) -> ExecutorError:
        """The error of an actor that cannot use its device or the store."""
        return ExecutorError(f"A worker of the Ray cluster cannot be used. {problem}")

    def stopped(self, problem: str) -> ExecutorError:
        """The error of a store, or slices there, that do not let scoring go on."""
        return ExecutorError(f"A worker of the Ray cluster cannot go on. {problem}")

    def _take(self, reference: Any) -> tuple[Any, Outcome | str | Died | None]:
        """The actor that gave something, and what."""
        scored = reference in self._scoring
        actor = (self._scoring if scored else self._starting).pop(reference)
        try:
            return actor, self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            how = str(error).strip().partition("\n")[0]
            return actor, Died(f"the worker that scored it died: {how}" if scored else how)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """The module ray, connected; disconnected again, and stopped where it was started here. Nothing goes to stdout."""
    try:
        import ray
    except ImportError as error:
        raise ExecutorError(
            f"Scoring on a Ray cluster needs Ray ({error}). Install it: pip install 'trajstore[ray]'"
        ) from error
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what becomes of workers
        ours = not ray.is_initialized()
        if ours:
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise ExecutorError(
                    f"Ray cannot be reached{f' at {address}' if address else ''}: {error}. Start a cluster (ray start "
                    "--head, and ray start --address HOST:6379 on the other machines), or leave out "
                    f"{option('address')} to use this machine alone."
                ) from error
        try:
            yield ray
        finally:
            if ours:
                ray.shutdown()


def _places(resources: dict[str, float], device: str, num_cpus: int) -> tuple[int, int]:
    """Return the workers that the cluster has room for, and the GPUs of a worker (1 or 0); raises `ExecutorError`."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    wants_gpu = device != "cpu" and (gpus > 0 or device != "auto")
    places = min(gpus, cpus // num_cpus) if wants_gpu else cpus // num_cpus
    if places < 1:
        demand = f"{num_cpus} CPU{'s' * (num_cpus > 1)}{' and a GPU' * wants_gpu}"
        raise ExecutorError(
            f"The Ray cluster has {cpus} CPUs and {gpus} GPUs: no room for a worker with {demand} "
            f"({option('num_cpus')}, {option('device')})."
        )
    return places, int(wants_gpu)
