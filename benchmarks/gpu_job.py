"""Scoring on a GPU, passes and whole jobs: python -m benchmarks.gpu_job [--seconds N] [--out FILE].

Runs on a bare machine with torch, transformers and numpy, without a network: carry the wheels of duckdb, polars
and polars-runtime-32, of pyarrow and tokenizers too where they are not there, then

    pip install --no-index --no-deps wheels/*.whl && python -m benchmarks.gpu_job --out results.md

Every row is printed as soon as it is measured, the ones with a bar first; work for which the seconds left are too few
is named and left out, and what fails is named too. --tiny runs all of it on the CPU with a tiny model, to see that it
runs. The section is also put into the file of --out, if one is given.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.forward import gpu_trials
from benchmarks.forward.jobs import random_dataset
from benchmarks.forward.passes import S70M, VOCABULARY, ModelShape, Score, contexts, plain
from benchmarks.harness import page
from benchmarks.harness.command import line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does
from benchmarks.harness.timing import WrongAnswer
from trajstore.checkpoints.library_output import quiet
from trajstore.forward.workspace import Workspace
from trajstore.store.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel

S410M, S1400M = ModelShape("410m", 1024, 24, 16), ModelShape("1.4b", 2048, 24, 16)

_NOTES = """\
The pass's tokens a second are the median of rounds, in turn with the plain loop's, which runs one context at a time on
fewer contexts; the share is that of the model's FLOPs (twice the parameters of its matrix products, head included, and
the attention's) in the rate of one large bfloat16 product on the same card. A job scores a run of local checkpoints in
a process whose libraries are loaded; its rate is that of all its tokens over its whole time, over the pass's. The cost
of mixed lengths is that of a token in contexts whose mean length is a third of the longest's, over that in full ones.
The largest difference is that of a token's loss from the same weights' in float32 on the CPU. A trial is the pass with
something changed that the package does not do: its rate over the pass's, and how far its losses are from the pass's.
"""


@dataclass(frozen=True)
class Pass:
    """A pass to measure, and the least that its figures should be."""

    shape: ModelShape
    dtype: str
    share: float | None = None
    """Of the product's rate."""
    plain: float | None = None
    """Times the plain loop's rate."""

    @property
    def name(self) -> str:
        """The work as its rows name it."""
        return f"pass, {self.shape.name}, {self.dtype}"


@dataclass(frozen=True)
class TimedJob:
    """A job to measure after the pass of its shape and dtype."""

    shape: ModelShape
    dtype: str
    steps: int
    datasets: int
    share: float = 0.85
    """The least that its rate should be of the pass's."""

    @property
    def name(self) -> str:
        """The work as its rows name it."""
        size = f"{self.steps} checkpoints × {self.datasets} datasets"
        return f"job, {self.shape.name}, {self.dtype}, {size}"


@dataclass(frozen=True)
class Effort:
    """The sizes of a run, and its device."""

    device: str
    passes: tuple[Pass, ...]
    jobs: tuple[TimedJob, ...]
    contexts: int = 512
    plain_contexts: int = 64
    compared: int = 2
    """Contexts that also run on the CPU."""
    rounds: int = 5
    product: int = 8192
    """The width of the product that stands for the card's peak."""


FULL = Effort(
    "cuda",
    passes=(
        Pass(S70M, "bfloat16", share=0.25, plain=12),
        Pass(S410M, "bfloat16", share=0.5),
        Pass(S1400M, "bfloat16", share=0.65),
        Pass(S70M, "float32"),
        Pass(S410M, "float32"),
    ),
    jobs=(TimedJob(S70M, "bfloat16", steps=16, datasets=3), TimedJob(S410M, "bfloat16", steps=8, datasets=1)),
)
_TINY = ModelShape("tiny", 16, 1, 2)
TINY = Effort(
    "cpu",
    passes=(Pass(_TINY, "float32", share=0.5, plain=1), Pass(_TINY, "bfloat16")),
    jobs=(TimedJob(_TINY, "float32", steps=2, datasets=2),),
    contexts=6,
    plain_contexts=2,
    rounds=1,
    product=64,
)


