"""Writes what docs/reference/measures says of measures from their definitions.

    python docs/measure_pages.py        # makes the pages that measures lack; `make reference` does it

cog calls `index` and `page` from the pages, each of which may go on with text of its own, and mkdocs calls
`on_config`, so that every page stands in the site's navigation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from trajstore.measures.definitions import LABELS, REQUIRED, Axis, MeasureDefinition, own

FOLDER = Path(__file__).resolve().parent / "reference" / "measures"
NEEDS = {
    "model": "the loaded model",
    "ids": "token ids",
    "losses": "losses",
    "rank": "ranks of tokens",
    "entropy": "entropies of predictions",
    "previous": "the weights of checkpoints before",
    "hidden": "hidden states",
    "normed": "hidden states after the final norm",
    "attention": "attention weights",
    "head_outputs": "outputs of heads",
    "logits": "logits",
}
COSTS = {
    "pass": "comes with the pass that scores the tokens, or with one like it",
    "probe": "a pass over few contexts",
    "passes": "many passes over few contexts",
    "weights": "no pass over tokens",
    "gradients": "many passes forward and back",
}
_STUB = """# {name}

<!-- [[[cog import measure_pages; cog.outl(measure_pages.page("{name}")) ]]] -->
<!-- [[[end]]] -->
"""


def index() -> str:
    """Return the table of all measures."""
    rows = [
        f"| [`{each.name}`]({each.name}.md) | {each.unit} | {', '.join(each.axes)} | {each.cost} |"
        for each in sorted(own(), key=lambda each: each.name)
    ]
    return "\n".join(["| measure | unit | by | cost |\n|---|---|---|---|", *rows])


def page(name: str) -> str:
    """Return what a measure's definition says of it."""
    (measure,) = (each for each in own() if each.name == name)
    facts = {
        "Unit": measure.unit,
        "Axes": ", ".join(f"`{axis}`" for axis in get_args(Axis) if axis in measure.axes)
        or "none: one number a checkpoint and dataset",
        "Needs": ", ".join(NEEDS[need] for need in measure.needs) or "what the scoring pass has",
        "Cost": f"`{measure.cost}`: {COSTS[measure.cost]}",
        "Computed by": f"`{_command(measure)}`",
        "Source": measure.source,
    }
    lines = [f"```text\n{measure.formula}\n```\n", "## What it says, and what it does not\n", measure.meaning]
    lines += ["\n## Facts\n", *(f"- {fact}: {_cell(text)}" for fact, text in facts.items() if text)]
    if measure.parameters:
        lines += ["\n## Parameters\n", "Given with `-p NAME=VALUE`.\n", "| parameter | default |\n|---|---|"]
        lines += [
            f"| `{parameter}` | {_default(parameter, value)} |"
            for parameter, value in measure.parameters.items()
        ]
    return "\n".join(lines)


def on_config(config: Any) -> Any:
    """Return mkdocs' configuration with each measure's page in its navigation."""
    (reference,) = (section["Reference"] for section in config.nav if "Reference" in section)
    (measures,) = (entry for entry in reference if "Measures" in entry)
    pages = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")
    measures["Measures"] = [
        measures["Measures"],
        *({name: f"reference/measures/{name}.md"} for name in pages),
    ]
    return config


def make_missing() -> None:
    """Make a page, for cog to fill, for each measure without one."""
    for measure in own():
        path = FOLDER / f"{measure.name}.md"
        if not path.exists():
            path.write_text(_STUB.format(name=measure.name), encoding="utf-8")


def _command(measure: MeasureDefinition) -> str:
    """Return the command that computes it."""
    if measure.argument:
        return f"trajstore score SOURCE -d DATASET --{measure.argument.replace('_', '-')} K"
    contexts = " --probe repeats" if measure.on_probe else " -d DATASET" if measure.on_contexts else ""
    required = [parameter for parameter, value in measure.parameters.items() if value is REQUIRED]
    chosen = "".join(f" -p {name}=…" for name in required if name != LABELS)
    return f"trajstore measure {measure.name} -m MODEL{contexts}{chosen}"


def _default(parameter: str, value: object) -> str:
    """Return a parameter's default in words."""
    if parameter == LABELS:
        return "the categories of the dataset's contexts"
    return "must be given" if value is REQUIRED else "not set" if value is None else f"`{value}`"


def _cell(text: str) -> str:
    """Return the text in one line."""
    return " ".join(text.split())


if __name__ == "__main__":
    make_missing()
