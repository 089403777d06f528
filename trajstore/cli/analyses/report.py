"""report: a page to look at."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from trajstore.arguments import defaults
from trajstore.cli import options
from trajstore.cli.output import bars, open_store, say, size


def report(
    out: Annotated[Path, typer.Argument(help="The page to write, .html, or with --split a new folder.")],
    model: options.Models = None,
    dataset: options.AnyDatasets = None,
    group: options.AnyGroups = None,
    align: options.Align = "predict",
    contexts: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Show the first N contexts of each dataset token by token."),
    ] = defaults.REPORT_CONTEXTS,
    worst: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Show instead the K contexts of highest mean loss at the models' last steps.",
        ),
    ] = None,
    mark: options.Marks = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = defaults.REPORT_TITLE,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help="Write a folder for a static host, whose page reads the store's own slices at all steps.",
        ),
    ] = False,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Write the page as one file that opens offline.

    It is the page of trajstore serve: trajectories of groups, the PCA of all models, all
    findings that are kept of them (trajstore finding list), and tokens coloured by loss.

    \b
    Example:
      trajstore report report.html -m 'tiny-*' -d code
      trajstore report worst.html --worst 20 --mark 600="training mix changes"
      trajstore report site/ --split --contexts 512
    """
    from trajstore.server.report.report import write_report

    with open_store(store) as opened:
        write_report(
            opened,
            out,
            dataset=dataset,
            models=model,
            groups=group,
            align=align,
            contexts=worst or contexts,
            worst=worst is not None,
            marks=options.marks(mark),
            title=title,
            split=split,
            progress=bars(),
        )
    if split:
        files = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
        say(
            f"Wrote {out} ({size(sum(files))} in {len(files):,} files): put it on a static host, or look at it with "
            f"python -m http.server -d {shlex.quote(str(out))}"
        )
    else:
        say(f"Wrote {out} ({size(out.stat().st_size)}): open it in a browser.")
