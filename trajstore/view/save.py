"""Charts into files: .html by plotly, .png by matplotlib. A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.errors import PlotError
from trajstore.view.charts import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = (".html", ".png")
"""The kinds of file a chart can be saved as."""


def check_target(path: Path | str, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """The path, if a file of one of these suffixes can be written there; raises `PlotError`.

    Worth calling before long work, so that a mistyped name is met at once.
    """
    target = Path(path)
    endings = " or ".join(suffixes)
    if target.suffix.lower() not in suffixes:
        raise PlotError(f"Cannot tell what to write from the name {target.name!r}: it must end in {endings}.")
    if not target.parent.is_dir():
        raise PlotError(
            f"There is no folder {target.parent} to write {target.name} in. "
            f"Make it with: mkdir -p {target.parent}"
        )
    if target.is_dir():
        raise PlotError(f"{target} is a folder; give the name of a file that ends in {endings}.")
    return target


def save_chart(chart: Chart | Sequence[Chart], path: Path | str) -> Path:
    """Writes one chart, or several one under the other, as .html (plotly) or .png (matplotlib).

    Raises `PlotError` for another suffix, a folder that does not exist, or nothing to draw.
    """
    target = check_target(path)
    charts = [chart] if isinstance(chart, Chart) else list(chart)
    if not any(panel.series for one in charts for panel in one.panels):
        raise PlotError(f"There is nothing to draw, so {target} was not written.")
    if target.suffix.lower() == ".png":
        from trajstore.view.matplotlib_charts import png

        return write_whole(target, png(charts))
    from trajstore.view.plotly_charts import page

    return write_whole(target, page(charts).encode())


def write_whole(path: Path, content: bytes) -> Path:
    """Writes to a hidden file beside the path and renames it, so that no half of it is ever seen there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise PlotError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
