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
from trajstore.scoring.executors.driver import Driver
from trajstore.scoring.executors.worker import Worker
from trajstore.scoring.model_facts import record_facts
from trajstore.scoring.options import ScoringOptions, scoring_options
from trajstore.scoring.plan_check import check_plan
from trajstore.scoring.report import ScoringReport
from trajstore.scoring.settings import choose_settings
from trajstore.scoring.time_budget import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajstore.progress import Progress
    from trajstore.scoring.plan import Plan
    from trajstore.store.store import Store


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
    report = ScoringReport(skipped=plan.present)
    if not plan.pending:
        return report
    with _cluster(address) as ray:
        places, gpus = _places(ray.cluster_resources(), options.device, num_cpus)
        actor = ray.remote(num_cpus=num_cpus, num_gpus=gpus)(Worker)
        on_worker = replace(options, device="cuda" if gpus else "cpu", budget=None)
        path, run_id = str(store.path.resolve()), settings.provenance.run

        def make() -> Any:
            return actor.remote(
                path, plan, tokenizers, run_id, num_cpus, on_worker, current(), SILENT, _WITHOUT_STORE
            )

        driver = Driver(ray, make, places, store, plan, progress)
        progress.start(f"scoring {plan.model}", plan.tokens, "tokens")
        try:
            driver.score_all(budget)
        finally:
            driver.close()
            progress.stop()
    report.add(driver.counts)
    report.left = sum(len(task.pending.all_datasets) for task in driver.queue)
    report.seconds = time.monotonic() - started
    return report


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
        each = f"{num_cpus} CPU{'s' * (num_cpus > 1)}{' and a GPU' * wants_gpu}"
        raise ExecutorError(
            f"The Ray cluster has {cpus} CPUs and {gpus} GPUs: no room for a worker with {each} "
            f"({option('num_cpus')}, {option('device')})."
        )
    return places, int(wants_gpu)
