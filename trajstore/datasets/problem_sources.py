"""Names of the sources of problems beside a .jsonl file."""

from __future__ import annotations

GENERATED = "generated-mathematics"
"""School mathematics from trajstore's own generators."""
PUBLISHED = "dm-mathematics"
"""DeepMind's published files under a path; without a path, an older name of `GENERATED`."""


def is_problem_source(source: str) -> bool:
    """Return whether a source is one of problems whatever the options, rather than of texts."""
    return source in (GENERATED, PUBLISHED)
