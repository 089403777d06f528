"""Commands of the analyses of other packages: made from an analysis's definition, for the name that was typed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from trajstore.cli.dataclass_options import dataclass_options, typed_option
from trajstore.cli.lazy_command import command_of
from trajstore.cli.option_blocks import (
    FindingOptions,
    OutputOptions,
    SelectionOptions,
    default_name,
    keep,
)
from trajstore.cli.output import CommandGroup, bars, print_frame, print_json, say
from trajstore.errors import BadAnalysis

if TYPE_CHECKING:
    from trajstore.pipelines.definition import AnalysisDefinition


class Commands(CommandGroup):
    """trajstore's own commands, and those of the analyses of installed packages."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; raises `PluginError` for an analysis that cannot be used."""
        own = super().get_command(ctx, cmd_name)
        return own if own is not None or cmd_name.startswith("-") else _command(cmd_name)


def _command(name: str) -> Any:
    """The command of an installed analysis, None where there is none of that name."""
    from trajstore.plugins import plugins

    kind = name.replace("-", "_")
    if not any(plugin.name == kind for plugin in plugins("analyses")):
        return None
    from trajstore.pipelines.definition import find_analysis

    return command_of(_function(find_analysis(kind)), name)


def _function(definition: AnalysisDefinition) -> Callable[..., None]:
    """A command's function with the options of an analysis between those of a selection and those of its finding."""

    def run(
        *, selected: SelectionOptions, finding: FindingOptions, output: OutputOptions, **typed: Any
    ) -> None:
        options = {option.name: option.read(typed[option.name]) for option in definition.options}
        with output.open() as store:
            # before long work, which other columns would make vain, and for a store that has lost the kind's tables
            store.add_finding_kind(definition.name, definition.schemas)
            place = finding.place(definition.request(selected.selection, options), store)
            result = definition(store, selected.selection, progress=bars(), **options)
            keep(result, place)
        tables = dict(result.tables())
        if output.as_json:
            print_json({"finding": place.name, **{name: frame.to_dicts() for name, frame in tables.items()}})
        elif output.plot is None:
            for name, frame in tables.items():
                if len(tables) > 1:
                    say(f"{name}:")
                print_frame(frame)
        output.finish(result, place, definition.view(next(iter(tables))))

    blocks = {"selected": SelectionOptions, "finding": FindingOptions, "output": OutputOptions}
    taken = {*blocks, "json", "help", *(field.name for block in blocks.values() for field in fields(block))}
    if clash := [option.name for option in definition.options if option.name in taken]:
        raise BadAnalysis(
            f"{definition.name}: its option {clash[0]} is one that every analysis has; rename it."
        )
    own = [
        _parameter(option.name, typed_option(option.name, option.hint, option.help), option.default)
        for option in definition.options
    ]
    first, *last = [_parameter(name, block) for name, block in blocks.items()]
    parameters = [first, *own, *last]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__name__, run.__doc__ = definition.name, inspect.getdoc(definition.compute)
    return dataclass_options(name=default_name("models and datasets"))(run)


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