@dataclass
class Sheet:
    """The rows of the table, each printed when it is added, and the time until which new work is begun."""

    deadline: float
    rows: list[list[str]] = field(default_factory=list)
    failed: bool = False
    """True if some work failed."""

    HEADER = ("Work", "Measured", "Figure", "Bar", "Met")

    def start(self) -> None:
        """Print the header."""
        print(page.markdown([self.HEADER]), end="", flush=True)

    def add(self, work: str, measured: str, figure: str, bar: str = "", met: bool | None = None) -> None:
        """Add a row; it has a bar or none."""
        self.rows.append([work, measured, figure, bar, "" if met is None else "yes" if met else "no"])
        print(f"| {' | '.join(self.rows[-1])} |", flush=True)

    def least(self, work: str, measured: str, value: float, bar: float | None, form: str) -> None:
        """Add a figure that should be no less than its bar, both in one format."""
        text = "" if bar is None else f"≥ {bar:{form}}"
        self.add(work, measured, f"{value:{form}}", text, None if bar is None else value >= bar)

    def fail(self, work: str, error: Exception) -> None:
        """Add a row for work that failed."""
        self.failed = True
        self.add(work, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:80]}")

    def has_time(self, work: str, seconds: float) -> bool:
        """Return whether work that takes about so long may begin; says so in a row where it may not."""
        if time.monotonic() + seconds <= self.deadline:
            return True
        self.add(work, "left out", "no time")
        return False


