"""score: the losses of a model's checkpoints on datasets of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli.output import (
    DEFAULT_STORE,
    Exit,
    JsonOption,
    StoreOption,
    bars,
    open_store,
    print_rows,
    say,
    size,
)

if TYPE_CHECKING:
    from trajstore.scoring.planning import Plan


def score(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder whose subfolders are steps, or Hugging Face repository whose revisions are."
        ),
    ],
    dataset: Annotated[
        list[str], typer.Option("--dataset", "-d", help="Dataset to score on; may be given again.")
    ],
    steps: Annotated[
        str, typer.Option(metavar="SPEC", help="all, last, log, numbers, inclusive ranges; commas join.")
    ] = "all",
    name: Annotated[
        str | None, typer.Option(help="The model's name in the store [default: MODEL's last part].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16; the softmax is always float32.")
    ] = "float32",
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a batch [default: by device].")
    ] = None,
    tokens_per_step: Annotated[
        int | None, typer.Option(min=1, help="Training tokens a step, where the suite is not known.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be scored and stop.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Score what is missing, and nothing else: every token's loss, for each checkpoint and dataset.

    Each checkpoint is loaded once for all datasets. Stopped or killed, it goes on where it was when run again.

    \b
    Example:
      trajstore score EleutherAI/pythia-70m -d pile-github --steps log
      trajstore score runs/tiny -d docs -d code --steps 0,512,1000:
    """
    from trajstore.scoring.device import device_message
    from trajstore.scoring.planning import plan as make_plan

    with open_store(store) as opened:
        plan = make_plan(opened, model, dataset, steps=steps, name=name, tokens_per_step=tokens_per_step)
        _say_plan(plan)
        if dry_run:
            print_rows(_planned(plan), as_json, ["step", "revision", "to score"])
            return
        if not plan.pending:
            return
        from trajstore.scoring import job

        say(device_message(device, dtype))
        report = job.run(opened, plan, device=device, dtype=dtype, batch_tokens=batch_tokens, progress=bars())
    rate = f", {report.tokens / report.seconds:,.0f} tokens/s" if report.tokens else ""
    say(
        f"{plan.model}: {report.written} slices written, {report.skipped} there already, "
        f"in {report.seconds:.1f} s{rate}."
    )
    if report.failures:
        for step, reason in report.failures:
            say(f"step {step} was not scored: {reason}")
        say("The others are done. The same command again scores only what is missing.")
        raise typer.Exit(Exit.FAILED)


def _say_plan(plan: Plan) -> None:
    """What there is to do, before it is done."""
    say(
        f"{plan.model}: {plan.slices} slices to score ({plan.tokens:,} tokens), {plan.present} there already."
    )
    if plan.source.unreachable:
        say(f"Only revisions on this disk are seen: {plan.source.unreachable}")
    if plan.downloads:
        amount = f", about {size(plan.download_bytes)}" if plan.download_bytes else ""
        say(f"{len(plan.downloads)} revisions to download{amount}.")


def _planned(plan: Plan) -> list[dict[str, Any]]:
    """A record for each checkpoint with work to do."""
    return [
        {
            "step": pending.checkpoint.step,
            "revision": pending.checkpoint.revision,
            "to score": ", ".join(pending.datasets),
        }
        for pending in plan.pending
    ]


def register(app: typer.Typer) -> None:
    """Add this family's command."""
    app.command()(score)
