"""Definitions of measures: name, formula, unit, axes, what a measure needs of the scoring pass, and its function.

trajstore's own are in the modules that `OWN_MODULES` names; another package adds one by an entry point of the
group `trajstore.measures` that names a `MeasureDefinition`. A function gets `MeasureInputs` of one checkpoint on one
dataset, as the pass that scored it had them, and returns a number, or values with layer, head or context. One that
needs what is inside the model during the pass has a `Stream` instead. Loads no model and writes nothing.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from trajstore.arguments.spelling import option
from trajstore.arguments.suggestions import nearest
from trajstore.errors import BadMeasures, TrajstoreError, listed
from trajstore.plugins import OWN_PACKAGE, Plugin, PluginError, find, plugins
from trajstore.schema import GROUP_NAME
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedModel

    from trajstore.measures.streams import Stream

Axis = Literal["layer", "head", "context"]
Need = Literal["model", "ids", "losses", "rank", "entropy", "previous"]
StreamNeed = Literal["hidden", "normed", "attention", "head_outputs", "logits"]
"""Insides of the model that a `Stream` is handed: it has a method for each."""
Cost = Literal["pass", "probe", "weights", "passes", "gradients"]
"""pass: hardly more than the scoring pass; probe: a pass over few contexts, some with attention weights; weights: no
pass; passes: many passes over few contexts; gradients: many passes forward and back."""

REQUIRED = ...
"""In the place of the default of a parameter that has none."""
LABELS = "labels"
"""The parameter of a measure that tells kinds of text apart."""


@dataclass(frozen=True)
class MeasureInputs:
    """One checkpoint on one dataset, as a measure's function gets it: what it does not need is None."""

    model: PreTrainedModel | None = None
    """Loaded, in eval mode, on its device and in the dtype of the pass; a function leaves it as it was."""
    ids: Sequence[np.ndarray] | None = None
    """The token ids of each context, int32 (n,)."""
    losses: Sequence[np.ndarray] | None = None
    """Nats, float32 (n − 1,) a context: element p − 1 is of position p."""
    rank: Sequence[np.ndarray] | None = None
    """Of each token among the vocabulary, 0 the top, int32 as `losses`."""
    entropy: Sequence[np.ndarray] | None = None
    """Of each prediction, nats, float32 as `losses`."""
    previous: Sequence[Mapping[str, Tensor]] | None = None
    """The weights of the checkpoints before, by name as in the model's state, the latest first: one or two."""


Compute = Callable[..., "float | Iterable[Measure]"]
"""Of `MeasureInputs` and the definition's parameters."""


