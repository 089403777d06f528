"""score: the losses of a model's checkpoints on datasets of the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli import options
from trajstore.cli.dataclass_options import dataclass_options
from trajstore.cli.name_lists import require_datasets
from trajstore.cli.option_blocks import PARAMETERS
from trajstore.cli.output import Exit, bars, open_store, print_rows, say, size
from trajstore.display import count, duration
from trajstore.errors import BadOption, runs
from trajstore.lazy_imports import without_collection
from trajstore.output_files import check_target, whole_file
from trajstore.scoring.options import ScoringOptions
from trajstore.scoring.time_budget import parse_duration, recorded_pace

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from trajstore.scoring.plan import Plan
    from trajstore.scoring.report import ScoringReport
    from trajstore.scoring.time_budget import Pace


@dataclass_options(
    steps={"metavar": "SPEC"},
    pattern={"metavar": "P"},
    shard={"metavar": "I/N"},
    budget={"metavar": "TIME"},
    timeout={"metavar": "TIME"},
    cache_limit={"metavar": "SIZE"},
    devices={"metavar": "all|D[,D]", "show_default": False},
    columns={"metavar": "C[,C]", "show_default": False},
    batch_tokens={"min": 1},
    threads={"min": 1},
    repeat_noise={"min": 0, "metavar": "K", "show_default": False},
    measures={"metavar": "NAME[,NAME]", "show_default": False},
    parameters=PARAMETERS,
    tokens_per_step={"min": 1},
)
def score(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder whose subfolders are steps, Hugging Face repository whose revisions are, or published run "
            "(pythia-70m); a later stage of training with .STAGE behind it."
        ),
    ],
    dataset: Annotated[list[str] | None, options.datasets("Datasets to score on; commas join them.")] = None,
    *,
    scoring: ScoringOptions,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Follow a folder: score checkpoints as they are saved, until Ctrl-C."),
    ] = False,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --watch, from look to look [default: 10s].")
    ] = None,
    idle: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --watch, end when nothing has come for so long.")
    ] = None,
    until: Annotated[
        int | None, typer.Option(metavar="STEP", min=0, help="With --watch, end after this step.")
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local, or ray: on a cluster, a worker a GPU or --num-cpus.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(metavar="A", help="The Ray cluster's [default: RAY_ADDRESS, else this machine]."),
    ] = None,
    num_cpus: Annotated[
        int | None,
        typer.Option(min=1, help="CPUs, and threads, of a worker with --executor ray [default: 1]."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write down where the job's time went, by stage."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be scored and stop.")] = False,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Score the checkpoints whose losses are missing.

    It stores every token's loss, for each checkpoint and dataset, and makes nothing again that is there.

    Each checkpoint is loaded once for all datasets. Stopped or killed, it goes on where it was when run again; any
    number of jobs may work on one store.

    \b
    Example:
      trajstore score EleutherAI/pythia-70m -d pile-github --steps log
      trajstore score runs/tiny -d docs -d code --steps 0,512,1000:
      trajstore score pythia-1b -d pile-github --shard 3/40 --cache-limit 50GB --order bisect --budget 2h
      trajstore score runs/mine -d docs --pattern 'epoch_{step}'
      trajstore score runs/tiny -d docs --columns rank,entropy --backfill
      trajstore score runs/tiny -d docs --measures rankme,heads -p features=all
      trajstore score runs/new -d docs --watch --idle 30m
      trajstore score pythia-1b -d pile-github --devices all --profile profile.json
      trajstore score pythia-1b -d pile-github --executor ray --address auto
    """
    from trajstore.scoring.plan import plan as make_plan

    if executor not in ("local", "ray"):
        raise BadOption("executor", executor, "local or ray")
    if executor != "ray" and (address or num_cpus):
        raise typer.BadParameter("--address and --num-cpus go with --executor ray.")
    if executor == "ray" and scoring.devices:
        raise typer.BadParameter(
            "--devices goes with --executor local; a Ray cluster has a worker for each GPU."
        )
    if executor == "ray" and scoring.threads:
        raise typer.BadParameter(
            "--threads goes with --executor local; a Ray worker takes --num-cpus of them."
        )
    if not watch and (every or idle or until is not None):
        raise typer.BadParameter("--every, --idle and --until go with --watch.")
    if scoring.backfill and not scoring.columns:
        raise typer.BadParameter("--backfill goes with --columns.")
    planned = scoring.shard or scoring.budget or scoring.order != "forward" or scoring.backfill
    if watch and (dry_run or planned or executor != "local" or scoring.devices):
        raise typer.BadParameter(
            "--watch goes with none of --dry-run, --shard, --budget, --order, --executor, --backfill, --devices."
        )
    if profile is not None:
        check_target(profile, (".json",))
    progress = bars()
    with open_store(store) as opened:
        datasets = require_datasets(opened, dataset)
        if watch:
            from trajstore.scoring.watch import watch as follow

            report = follow(
                opened,
                model,
                datasets,
                scoring,
                every=10.0 if every is None else parse_duration(every, "every"),
                idle=None if idle is None else parse_duration(idle, "idle"),
                until=until,
                progress=progress,
            )
            _end(scoring.name or Path(model).resolve().name, report, progress.said, profile)
            return
        plan = make_plan(opened, model, datasets, scoring)
        _say_plan(plan)
        if scoring.measures and plan.present:
            _say_measures(plan.model, scoring.measures, datasets)
        if plan.pending:
            _say_time(plan, recorded_pace(opened, plan.model))
        if dry_run or not plan.pending:
            from trajstore.scoring.plan_check import foresee

            elsewhere = executor == "ray" or bool(scoring.devices)
            foreseen = foresee(opened, plan, scoring, on_cluster=elsewhere, progress=progress)
            if dry_run:
                print_rows(_planned(plan), as_json, ["step", "revision", "to score"])
            else:
                from trajstore.scoring.model_facts import record_facts

                record_facts(opened, plan, progress)
            _say_foreseen(foreseen)
            return
        if executor == "ray":
            from trajstore.scoring.executors.ray import run_on_ray

            report = run_on_ray(
                opened, plan, scoring, address=address, num_cpus=num_cpus or 1, progress=progress
            )
        else:
            with without_collection():
                from trajstore.forward.device import choose_devices, device_message
                from trajstore.scoring.run import run

            if scoring.devices:
                say(
                    f"Scoring in {scoring.dtype}, a process on each of {', '.join(choose_devices(scoring.devices))}."
                )
            else:
                say(device_message(scoring.device, scoring.dtype, scoring.threads))
            report = run(opened, plan, scoring, progress=progress)
    _end(plan.model, report, progress.said, profile, plan)