class Bench:
    """The measurements, on one device."""

    def __init__(self, effort: Effort, sheet: Sheet) -> None:
        self.effort, self.sheet = effort, sheet
        self.peak = product_rate(effort.device, effort.product)
        self.speeds: dict[tuple[str, str], float] = {}
        """Tokens a second of the passes that were measured, by shape and dtype."""
        sheet.add("product of bfloat16 matrices", "TFLOP/s", f"{self.peak / 1e12:,.3g}")

    def all(self) -> None:
        """Measure everything, what has a bar first."""
        first, *others = self.effort.passes
        self._measure(45, first.name, self.pass_, first)
        for job in self.effort.jobs:
            for work in others:
                if (work.shape, work.dtype) == (job.shape, job.dtype):
                    self._measure(45, work.name, self.pass_, work)
            self._measure(75, job.name, self.job, job)
        for work in others:
            if (work.shape.name, work.dtype) not in self.speeds:
                self._measure(45, work.name, self.pass_, work)
        for work in self.effort.passes[:2]:
            for trial in gpu_trials.trials(self.effort.device):
                name = f"trial on the {work.name}: {trial.name}"
                self._measure(30, name, self.trial, (trial, work))

    def _measure(self, seconds: float, name: str, measure: Callable[[str, Any], None], work: Any) -> None:
        """Do a piece of work for which there is time; a failure is a row, and the rest goes on."""
        if not self.sheet.has_time(name, seconds):
            return
        try:
            measure(name, work)
        except Exception as error:
            traceback.print_exc()
            self.sheet.fail(name, error)

    def pass_(self, name: str, work: Pass) -> None:
        """The figures of a pass."""
        effort, sheet = self.effort, self.sheet
        model, difference = self._model_and_difference(work)
        ids, fewer = contexts(effort.contexts), contexts(effort.plain_contexts)
        score, other = ours(model), plain(model)
        seconds = [(self._timed(score, ids), self._timed(other, fewer)) for _ in range(effort.rounds + 1)][1:]
        speed = ids.size / statistics.median(mine for mine, _ in seconds)
        self.speeds[work.shape.name, work.dtype] = speed
        plain_speed = fewer.size / statistics.median(theirs for _, theirs in seconds)
        sheet.add(name, "tokens/s", f"{speed:,.0f}")
        share = speed * flops(model, work.shape, ids.shape[1]) / self.peak
        sheet.least(name, "share of the product's rate", share, work.share, ".0%")
        sheet.least(name, "× the plain loop", speed / plain_speed, work.plain, ".3g")
        mixed_speed = self._mixed_speed(score, ids)
        cost = speed / mixed_speed
        sheet.add(name, "cost of mixed lengths", f"{cost:.3g}", "≤ 1.15", cost <= 1.15)
        sheet.add(name, "peak memory", f"{self._peak_memory(lambda: score(ids)) / 1e9:.3g} GB")
        sheet.add(name, "largest difference", f"{difference:.1e}")

    def job(self, name: str, job: TimedJob) -> None:
        """The rate of a job over that of its pass, and where its time went."""
        tokens, seconds, profile = self._job_seconds(job)
        speed = self.speeds.get((job.shape.name, job.dtype))
        self.sheet.add(name, "tokens/s", f"{tokens / seconds:,.0f}")
        self.sheet.add(name, "seconds", f"{seconds:.3g}")
        if speed is not None:
            self.sheet.least(name, "rate over the pass's", tokens / seconds / speed, job.share, ".0%")
        self.sheet.add(name, "where its time went", profile)

    def trial(self, name: str, of: tuple[gpu_trials.Trial, Pass]) -> None:
        """The rate of a pass with something changed, over the pass's own at the same time."""
        trial, model = of[0], self._model(of[1])
        full, score = contexts(self.effort.contexts), ours(model)
        ids, changed = mixed(full) if trial.mixed else full, trial.scorer(model)
        apart = np.abs(np.concatenate(changed(ids)) - np.concatenate(score(ids))).max()
        pairs = [(self._timed(score, ids), self._timed(changed, ids)) for _ in range(self.effort.rounds)]
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        self.sheet.add(name, "rate over the pass's", f"{ratio:.3g}")
        self.sheet.add(name, "largest difference", f"{apart:.1e}")

    def _model(self, work: Pass) -> PreTrainedModel:
        """A model with random weights, made on the device."""
        import torch

        with torch.device(self.effort.device):
            return work.shape.model().to(getattr(torch, work.dtype))

    def _model_and_difference(self, work: Pass) -> tuple[PreTrainedModel, float]:
        """The model, and the largest difference of its losses from those of the same weights in float32 on the CPU."""
        import torch

        with torch.device(self.effort.device):
            model = work.shape.model()
        compared = contexts(self.effort.compared)
        on_cpu = model.to("cpu")
        wanted = np.concatenate(ours(on_cpu)(compared))
        model = on_cpu.to(self.effort.device, getattr(torch, work.dtype))
        return model, float(np.abs(np.concatenate(ours(model)(compared)) - wanted).max())

    def _mixed_speed(self, score: Score, ids: np.ndarray) -> float:
        """Tokens a second on contexts of mixed length."""
        cut = mixed(ids)
        times = [self._timed(score, cut) for _ in range(self.effort.rounds + 1)][1:]
        return sum(map(len, cut)) / statistics.median(times)

    def _timed(self, score: Score, ids: Any) -> float:
        """Seconds of a run; its losses come back to the CPU, so that nothing is left running."""
        with self._settled():
            start = time.perf_counter()
            score(ids)
            return time.perf_counter() - start

    def _settled(self) -> AbstractContextManager[None]:
        """A block before which the device has done what it was given."""
        if self.effort.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return nullcontext()

    def _peak_memory(self, work: Callable[[], object]) -> int:
        """The most that torch held on the device, the model included; 0 on a CPU."""
        if self.effort.device != "cuda":
            return 0
        import torch

        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()

    def _job_seconds(self, job: TimedJob) -> tuple[int, float, str]:
        """Tokens that a job scores, its time, and where that goes; raises `WrongAnswer` where a slice is missing."""
        from trajstore.scoring import score

        effort, names = self.effort, [f"random{number}" for number in range(job.datasets)]
        with tempfile.TemporaryDirectory(prefix="trajstore-bench-") as temporary:
            folder = Path(temporary)
            self._save_run(job, folder / "run")
            with Store.create(folder / "store") as store:
                for seed, name in enumerate(names):
                    store.add_dataset(name, random_dataset(effort.contexts, seed))
                start = time.perf_counter()
                report = score(store, str(folder / "run"), names, device=effort.device, dtype=job.dtype)
                seconds = time.perf_counter() - start
        if report.written != job.steps * job.datasets:
            raise WrongAnswer(f"{report.written} slices were written: {report.failures}")
        return report.tokens, seconds, str(report.profile)

    def _save_run(self, job: TimedJob, folder: Path) -> None:
        """Checkpoints whose weights differ, in the dtype of the job."""
        import torch

        model = self._model(Pass(job.shape, job.dtype))
        with quiet():
            for step in range(job.steps):
                with torch.no_grad():
                    model.get_input_embeddings().weight += 2**-9
                model.save_pretrained(folder / f"step{step}")


