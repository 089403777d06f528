"""Options that commands share: their types, and dataclasses of options that are given together.

A command takes a dataclass's options through `dataclass_options`. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.arguments import choices
from trajstore.cli.name_lists import complete_datasets, complete_groups, complete_models, several

if TYPE_CHECKING:
    from trajstore.view.charts.chart import Mark


def choice(**shown: Any) -> Any:
    """An option that takes one of a few words, which the library checks; `shown` is as for `typer.Option`."""
    return typer.Option(parser=str, **shown)


def _names(*named: str, complete: Callable[[typer.Context, str], list[str]]) -> Callable[[str], Any]:
    """A function that makes an option of several names, which commas may join, from its help."""

    def option(help: str) -> Any:  # noqa: A002
        return typer.Option(*named, callback=several, autocompletion=complete, help=help)

    return option


models = _names("--model", "-m", complete=complete_models)
datasets = _names("--dataset", "-d", complete=complete_datasets)
groups = _names("--group", "-g", complete=complete_groups)


def measures(help: str) -> Any:  # noqa: A002
    """An option of several measures of checkpoints, which commas may join, from its help."""
    return typer.Option("--measure", metavar="NAME", callback=several, help=help)


Store = Annotated[
    Path,
    typer.Option(
        "--store",
        "-s",
        envvar="TRAJSTORE",
        metavar="PATH",
        help="The store's folder, or one that holds it as store.",
        show_default=True,
    ),
]
DEFAULT_STORE = Path("store")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--files",
        metavar="DIR",
        help="Let queries read your files in this folder as well, under paths as you would type them here; may be "
        "given again.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Models = Annotated[list[str] | None, models("Models or globs; commas join them [default: all].")]
Datasets = Annotated[list[str] | None, datasets("Datasets; commas join them.")]
AnyDatasets = Annotated[list[str] | None, datasets("Datasets; commas join them [default: all].")]
AnyGroups = Annotated[list[str] | None, groups("Groups; commas join them [default: all].")]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        "-g",
        autocompletion=complete_groups,
        help="Take only this group's tokens: a name, a call such as 'position_is(50)', or 'a & b', 'a | b', 'a - b'.",
    ),
]
Curves = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="GROUP",
        callback=several,
        autocompletion=complete_groups,
        help="Groups, see trajstore group list, or calls such as 'position_is(500)'; commas join them.",
    ),
]
Steps = Annotated[
    str,
    typer.Option(
        "--steps", metavar="SPEC", help="all, last, log, numbers, inclusive ranges A:B; commas join."
    ),
]
Contexts = Annotated[
    str | None, typer.Option(metavar="FIRST:END", help="Contexts, as Python slices: 0:50 is the first fifty.")
]
Align = Annotated[
    choices.Align,
    choice(metavar="predict|after", help="The loss of the group's tokens, or of the tokens after them."),
]
Along = Annotated[
    choices.X,
    choice(
        metavar="step|tokens|flops",
        help="Where a checkpoint stands: its step, the tokens seen, or FLOPs = 6 · n_nonembedding · tokens seen.",
    ),
]
MeansCi = Annotated[
    choices.IntervalKind,
    choice(
        metavar="bootstrap|studentised|none",
        help="Intervals: percentiles, studentised (wider, for skewed contexts), or none.",
    ),
]
Level = Annotated[float, typer.Option(help="How often an interval should cover.")]
Resamples = Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the resampling.")]
MissingContexts = Annotated[
    choices.Missing,
    choice(
        metavar="error|nan",
        help="Where a slice lacks some contexts: stop (error), or go on without them (nan).",
    ),
]
Plot = Annotated[
    Path | None, typer.Option(help="Draw to this file, .png, .pdf, .svg or .html, and print no table.")
]
Marks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEP=TEXT",
        help="A dashed line where something happened, as 600='mix changes'; may be given again.",
    ),
]
Layer = Annotated[int | None, typer.Option(min=0, help="With --measure, of this layer or block only.")]
Head = Annotated[int | None, typer.Option(min=0, help="With --measure, of this head only.")]
Replace = Annotated[bool, typer.Option("--replace", help="Put it in the place of a finding of this name.")]


def marks(texts: Sequence[str] | None) -> list[Mark]:
    """Marks for charts from STEP=TEXT; raises `typer.BadParameter`."""
    from trajstore.view.charts.chart import Mark

    made = []
    for text in texts or ():
        step, equals, label = text.partition("=")
        if not equals or not step.strip().isdecimal():
            raise typer.BadParameter(f"{text!r} is not STEP=TEXT, such as 600='training mix changes'")
        made.append(Mark(int(step), label.strip()))
    return made
