"""heads: what attention heads became during training, and whether other seeds have the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments import defaults
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.option_blocks import FindingOptions, OutputOptions, SelectionOptions, default_name, keep
from trajstore.cli.output import print_frame, print_json, say
from trajstore.errors import listed

if TYPE_CHECKING:
    from trajstore.pipelines.measures.head_match import HeadMatch


@dataclass_options(name=default_name("the model or how many"))
def kinds(
    *,
    selected: Annotated[SelectionOptions, Only("model dataset steps")],
    apart: Annotated[
        float,
        typer.Option(
            metavar="DISTANCE",
            help="Root mean square distance of the measures of two heads of a cluster, at most.",
        ),
    ] = defaults.APART,
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Find the kinds of attention heads.

    A kind is a cluster of heads whose measures took the same course.

    The measures are prefix_matching, previous_token, duplicate_token and bos_attractor, at the steps that all models
    have. A cluster has the name of the ideal that its mean is nearest to at the last step: that of a kind has 1 of
    its measure and 0 of the others, that of none 0 of all; since is the step from
    which on a head is of its kind. Kept as a finding: head_kinds in SQL.

    \b
    Example:
      trajstore measure heads -m tiny-2l-seed0 --probe repeats
      trajstore heads kinds -m tiny-2l-seed0 --plot kinds.png
    """
    from trajstore.pipelines.measures.head_kinds import head_kinds, request

    with output.open() as store:
        place = finding.place(request(selected.selection, apart), store)
        result = head_kinds(store, selected.selection, apart=apart)
        keep(result, place)
    if output.as_json:
        print_json({"finding": place.name, "heads": result.frame.to_dicts()})
    elif output.plot is None:
        print_frame(result.frame)
        say(
            "kind: of the cluster; distance: of the cluster's mean at the last step from the ideal of its kind; "
            "nearest: the kind whose ideal the head itself is nearest to at the last step; since: from this step on."
        )
    for kind, models in result.left_out.items():
        say(f"{kind} is not looked for: {listed(models)} not measured so.")
    output.finish(result, place, "head_kinds")


@dataclass_options(name=default_name("the models"))
def match(
    *,
    selected: Annotated[SelectionOptions, Only("model dataset steps")],
    chance: Annotated[
        float,
        typer.Option(metavar="P", help="Highest p by which the layers of matched heads agree."),
    ] = defaults.CHANCE,
    ratio: Annotated[
        float,
        typer.Option(
            metavar="R",
            help="A pair is ambiguous where its distance is more than this share of that of the next best pair of "
            "either head.",
        ),
    ] = defaults.MATCH_RATIO,
    seed: Annotated[int, typer.Option(min=0, help="Seed of permutations, and of ties.")] = 0,
    finding: FindingOptions,
    output: OutputOptions,
) -> None:
    """Match the heads of two models, one to one.

    Do two seeds form the same heads? Heads are matched by the course of their measures.

    The measures are those of heads kinds, at the steps that both models have; the sum of the distances of the pairs is
    the least there is, and layers are not looked at. The test is of the layers: whether those of matched heads are
    nearer to each other than where the layers of one model are permuted, over its heads and as wholes. Of fewer than
    four layers it cannot tell. Kept as a finding: head_matches and head_match_layers in SQL.

    \b
    Example:
      trajstore measure heads -m tiny-2l-seed0 --probe repeats
      trajstore measure heads -m tiny-2l-seed1 --probe repeats
      trajstore heads match -m tiny-2l-seed0,tiny-2l-seed1 --plot pairs.png
    """
    from trajstore.pipelines.measures.head_match import head_match, request

    with output.open() as store:
        place = finding.place(request(selected.selection, chance, ratio, seed), store)
        result = head_match(store, selected.selection, chance=chance, ratio=ratio, seed=seed)
        keep(result, place)
    frame, layers = result.frame, result.table("layers")
    if output.as_json:
        (of_layers,) = layers.to_dicts()
        print_json({"finding": place.name, "pairs": frame.to_dicts(), "layers": of_layers})
    elif output.plot is None:
        print_frame(frame.drop("model", "other"))
        typer.echo()
        print_frame(layers[:, 2:])
        for line in _notes(result):
            say(line)
    for kind, models in result.read.left_out.items():
        say(f"{kind} is not looked at: {listed(models)} not measured so.")
    if result.unmatched:
        say(f"{result.unmatched} heads have no match, as one model has fewer.")
    output.finish(result, place, "head_matches")


def _notes(result: HeadMatch) -> list[str]:
    """Say what the columns are, and why the answer is that it cannot tell."""
    first, second = result.models
    said = [
        f"layer, head, kind: of {first}; other_layer, other_head, other_kind: of {second}.",
        (
            "distance: of the two over training; next_distance: of either from the nearest other head; "
            "random_distance: the mean over all others."
        ),
        (
            "layers_apart: mean difference of the layers of a pair; …_expected: where one model's layers are permuted "
            "over its heads."
        ),
        (
            "p_heads, p_layers: the chance of an agreement as good by such permutations, and by those of whole layers; "
            "least_p: that of the best agreement there can be."
        ),
    ]
    return said + ([f"Cannot tell: {result.reason}."] if result.reason else [])


COMMANDS = (kinds, match)