def mixed(ids: np.ndarray) -> Any:
    """The beginnings of full contexts, of lengths whose mean is a third of the longest's, as those of e-mails."""
    length = ids.shape[1]
    drawn = np.random.default_rng(0).exponential(0.37, len(ids)) * length
    drawn[0] = length
    return [row[:n] for row, n in zip(ids, np.clip(drawn.astype(int), 2, length), strict=True)]


def ours(model: PreTrainedModel) -> Score:
    """The pass of this project, as a job calls it."""
    from trajstore.scoring import token_scores

    workspace = Workspace()
    return lambda ids: token_scores(model, list(ids), workspace=workspace).loss


def flops(model: PreTrainedModel, shape: ModelShape, length: int) -> float:
    """Of a token's forward pass, the mean over a context of this length."""
    matrices = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    return float(2 * matrices + 4 * shape.layers * shape.width * length / 2)


def product_rate(device: str, width: int) -> float:
    """FLOP/s of a large bfloat16 product on random numbers."""
    import torch

    a, b = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(5):
            product = torch.mm(a, b)
        product[0, 0].item()  # waits for all of them
        times.append((time.perf_counter() - start) / 5)
    return 2 * width**3 / statistics.median(times)


def section(effort: Effort, sheet: Sheet, command: str) -> str:
    """The section as Markdown, after its rows were printed one by one."""
    import torch
    import transformers

    sheet.start()
    Bench(effort, sheet).all()
    on_gpu = effort.device == "cuda"
    facts = [
        ("Device", torch.cuda.get_device_name() if on_gpu else "the CPU, which says nothing of a GPU"),
        ("Libraries", f"torch {torch.__version__}, CUDA {torch.version.cuda}, {transformers.__version__}"),
        ("Command", f"`{command}`"),
        (
            "Data",
            f"{effort.contexts} contexts of {contexts(1).size} random tokens, {VOCABULARY} rows of the head",
        ),
    ]
    table = page.markdown([Sheet.HEADER, *sheet.rows])
    return f"## {page.GPU}\n\n{page.listed(facts)}\n{table}\n{_NOTES}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    import torch

    options = _parser().parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        say("There is no CUDA device here; --tiny runs on the CPU.")
        return 1

    sheet = Sheet(time.monotonic() + options.seconds)

    def sections() -> Iterator[str]:
        yield section(TINY if options.tiny else FULL, sheet, line("benchmarks.gpu_job", arguments))

    return publish(options.out, sections) or int(sheet.failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_job", description="Scoring on a GPU: passes and whole jobs."
    )
    parser.add_argument(
        "--seconds", type=float, default=420, metavar="N", help="begin no work that ends later (default: 420)"
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU, to see that it runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the .md file to write into (default: none)")
    return parser


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
