"""demo: the main job end to end on a tiny suite trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajstore.cli.output import bars, print_chart, print_text, say


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder for the models, the store and the report.")
    ] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="One model and fewer steps.")] = False,
) -> None:
    """Train a tiny suite, score it, make groups, and write a report: no network, under 5 minutes on 2 cores.

    The models are trained on text and code that Python carries, arithmetic, and mostly on repeated random tokens, so
    induction is trained for directly. What is trained or scored already is used again.

    \b
    Example:
      trajstore demo my-demo --quick
    """
    from trajstore.demo.run import run_demo

    done = run_demo(folder, quick=quick, progress=bars())
    print_chart(done.curves)
    typer.echo()
    for sentence in done.sentences:
        print_text(sentence)
    parts = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in done.seconds.items())
    say(f"Took {sum(done.seconds.values()):.0f} s: {parts}.")
    store = folder / "store"
    say(f"Look at {done.report}, and ask: trajstore trajectory repeated_half -s {store}")
    say(f"Open the page over the store: trajstore serve -s {store} --open")