def _say_plan(plan: Plan) -> None:
    """Say what there is to do, before it is done."""
    again = f", {plan.backfilled:,} to score again for {', '.join(plan.backfill)}" if plan.backfilled else ""
    say(
        f"{plan.model}: {count(plan.slices, 'slice')} to score{again} ({count(plan.tokens, 'token')}) at "
        f"{count(len(plan.pending), 'checkpoint')}, "
        f"{plan.present} there already."
    )
    if plan.backfilled:
        say("What is scored again keeps its losses.")
    if plan.source.unreachable:
        say(f"Only revisions on this disk are seen: {plan.source.unreachable}")
    if plan.downloads:
        amount = f", about {size(plan.download_bytes)}" if plan.download_bytes else ""
        say(f"{count(len(plan.downloads), 'revision')} to download{amount}.")
    if plan.skipped_bad:
        skipped = runs(sorted(checkpoint.step for checkpoint in plan.skipped_bad))
        say(f"Left out as known to be bad: the steps {skipped}.")
    elif bad := [pending.checkpoint for pending in plan.pending if pending.checkpoint.known_bad]:
        steps = runs(sorted(checkpoint.step for checkpoint in bad))
        say(
            f"Known to be bad at the steps {steps}: {bad[0].known_bad}. Their slices "
            "will say so; --skip-known-bad leaves them out."
        )


def _say_measures(model: str, names: Sequence[str], datasets: Sequence[str]) -> None:
    """Say how slices that are there get measures."""
    from trajstore.measures.definitions import find_measures

    definitions = find_measures(names)
    commands = [
        f"trajstore measure {','.join(chosen)} -m {model} {on}"
        for on_probe, on in ((False, f"-d {','.join(datasets)}"), (True, "--probe repeats"))
        if (chosen := [measure.name for measure in definitions if measure.on_probe is on_probe])
    ]
    say(
        "Measures are taken as a slice is scored: those that are there already get none. For them: "
        f"{'; '.join(commands)}"
    )


def _say_foreseen(failures: list[tuple[int, str]]) -> None:
    """Say what would not be scored; exits with 1 where there is any."""
    for step, reason in failures:
        say(f"step {step} would not be scored: {reason}")
    if failures:
        raise typer.Exit(Exit.FAILED)


def _say_time(plan: Plan, pace: Pace | None) -> None:
    """Say how long it will take, as far as the store can tell."""
    if pace is None:
        say(f"No estimate of the time yet: no earlier run of {plan.model} in this store tells its pace.")
        return
    say(
        f"About {duration(plan.tokens / pace.tokens_per_second)} at the {pace.tokens_per_second:,.0f} tokens/s of its "
        f"last run ({pace.device}, {pace.dtype})."
    )


def _end(
    model: str, report: ScoringReport, said: Container[str], profile: Path | None, plan: Plan | None = None
) -> None:
    """Say what was done, what is left, and what went wrong unless that was `said`; exits with 1 where anything did.

    Where the time went is said in a line, and written to the file `profile`.
    """
    if profile is not None:
        with whole_file(profile) as file:
            file.write(f"{json.dumps(report.profile.as_json(), indent=1)}\n".encode())
    rate = f", {report.tokens / report.seconds:,.0f} tokens/s" if report.tokens else ""
    done, present = "written", "there already"
    if plan is not None and plan.backfilled:
        columns = ", ".join(plan.backfill)
        done = f"written or given {columns}" if plan.slices else f"given {columns}"
        present = f"there with {'it' if len(plan.backfill) == 1 else 'them'} already"
    say(
        f"{model}: {count(report.written, 'slice')} {done}, {report.skipped} {present}, "
        f"in {duration(report.seconds)}{rate}."
    )
    if report.profile.seconds:
        say(f"{report.profile}.")
    if report.left:
        say(
            f"The time given is used up: {count(report.left, 'slice')} {'is' if report.left == 1 else 'are'} left, and "
            "the same command goes on from there."
        )
    for step, reason in report.unmeasured:
        say(f"step {step} was scored, but {reason}", needed=True)
    if report.failures:
        for step, reason in report.failures:
            if (line := f"step {step} was not scored: {reason}") not in said:
                say(line, needed=True)
        others = "The others are done. " if report.written + report.skipped and not report.left else ""
        say(f"{others}The same command again scores only what is missing.")
    if report.failures or report.unmeasured:
        raise typer.Exit(Exit.FAILED)


def _planned(plan: Plan) -> list[dict[str, Any]]:
    """Return a record for each checkpoint with work to do."""
    return [
        {
            "step": pending.checkpoint.step,
            "revision": pending.checkpoint.revision,
            "to score": ", ".join(pending.all_datasets),
            "tokens": pending.tokens,
            "download": "yes" if pending.to_download else "",
            "known bad": pending.checkpoint.known_bad or "",
        }
        for pending in plan.pending
    ]
