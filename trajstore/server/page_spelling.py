"""The page's spelling of the library's arguments: as its controls are called, others as parameters of an address."""

from __future__ import annotations

from trajstore.arguments.spelling import Spelling

_CONTROLS = {"ci": "Intervals", "steps": "Steps", "x": "Along"}
"""Arguments that are chosen on the page, by what stands beside the choice."""


class PageSpelling(Spelling):
    """The spelling of arguments in replies."""

    def name(self, argument: str) -> str:
        """Return what stands beside an argument's control, or its name in an address."""
        return f"“{_CONTROLS[argument]}”" if argument in _CONTROLS else argument

    def advised(self, argument: str, value: object) -> str:
        """Return an argument with a value that it can be given: “Intervals: studentised”, or as in an address."""
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        return f"“{_CONTROLS[argument]}: {text}”" if argument in _CONTROLS else f"{argument}={text}"

    def given(self, argument: str, value: object) -> str:
        """Return an argument with the value that it was given, as in an address."""
        return f"{argument}={value}"
