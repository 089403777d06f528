"""The store that `trajstore.open` gives: with the analyses and charts that stand above it at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from trajstore.arguments import defaults
from trajstore.arguments.aliases import also_named
from trajstore.display import Brief, count
from trajstore.progress import SILENT, Progress
from trajstore.store import store as base

if TYPE_CHECKING:
    import polars as pl

    from trajstore.arguments.choices import Align, X
    from trajstore.pipelines.trajectory_result import Trajectory


class Store(base.Store, Brief):
    """An open store. Holds no file: every read sees what is there at that moment."""

    __repr__ = base.Store.__repr__

    @also_named(model="models", dataset="datasets")
    def trajectory(
        self,
        *groups: str,
        datasets: str | Sequence[str] | None = None,
        models: str | Sequence[str] | None = None,
        steps: str = "all",
        contexts: str | None = None,
        align: Align = "predict",
        minus: str | None = None,
        minus_model: str | None = None,
        by: Literal["dataset", "model"] | None = None,
        x: X = "step",
        ci: Literal["bootstrap", "none"] = "bootstrap",
        level: float = defaults.LEVEL,
        resamples: int = defaults.RESAMPLES,
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> Trajectory:
        """Mean losses of groups, by default of every token, by step: `.frame` with intervals, `.plot()`, `.caveats`.

        The arguments are the options of the command `trajectory`: `minus` and `minus_model` are subtracted, `by` says
        what is pooled, `x` is step, tokens or flops. Raises as `trajstore.pipelines.trajectories.trajectories`.
        """
        from trajstore.analysis.statistics.bootstrap import Interval
        from trajstore.analysis.trajectories import Comparison
        from trajstore.pipelines.trajectories import Selection
        from trajstore.pipelines.trajectory_result import trajectory

        return trajectory(
            self,
            groups or ("every_token",),
            Selection(datasets, models, steps, contexts, align),
            Comparison(by, minus, minus_model),
            Interval(ci, level, resamples, seed),
            x,
            progress,
        )

    def brief(self) -> str:
        """Count models, datasets and groups."""
        there = self.coverage()
        return (
            f"{self.path}, {count(len({each.model for each in there}), 'model')}, "
            f"{count(len(self.dataset_names()), 'dataset')}, {count(len(self.groups.names()), 'group')}"
        )

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The coverage."""
        import polars as pl

        rows = [
            {
                "model": each.model,
                "dataset": each.dataset,
                "steps": len(each.steps),
                "first": min(each.steps, default=None),
                "last": max(each.steps, default=None),
                "missing": len(each.missing),
            }
            for each in self.coverage()
        ]
        yield "slices", pl.DataFrame(rows, infer_schema_length=None)
