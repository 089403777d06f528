"""measure: what can be measured of checkpoints beside their losses, and measuring it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments.choices import Probe
from trajstore.cli import options
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.name_lists import completed, several
from trajstore.cli.option_blocks import PARAMETERS
from trajstore.cli.output import Exit, bars, open_store, print_facts, print_json, print_table, say
from trajstore.errors import UnknownName
from trajstore.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from trajstore.measures.definitions import Listed, MeasureDefinition

LIST = "list"


def complete_measures(incomplete: str) -> list[str]:
    """Measures that the rest of a name may be, for the shell."""
    from trajstore.measures.definitions import SETS, available

    definitions = (entry.definition for entry in available()[0])
    names = (definition.name for definition in definitions if not definition.argument)
    return completed(incomplete, [LIST, *SETS, *names])


@dataclass_options(
    parameters=PARAMETERS,
    cache_limit={"metavar": "SIZE"},
    batch_tokens={"min": 1},
    threads={"min": 1},
)
def measure(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            callback=several,
            autocompletion=complete_measures,
            help="Measures; commas join them. The word list shows all, or in full those named after it; heads "
            "stands for four.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        options.models("Models of the store or globs, or what score takes; commas join them."),
    ] = None,
    dataset: options.Datasets = None,
    probe: Annotated[
        Probe | None,
        options.choice(
            metavar="repeats|natural",
            help="Measure on 64 contexts of 100 tokens: random tokens that repeat, or the beginnings of a --dataset.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="all, last, log, numbers, ranges A:B [default: those that are scored]."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Measure again what is there, and put it in its place.")
    ] = False,
    *,
    scoring: Annotated[
        ScoringOptions,
        Only(
            "parameters name pattern device dtype vocab attention batch_tokens threads cache_limit trust_remote_code"
        ),
    ],
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Measure hidden states, heads, predictions and weights.

    The measures of a model's checkpoints are kept beside their losses.

    The weights are looked for where the model was scored from. What is there is skipped; stopped or killed, it goes
    on where it was when run again. Measures of heads need attention weights, which are made of a probe. A measure
    of contexts has a row for each, and one without a context: their mean with its standard error.

    \b
    Example:
      trajstore measure list
      trajstore measure list rankme
      trajstore measure rankme,interaction_energy -m 'tiny-*' -d docs --steps log
      trajstore measure prefix_matching previous_token -m tiny-2l-seed0 --probe repeats
      trajstore measure prefix_matching -m tiny-2l-seed0 --probe natural -d docs -p occurrences=last
    """
    if LIST in names:
        if model or dataset or probe:
            raise typer.BadParameter("list takes names alone: trajstore measure list [NAME]...")
        _print_list([name for name in names if name != LIST], as_json)
        return
    if not model:
        raise typer.BadParameter(f"name a model: trajstore measure {','.join(names)} --model M")
    from trajstore.scoring.measuring.run import measure as compute
    from trajstore.scoring.measuring.run import summary

    failed, progress = False, bars()
    with open_store(store) as opened:
        chosen = [
            name
            for pattern in model
            for name in (opened.models(pattern) if any(sign in pattern for sign in "*?[") else [pattern])
        ]
        for name in dict.fromkeys(chosen):
            report = compute(
                opened,
                name,
                names,
                dataset or (),
                probe=probe,
                steps=steps,
                replace=replace,
                options=scoring,
                progress=progress,
            )
            say(summary(report))
            failed = failed or bool(report.failures or report.left_out)
    if failed:
        raise typer.Exit(Exit.FAILED)


def _print_list(names: list[str], as_json: bool) -> None:
    """Print the measures, trajstore's own and those that installed packages add; in full those of these names."""
    from trajstore.measures.definitions import SETS, available

    measures, problems = available()
    rows = [_facts(entry) for entry in measures]
    meanings = {entry.definition.name: entry.definition.meaning for entry in measures}
    by_name = {row["measure"]: row for row in rows}
    chosen = [member for name in names for member in SETS.get(name, (name,))]
    for name in chosen:
        if name not in by_name:
            raise UnknownName("measure", name, list(by_name))
    if as_json:
        print_json([by_name[name] for name in chosen] if chosen else rows)
    elif chosen:
        for number, name in enumerate(chosen):
            typer.echo("\n" * (number > 0), nl=False)
            facts = by_name[name] | {"meaning": meanings[name]}
            print_facts({fact: value or None for fact, value in facts.items()})
    else:
        from trajstore.plugins import OWN_PACKAGE

        others = {row["package"] for row in rows} - {OWN_PACKAGE}
        columns = ["measure", "axes", "cost", *(["package"] if others else []), "formula"]
        print_table(columns, [[row[column] for column in columns] for row in rows])
    for problem in problems:
        say(str(problem), needed=True)


def _facts(entry: Listed) -> dict[str, str]:
    """A measure as a row of the list."""
    definition = entry.definition
    return {
        "measure": definition.name,
        "formula": definition.formula,
        "axes": ", ".join(definition.axes),
        "unit": definition.unit,
        "cost": definition.cost,
        "parameters": _parameters(definition),
        "score with": _score_with(definition),
        "source": definition.source,
        "package": entry.package,
    }


def _parameters(definition: MeasureDefinition) -> str:
    """The parameters with their defaults; a question mark for one that must be given."""
    return ", ".join(
        f"{name}={'?' if value is ... else value}" for name, value in definition.parameters.items()
    )


def _score_with(definition: MeasureDefinition) -> str:
    """The option of score that asks for a measure; empty where it is measured only by itself."""
    from trajstore.arguments.spelling import option

    if definition.argument:
        return option(definition.argument, "K")
    return option("measures", definition.name) if definition.in_scoring else ""
