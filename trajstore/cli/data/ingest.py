"""ingest: losses computed elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments.spelling import spelled
from trajstore.cli import options
from trajstore.cli.name_lists import completed
from trajstore.cli.option_spelling import CommandLineSpelling
from trajstore.cli.output import Exit, bars, open_store, say
from trajstore.display import count, duration

if TYPE_CHECKING:
    import numpy as np

    from trajstore.importers.ingest import MakeDataset, Report
    from trajstore.store.files.datasets import NewDataset

_SHOWN = 20


def _complete_formats(incomplete: str) -> list[str]:
    """Formats that the rest of a name may be, for the shell."""
    from trajstore.importers.formats import names

    return completed(incomplete, ["auto", *names()])


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Files; a slice may be spread over several.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="The dataset that the losses are on.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model, where the files name none; else the one to take. One matrix of one model is taken "
            "under this name, whatever its own.",
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            metavar="S[,S...]",
            help="The step, or those of a matrix's rows, where the files name none; else those to take.",
        ),
    ] = None,
    steps_file: Annotated[
        Path | None, typer.Option(help="The same from a file: .npy, or numbers in text.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            autocompletion=_complete_formats,
            help="auto (by the name), parquet, csv, jsonl, arrow, npy, npz, devinterp, or one that an installed "
            "package adds.",
        ),
    ] = "auto",
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="THEIRS=OURS",
            help="Their column's name here, may be given again; THEIRS= leaves it unread.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite losses that differ.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take slices that lack contexts, until the others come.")
    ] = False,
    unit: Annotated[str, typer.Option(help="nats, bits or perplexity.")] = "nats",
    allow_large: Annotated[
        bool,
        typer.Option("--allow-large", help="Take losses that are too large to be nats for the vocabulary."),
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="Of the forward pass: float32, bfloat16 or float16 (rounded below zero).")
    ] = "float32",
    new_dataset: Annotated[
        bool, typer.Option("--new-dataset", help="Make the dataset from the files' own tokens first.")
    ] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help="Repository or folder of the new dataset's tokenizer.")
    ] = None,
    bos: Annotated[
        int | None, typer.Option(min=0, help="First token of new contexts without a row for position 0.")
    ] = None,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Take in losses that were computed elsewhere.

    They come as tables of any size in any order, or as matrices.

    A table (Parquet, CSV, JSON lines, Arrow) has the columns model, step, context, position, token, loss; model and
    step may be given here instead, token may be missing. A matrix (.npy, .npz with losses and steps, what trajstore
    matrix wrote) has a row a checkpoint. A Zarr store of devinterp (NAME.zarr) has the losses of weights that were
    drawn around a checkpoint's: each chain is a model, NAME-chain0, and each draw a step of it. What is there already
    is skipped; what differs is an error that says where.

    \b
    Example:
      trajstore ingest pythia-70m.parquet -m pythia-70m -d code --map tokens=token --map nll=loss
      trajstore ingest losses.npy -m my-run -d code --step 0,1,2,4
      trajstore ingest part-*.csv -d mine --new-dataset --tokenizer EleutherAI/pythia-70m
    """
    if new_dataset != (tokenizer is not None):
        raise typer.BadParameter("--new-dataset and --tokenizer T go together")
    if step is not None and steps_file is not None:
        raise typer.BadParameter("give --step or --steps-file, and not both")
    columns = _columns(mapped or [])
    numbers = None if step is None else _numbers(step)
    with spelled(CommandLineSpelling(columns="--map")), open_store(store) as opened:
        from trajstore.importers.ingest import ingest as take
        from trajstore.importers.request import steps_in

        report = take(
            opened,
            paths,
            dataset=dataset,
            model=model,
            step=numbers if steps_file is None else steps_in(steps_file),
            format=kind,
            columns=columns,
            replace=replace,
            partial=partial,
            unit=unit,
            dtype=dtype,
            allow_large=allow_large,
            make_dataset=None if tokenizer is None else _maker(tokenizer, paths, bos),
            bos=bos,
            progress=bars(),
        )
    _say_report(report, dataset)
    nothing = not report.written and not report.skipped and not report.failures
    if nothing and report.tally.left_out:
        say(
            "So nothing was taken: ask for the model, dataset and steps that the file says its losses are of."
        )
    if report.failures or (nothing and report.tally.left_out):
        raise typer.Exit(Exit.FAILED)


def _columns(mapped: list[str]) -> dict[str, str]:
    """Our name for each of their columns."""
    columns = {}
    for pair in mapped:
        theirs, equals, ours = pair.rpartition("=")
        if not equals or not theirs or theirs in columns:
            raise typer.BadParameter(
                f"{pair!r} is not THEIRS=OURS, as in nll=loss, each column once", param_hint="--map"
            )
        columns[theirs] = ours
    return columns


def _numbers(text: str) -> list[int]:
    """Steps between commas."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no step; it takes numbers joined by commas, as in 0,1,2,4", param_hint="--step"
        ) from None


def _maker(tokenizer: str, paths: list[Path], bos: int | None) -> MakeDataset:
    """A function that makes a dataset of token ids."""

    def make(ids: list[np.ndarray]) -> NewDataset:
        from trajstore.datasets.build import from_ids
        from trajstore.datasets.tokenizers import load_tokenizer

        source = ", ".join(map(str, paths))
        return from_ids(
            ids,
            load_tokenizer(tokenizer),
            tokenizer,
            source={"source": source, "column": "token", "bos": bos},
        )

    return make


def _say_report(report: Report, dataset: str) -> None:
    """Say how many slices were written, what was left out and why."""
    tally = report.tally
    lacking = f" ({report.partial} of them still lack contexts)" if report.partial else ""
    say(
        f"{dataset}: {count(report.written, 'slice')} written{lacking}, {report.skipped} there already; "
        f"{count(tally.rows, 'row')} read in {duration(report.seconds)}."
    )
    if tally.left_out:
        are, were = ("is", "was") if tally.left_out == 1 else ("are", "were")
        say(f"{count(tally.left_out, 'row')} {are} of other datasets, models or steps and {were} left out.")
    if tally.padding:
        say(f"{count(tally.padding, 'loss', 'losses')} of position 0, which has none, were left out.")
    if tally.empty:
        say(
            f"{count(tally.empty, 'row')} {'holds' if tally.empty == 1 else 'hold'} NaN throughout: no loss, no slice."
        )
    if tally.unchecked:
        do, their = ("does", "its") if tally.unchecked == 1 else ("do", "their")
        say(
            f"{count(tally.unchecked, 'row')} {do} not say {their} token, so it was not compared with the dataset's."
        )
    if tally.like_bits:
        say(f"Losses look like bits, of which --unit bits makes nats. {tally.like_bits}.", needed=True)
    for failure in report.failures[:_SHOWN]:
        say(f"{failure.what}: {failure.reason}", needed=True)
    if report.failures:
        rest = len(report.failures) - _SHOWN
        more = f" {rest} more {'is' if rest == 1 else 'are'} like these." if rest > 0 else ""
        number = len(report.failures)
        were = "was" if number == 1 else "were"
        rest_was = "everything else was" if report.written or report.skipped else "nothing else was there"
        say(f"{number:,} {were} not taken; {rest_was}.{more}", needed=True)
