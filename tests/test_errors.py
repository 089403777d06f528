"""The words of errors."""

from __future__ import annotations

import pytest

from trajstore.arguments.suggestions import nearest


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny-2l-sed0", " Did you mean tiny-2l-seed0?"),  # of names that are all like it the nearest
        ("tiny-9*", ""),
        ("quite-another", ""),
    ],
)
def test_nearest_names(name: str, said: str) -> None:
    assert nearest(name, ["tiny-1l-seed0", "tiny-2l-seed0", "tiny-2l-seed1"]) == said
