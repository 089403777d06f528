"""The beginning and end of analysis commands: checking a chart's file, saying what was drawn, keeping a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.cli.output import say

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.display import Drawn
    from trajstore.pipelines.finding_facts import Place


def check_plot(plot: Path | None) -> None:
    """Raise `BadTarget` before long work where a chart could not be written."""
    from trajstore.output_files import check_target
    from trajstore.view.charts.save import SUFFIXES

    if plot is not None:
        check_target(plot, SUFFIXES)


def draw(found: Drawn, plot: Path) -> None:
    """Write a result's charts to a file, and say so."""
    found.plot(plot)
    say(f"Drew {plot}.")


def say_kept(place: Place, where: str) -> None:
    """Say where a finding is, whether this command made it or one before it did."""
    say(
        f"{'There already, and the same: the' if place.there else 'Kept as the'} finding {place.name}: {where}"
    )
