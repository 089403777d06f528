"""Definitions of measures: name, formula, unit, axes, what a measure needs of the scoring pass, and its function.

trajstore's own are listed here; another package adds one by an entry point of the group `trajstore.measures` that names
a `MeasureDefinition`. The function gets `MeasureInputs` of one checkpoint on one dataset, as the pass that scored it
had them, and returns a number, or values with layer, head or context. Loads no model and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from trajstore.arguments.spelling import option
from trajstore.errors import BadMeasures, TrajstoreError
from trajstore.plugins import OWN_PACKAGE, Plugin, PluginError, find, plugins
from trajstore.schema import GROUP_NAME
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

Axis = Literal["layer", "head", "context"]
Need = Literal["model", "ids", "losses", "rank", "entropy"]


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


Compute = Callable[[MeasureInputs], "float | Iterable[Measure]"]


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
    """None for one that has an argument of its own."""
    needs: tuple[Need, ...] = ()
    axes: tuple[Axis, ...] = ()
    """By what its values are told apart; none for one number a checkpoint and dataset."""
    argument: str = ""
    """The argument of `score` that it comes with; empty for `measures`."""

    def __post_init__(self) -> None:
        """Refuse a definition that cannot be kept or listed."""
        if not GROUP_NAME.fullmatch(self.name):
            raise BadMeasures(
                f"{self.name!r} cannot be a measure's name: small letters, digits and '_', starting with a letter."
            )
        if "\n" in self.formula or not self.formula or not self.unit:
            raise BadMeasures(f"{self.name}: a measure has a formula of one line and a unit.")
        for what, names, known in (("needs", self.needs, Need), ("axes", self.axes, Axis)):
            if unknown := [name for name in names if name not in get_args(known)]:
                raise BadMeasures(
                    f"{self.name}: {what} are among {', '.join(get_args(known))}, and not {', '.join(unknown)}."
                )

    def values(self, inputs: MeasureInputs) -> list[Measure]:
        """The measure of these inputs, of which its function gets what it needs.

        Raises what the function raises, and `BadMeasures` for values that are not the definition's.
        """
        assert self.compute is not None, "a measure with an option of its own is not computed here"
        given = self.compute(MeasureInputs(**{name: getattr(inputs, name) for name in self.needs}))
        if not isinstance(given, Iterable):
            return [Measure(self.name, float(given))]
        values = list(given)
        for value in values:
            if not isinstance(value, Measure):
                raise BadMeasures(
                    f"{self.name}: its function gave {type(value).__name__}, not a number or Measure."
                )
            for axis in get_args(Axis):
                if getattr(value, axis) is not None and axis not in self.axes:
                    raise BadMeasures(f"{self.name}: a value has a {axis}, which is not among its axes.")
        return values


@dataclass(frozen=True)
class Listed:
    """A definition with the package that it comes from."""

    definition: MeasureDefinition
    package: str


_NOISE: dict[str, Any] = {"unit": "nats", "needs": ("model", "ids", "losses"), "argument": "repeat_noise"}
OWN = (
    MeasureDefinition("noise_max", "maxᵢ |ℓᵢ − ℓ′ᵢ|, ℓ′ in other batches and a more exact dtype", **_NOISE),
    MeasureDefinition("noise_p99", "99th percentile of |ℓᵢ − ℓ′ᵢ|, as noise_max", **_NOISE),
)
"""trajstore's own measures."""


def available() -> tuple[list[Listed], list[PluginError]]:
    """All measures, trajstore's own first, and why those of other packages that cannot be used cannot."""
    listed = [Listed(definition, OWN_PACKAGE) for definition in OWN]
    problems: list[PluginError] = []
    for plugin in plugins("measures"):
        try:
            listed.append(Listed(_definition(plugin), plugin.package))
        except PluginError as error:
            problems.append(error)
    return listed, problems


def find_measures(names: Iterable[str]) -> list[MeasureDefinition]:
    """The definitions of these names that the scoring pass can compute, each once.

    Raises `PluginError` for one that is unknown or cannot be loaded, `TrajstoreError` for one with an argument of
    its own.
    """
    own = {definition.name: definition for definition in OWN}
    definitions = []
    for name in dict.fromkeys(names):
        if name in own:
            raise TrajstoreError(f"The measure {name} comes with {option(own[name].argument, 'K')}.")
        definitions.append(_definition(find("measures", name, own)))
    return definitions


def _definition(plugin: Plugin) -> MeasureDefinition:
    """A package's measure, imported; raises `PluginError` where it is none."""
    definition = plugin.load()
    if not isinstance(definition, MeasureDefinition):
        raise plugin.problem(f"is no MeasureDefinition, but {type(definition).__name__}")
    if definition.name != plugin.name:
        raise plugin.problem(f"calls itself {definition.name}")
    if definition.compute is None or definition.argument:
        raise plugin.problem("has no function that computes it")
    if definition.name in {own.name for own in OWN}:
        raise plugin.problem("has the name of one of trajstore's own")
    return definition
