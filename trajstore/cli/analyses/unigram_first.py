"""unigram-first: whether models predict how frequent tokens are first, and when they leave that behind."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.arguments import choices
from trajstore.cli import options
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.option_blocks import FindingOptions, OutputOptions, SelectionOptions, default_name, keep
from trajstore.cli.output import print_frame, print_json, say


@dataclass_options(name=default_name("the model or how many"))
def unigram_first(
    *,
    selected: Annotated[SelectionOptions, Only("model dataset steps")],
    layer: Annotated[
        int | None,
        typer.Option(
            min=0, help="Take the energy of this layer, before the final norm [default: each model's last]."
        ),
    ] = None,
    direction: Annotated[
        choices.Divergence,
        options.choice(
            metavar="model||counts|counts||model",
            help="KL of the model's predictions to the counts of tokens, or the other way round.",
        ),
    ] = "model||counts",
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Phases in which a model predicts unigrams and leaves them.

    Phase 1: kl_unigram is low and interaction_energy high; 2: KL rises and energy falls; 3: energy rises and KL stays
    high. Each is seen, not seen, or cannot be told, for the reason beside it: it takes 20 checkpoints, no further
    apart than a factor of 4, and curves that noise between checkpoints hardly moves. Kept as a finding: unigram_first
    in SQL.

    \b
    Example:
      trajstore measure kl_unigram,interaction_energy -m tiny-2l-seed0 -d docs
      trajstore unigram-first -m 'tiny-*' -d docs --plot unigram.png
    """
    from trajstore.pipelines.measures.unigram_first import request
    from trajstore.pipelines.measures.unigram_first import unigram_first as find

    with output.open() as store:
        place = finding.place(request(selected.selection, layer, direction), store)
        result = find(store, selected.selection, layer=layer, direction=direction)
        keep(result, place)
    frame = result.frame
    if output.as_json:
        print_json({"finding": place.name, "phases": frame.to_dicts()})
    elif output.plot is None:
        print_frame(frame.drop("layer", "direction"))
        layers = ", ".join(str(number) for number in sorted(set(frame["layer"])))
        say(f"KL: {direction}, in nats. Energy: of layer {layers}, before the final norm.")
        say("low, high: between these steps lies the end of a phase, of phase 3 its beginning.")
    output.finish(result, place, "unigram_first")
