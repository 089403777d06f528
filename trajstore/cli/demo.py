"""demo: the main job end to end on a tiny suite trained here, or on a model that learns to sort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajstore.cli.output import bars, print_chart, print_sentence, print_table, say, say_next
from trajstore.display import duration


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder for the models, the store and the report.")
    ] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="One model and fewer steps.")] = False,
    sorting: Annotated[
        bool,
        typer.Option(
            "--sorting", help="A model that learns to sort lists instead, in DIR/sorting; about a minute."
        ),
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page over the store at the end, until Ctrl-C.")
    ] = False,
) -> None:
    """Train a tiny suite, score it, and write a report.

    It makes groups too, needs no network, and takes under 5 minutes on 2 cores.

    The models are trained on text and code that Python carries, arithmetic, and mostly on repeated random tokens, so
    induction is trained for directly. What is trained or scored already is used again.

    \b
    Example:
      trajstore demo my-demo --quick
      trajstore demo my-demo --sorting
      trajstore demo my-demo --serve
    """
    if quick and sorting:
        raise typer.BadParameter("give --quick or --sorting, and not both")
    store = _sort(folder / "sorting") if sorting else _train_suite(folder, quick)
    if serve:
        from trajstore.server.serve import serve as serve_store

        serve_store(store, port=0, say=lambda line: say(line, needed=True))
    else:
        say_next(f"trajstore serve -s {store} --open")


def _train_suite(folder: Path, quick: bool) -> Path:
    """Run the demo of a suite, print its curves and sentences, and return the store's path."""
    from trajstore.demo.run import run_demo

    done = run_demo(folder, quick=quick, progress=bars())
    print_chart(done.curves)
    typer.echo()
    for sentence in done.sentences:
        print_sentence(sentence)
    typer.echo()
    for line in done.measures:
        print_sentence(line)
    parts = ", ".join(f"{part} {duration(seconds)}" for part, seconds in done.seconds.items())
    say(f"Took {duration(sum(done.seconds.values()))}: {parts}.")
    say(f"Wrote {done.report}: open it in a browser.")
    say_next(f"trajstore trajectory repeated_half -s {done.store}")
    return done.store


def _sort(folder: Path) -> Path:
    """Run the demo of sorting, print what it measured by step and in sentences, and return the store's path."""
    from trajstore.demo.sorting.run import run_sorting

    done = run_sorting(folder, bars())
    print_table(
        done.by_step.columns,
        [["" if value is None else round(value, 4) for value in row] for row in done.by_step.iter_rows()],
    )
    typer.echo()
    for sentence in done.sentences:
        print_sentence(sentence)
    say(f"Took {duration(done.seconds)}.")
    say_next(f"trajstore trajectory --measure llc -s {done.store}")
    return done.store
