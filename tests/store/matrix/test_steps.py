from __future__ import annotations

import pytest

from trajstore.errors import BadSteps, UnknownStep
from trajstore.store.matrix.steps import log_steps, resolve

PYTHIA = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 143001, 1000)]


def test_log_steps_of_pythia_are_those_of_its_readme() -> None:
    assert len(PYTHIA) == 154
    assert log_steps(PYTHIA) == [
        *[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
        *[1000, 2000, 4000, 8000, 16000, 33000, 66000, 131000, 143000],
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", PYTHIA),
        ("last", [143000]),
        ("512", [512]),
        (512, [512]),
        ([0, 512], [0, 512]),
        ("512,0,512", [0, 512]),
        ("141000:", [141000, 142000, 143000]),
        (":4", [0, 1, 2, 4]),
        ("4:32", [4, 8, 16, 32]),
        ("0:6000:2000", [0, 2000, 4000, 6000]),
        ("last, 0:1", [0, 1, 143000]),
    ],
)
def test_specs(spec: str | int | list[int], expected: list[int]) -> None:
    assert resolve(spec, PYTHIA, "here") == expected


def test_log_of_steps_without_zero_and_between_powers() -> None:
    assert log_steps([3, 5, 6, 12, 100]) == [3, 5, 6, 12, 100]
    assert log_steps([10, 20, 30]) == [10, 20, 30]
    assert log_steps([0]) == [0]


def test_a_step_that_does_not_exist_lists_near_ones() -> None:
    with pytest.raises(
        UnknownStep, match=r"steps=1500 matches no checkpoint of pythia.*256, 512, 1000, 2000, 3000, 4000"
    ):
        resolve("1500", PYTHIA, "pythia")
    with pytest.raises(UnknownStep, match=r"steps='513:999' matches no checkpoint"):
        resolve("513:999", PYTHIA, "pythia")
    with pytest.raises(UnknownStep, match="exist: none"):
        resolve("all", [], "nothing")


@pytest.mark.parametrize("spec", ["", "seven", "1:2:3:4", "a:b", "0:10:0", "1.5"])
def test_what_cannot_be_read_says_what_can(spec: str) -> None:
    with pytest.raises(BadSteps, match="all, last, log, numbers and inclusive ranges"):
        resolve(spec, PYTHIA, "pythia")