@dataclass(frozen=True)
class MeasureDefinition:
    """A measure, and the function that computes it of a checkpoint on a dataset."""

    name: str
    """Small letters, digits and '_', as in the column `name` of the view `measures`."""
    formula: str
    """In a line."""
    unit: str
    """nats, bits …; "1" for a number without a unit."""
    compute: Compute | None = None
    """Gives NaN for a value that is not defined. None for one that has a stream, or an argument of its own."""
    needs: tuple[Need | StreamNeed, ...] = ()
    axes: tuple[Axis, ...] = ()
    """By what its values are told apart; none for one number a checkpoint and dataset."""
    argument: str = ""
    """The argument of `score` that it comes with; empty for `measures`."""
    stream: Callable[..., Stream] | None = None
    """Makes, of the parameters, what gets the insides of the model batch by batch; in place of `compute`."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Parameters that the value depends on and that can be chosen, with defaults; `REQUIRED` for one without."""
    kept_as: Mapping[str, Callable[[Any], tuple[str, object]]] = field(default_factory=dict)
    """Of parameters that rows' `params` hold in another way, or not where they are None: from a value, its key and what
    stands there."""
    cost: Cost = "pass"
    source: str = ""
    """The text that the formula is from."""
    meaning: str = ""
    """In a few sentences, what it says and what it does not."""

    def __post_init__(self) -> None:
        """Refuse a definition that cannot be kept or listed."""
        if not GROUP_NAME.fullmatch(self.name):
            raise BadMeasures(
                f"{self.name!r} cannot be a measure's name: small letters, digits and '_', starting with a letter."
            )
        if "\n" in self.formula or not self.formula or not self.unit:
            raise BadMeasures(f"{self.name}: a measure has a formula of one line and a unit.")
        needs = get_args(Need) if self.stream is None else get_args(StreamNeed)
        for what, names, known in (("needs", self.needs, needs), ("axes", self.axes, get_args(Axis))):
            if unknown := [name for name in names if name not in known]:
                raise BadMeasures(
                    f"{self.name}: {what} are among {', '.join(known)}, and not {', '.join(unknown)}."
                )

    @property
    def on_contexts(self) -> bool:
        """Return whether it is of a checkpoint on contexts, and not of its weights alone."""
        return self.cost != "weights"

    @property
    def on_checkpoints_before(self) -> bool:
        """Return whether it takes the weights of the checkpoints before, so that a run's first has none."""
        return "previous" in self.needs

    @property
    def in_scoring(self) -> bool:
        """Return whether scoring takes it along, in its pass or on a probe beside it."""
        return self.cost == "pass" or self.on_probe

    @property
    def on_probe(self) -> bool:
        """Return whether it takes attention weights, which are made of a few short contexts only."""
        return "attention" in self.needs

    def with_parameters(self, **values: object) -> MeasureDefinition:
        """The measure with these values of its parameters; raises `BadMeasures` for one that it does not have."""
        if unknown := [name for name in values if name not in self.parameters]:
            raise BadMeasures(
                f"{self.name} has no parameter {listed(unknown)}; it has: {listed(self.parameters)}."
                f"{nearest(unknown[0], self.parameters)}"
            )
        return replace(self, parameters={**self.parameters, **values})

    def chosen_parameters(self) -> dict[str, Any]:
        """The values of the parameters; raises `BadMeasures` where one has none."""
        if missing := [name for name, value in self.parameters.items() if value is REQUIRED]:
            raise BadMeasures(f"{self.name} needs a value for {listed(missing)}: there is no default.")
        return dict(self.parameters)

    def values(self, inputs: MeasureInputs) -> list[Measure]:
        """The measure of these inputs, of which its function gets what it needs.

        Raises what the function raises, and `BadMeasures` for values that are not the definition's.
        """
        assert self.compute is not None, (
            "a measure with a stream or an option of its own is not computed here"
        )
        chosen = MeasureInputs(**{name: getattr(inputs, name) for name in self.needs})
        return self.checked(self.compute(chosen, **self.chosen_parameters()))

    def make_stream(self) -> Stream:
        """Return the stream, which gets the model's insides; raises `BadMeasures` for a parameter without a value."""
        assert self.stream is not None, "a measure with a function has no stream"
        return self.stream(**self.chosen_parameters())

    def checked(self, result: float | Iterable[Measure]) -> list[Measure]:
        """Return the values of a function or stream; one that is NaN is not defined, and left out.

        Raises `BadMeasures` where they are not the definition's.
        """
        values = list(result) if isinstance(result, Iterable) else [Measure(self.name, float(result))]
        for value in values:
            if not isinstance(value, Measure):
                raise BadMeasures(
                    f"{self.name}: its function gave {type(value).__name__}, not a number or Measure."
                )
            for axis in get_args(Axis):
                if getattr(value, axis) is not None and axis not in self.axes:
                    raise BadMeasures(f"{self.name}: a value has a {axis}, which is not among its axes.")
        return [value for value in values if not math.isnan(value.value)]


@dataclass(frozen=True)
class Listed:
    """A definition with the package that it comes from."""

    definition: MeasureDefinition
    package: str


