"""suite list, show: what is known of published suites of checkpoints; asks no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli import options
from trajstore.cli.output import print_facts, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.checkpoints.suites import KnownBad, KnownRun, Suite


def list_(as_json: options.Json = False) -> None:
    """List the suites whose models have short names.

    The suites are published; score takes these names.

    \b
    Example:
      trajstore suite list
    """
    from trajstore.checkpoints.suites import suites

    rows = [
        {
            "suite": suite.name,
            "models": len(suite.runs),
            "sizes": ", ".join(dict.fromkeys(run.size for run in suite.runs)),
            "revisions": _range([len(run.steps) if run.steps else None for run in suite.runs]),
            "tokens a step": _range([run.tokens_per_step for run in suite.runs]),
            "known bad": len(suite.known_bad),
            "title": suite.title,
        }
        for suite in suites()
    ]
    print_rows(rows, as_json)


def show(
    name: Annotated[str, typer.Argument(help="A suite, or one of its models by short name or repository.")],
    as_json: options.Json = False,
) -> None:
    """Show a suite's models, and what they must have.

    It also shows repositories, steps, and checkpoints that are known to be bad.

    \b
    Example:
      trajstore suite show pythia
      trajstore suite show pythia-2.8b --json
    """
    from trajstore.checkpoints.suites import find

    suite, runs = find(name)
    bad = [known for known in suite.known_bad if {run.repo for run in runs} & set(known.repos)]
    facts = _facts(suite, runs)
    models = [_model(run) for run in runs]
    known_bad = [_bad(known, runs) for known in bad]
    if as_json:
        if len(runs) == 1 and runs[0].steps:
            models[0]["steps"] = list(runs[0].steps)
        print_json({**facts, "models": models, "known_bad": known_bad})
        return
    print_facts(facts)
    typer.echo()
    print_rows(models, as_json=False)
    if known_bad:
        typer.echo()
        print_rows(known_bad, as_json=False)


def _facts(suite: Suite, runs: Sequence[KnownRun]) -> dict[str, Any]:
    """Return the facts of all models of a suite."""
    run = runs[0]
    later = f"; a later stage is scored as {run.name}.STAGE" if run.main else ""
    declared = f", with STAGE one of {', '.join(run.stage_names)}" if run.stages else ""
    return {
        "suite": suite.name,
        "title": suite.title,
        "source": suite.source,
        "config": ", ".join(f"{key} = {value}" for key, value in run.config) or None,
        "branch main": "the last step" if run.main_is_last else None,
        "main line": f"{run.main}{later}{declared}" if run.main else None,
    }


def _model(run: KnownRun) -> dict[str, Any]:
    """A model's row; None where it is not known."""
    ends = (run.steps[0], run.steps[-1]) if run.steps else ("N",)
    return {
        "model": run.name,
        "repository": run.repo,
        "size": run.size,
        "seed": run.seed,
        "revisions": len(run.steps) if run.steps else None,
        "named": " … ".join(run.revision.format(step=step, tokens="M") for step in ends),
        "tokens a step": run.tokens_per_step,
        "vocabulary rows": run.vocabulary,
    }


def _bad(known: KnownBad, runs: Sequence[KnownRun]) -> dict[str, Any]:
    """A row of what is known to be bad."""
    repos = [run.repo for run in runs if run.repo in known.repos]
    everywhere = len(repos) > 3
    spans = [str(first) if first == last else f"{first}:{last}" for first, last in known.steps]
    return {
        "repositories": f"{len(repos)} of {len(runs)}" if everywhere else ", ".join(repos),
        "stage": known.stage or None,
        "steps": ",".join(spans),
        "reason": known.reason,
        "source": known.source,
    }


def _range(numbers: Sequence[int | None]) -> str | None:
    """Smallest and largest of the numbers that are known."""
    known = sorted({number for number in numbers if number is not None})
    if not known:
        return None
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"


COMMANDS = (list_, show)