_NOISE: dict[str, Any] = {
    "unit": "nats",
    "needs": ("model", "ids", "losses"),
    "argument": "repeat_noise",
    "source": "by definition",
    "meaning": (
        "How far losses depend on rounding: K contexts are scored again, and a difference between two steps that is "
        "no larger says nothing. Weights are the same both times, so the noise of training is not in it."
    ),
}
NOISE = (
    MeasureDefinition("noise_max", "maxᵢ |ℓᵢ − ℓ′ᵢ|, ℓ′ in other batches and a more exact dtype", **_NOISE),
    MeasureDefinition("noise_p99", "99th percentile of |ℓᵢ − ℓ′ᵢ|, as noise_max", **_NOISE),
)
OWN_MODULES = (
    "hidden_states.interaction_energy",
    "hidden_states.rankme",
    "hidden_states.alpha_req",
    "hidden_states.twonn",
    "hidden_states.participation_ratio",
    "predictions.token_means",
    "predictions.calibration_error",
    "predictions.kl_unigram",
    "predictions.kl_bigram",
    "heads.prefix_matching",
    "heads.previous_token",
    "heads.duplicate_token",
    "heads.bos_attractor",
    "heads.symmetry",
    "heads.ov_copying",
    "heads.composition",
    "heads.ablation",
    "weights.weight_norm",
    "weights.effective_rank",
    "weights.weight_distance",
    "weights.unigram_latent",
    "text_types.text_type_probe",
    "llc.llc",
)
"""Modules of `trajstore.measures` with trajstore's own measures, each in its `DEFINITIONS`."""
SETS = {"heads": ("prefix_matching", "previous_token", "duplicate_token", "bos_attractor")}
"""Names that stand for several measures."""


@cache
def own() -> tuple[MeasureDefinition, ...]:
    """trajstore's own measures."""
    modules = [importlib.import_module(f"trajstore.measures.{name}") for name in OWN_MODULES]
    return (*NOISE, *(definition for module in modules for definition in module.DEFINITIONS))


def available() -> tuple[list[Listed], list[PluginError]]:
    """All measures that there are, trajstore's own first, and why those that cannot be used cannot."""
    listed = [Listed(definition, OWN_PACKAGE) for definition in own()]
    problems: list[PluginError] = []
    for plugin in plugins("measures"):
        try:
            listed.append(Listed(_definition(plugin), plugin.package))
        except PluginError as error:
            problems.append(error)
    return listed, problems


def find_measures(names: Iterable[str]) -> list[MeasureDefinition]:
    """The definitions of these names that can be computed of a loaded model, each once; `SETS` are names as well.

    Raises `PluginError` for one that is unknown or cannot be loaded, `TrajstoreError` for one with an argument of
    its own.
    """
    known = {definition.name: definition for definition in own()}
    definitions = []
    for name in dict.fromkeys(member for given in names for member in SETS.get(given, (given,))):
        definition = known[name] if name in known else _definition(find("measures", name, known))
        if definition.argument:
            raise TrajstoreError(
                f"The measure {name} comes with {option(definition.argument, 'K')} of trajstore score."
            )
        definitions.append(definition)
    return definitions


def with_parameters(
    definitions: Sequence[MeasureDefinition], parameters: Mapping[str, object]
) -> list[MeasureDefinition]:
    """The measures with values of their parameters, named `offset` or `prefix_matching.offset`.

    Raises `BadMeasures` for a parameter that none of them has, and where one has no value.
    """
    chosen: dict[str, dict[str, object]] = {definition.name: {} for definition in definitions}
    for key, value in parameters.items():
        of, _, parameter = key.rpartition(".")
        having = [
            definition
            for definition in definitions
            if of in ("", definition.name) and parameter in definition.parameters
        ]
        if not having:
            known = [
                f"{definition.name}.{name}" for definition in definitions for name in definition.parameters
            ]
            raise BadMeasures(
                f"None of these measures has the parameter {key!r}; they have: {listed(known)}."
            )
        for definition in having:
            chosen[definition.name][parameter] = value
    done = [definition.with_parameters(**chosen[definition.name]) for definition in definitions]
    for definition in done:
        if LABELS not in definition.parameters:
            definition.chosen_parameters()
    return done


def _definition(plugin: Plugin) -> MeasureDefinition:
    """A package's measure, imported; raises `PluginError` where it is none."""
    definition = plugin.load()
    if not isinstance(definition, MeasureDefinition):
        raise plugin.problem(f"is no MeasureDefinition, but {type(definition).__name__}")
    if definition.name != plugin.name:
        raise plugin.problem(f"calls itself {definition.name}")
    if (definition.compute is None and definition.stream is None) or definition.argument:
        raise plugin.problem("has neither a function nor a stream that computes it")
    if definition.name in {known.name for known in own()}:
        raise plugin.problem("has the name of one of trajstore's own")
    return definition
