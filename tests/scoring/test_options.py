"""The settings of a scoring run: what is asked for, what it resolves to, and what is written down of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from trajstore.errors import BadOption, CheckpointError, DeviceError
from trajstore.scoring.options import ScoringOptions, scoring_options
from trajstore.scoring.settings import choose_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_asked_for_is_written_down() -> None:
    chosen = choose_settings(
        ScoringOptions(
            device="cpu",
            dtype="bfloat16",
            batch_tokens=64,
            attention="eager",
            vocab="tokenizer",
            columns=["entropy", "rank", "rank"],
        )
    )
    assert (chosen.device, chosen.dtype, chosen.batch_tokens) == (torch.device("cpu"), torch.bfloat16, 64)
    assert chosen.columns == ("rank", "entropy")
    known = chosen.provenance
    assert (known.dtype, known.vocab, known.batch_tokens, known.device) == (
        "bfloat16",
        "tokenizer",
        64,
        "cpu",
    )
    assert (chosen.vocabulary(50277), choose_settings(ScoringOptions(device="cpu")).vocabulary(9)) == (
        50277,
        None,
    )


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),  # as transformers before version 5 writes it
        ({"torch_dtype": "torch.float32", "text_config": {"dtype": "float16"}}, "float32"),
        ({"dtype": None, "text_config": {"dtype": "bfloat16"}}, "bfloat16"),
    ],
)
def test_auto_is_the_checkpoints_own_dtype(tmp_path: Path, config: dict[str, Any], dtype: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = choose_settings(ScoringOptions(device="cpu", dtype="auto"))
    assert asked.dtype is None
    found = asked.for_checkpoint(tmp_path)
    assert (found.dtype, found.provenance.dtype) == (getattr(torch, dtype), dtype)
    assert found.provenance.run == asked.provenance.run
    fixed = choose_settings(ScoringOptions(device="cpu"))
    assert fixed.for_checkpoint(tmp_path) is fixed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "names no dtype: take one of dtype float32"),
        ('{"dtype": "float8_e4m3fn"}', "names the dtype float8_e4m3fn"),
    ],
)
def test_a_checkpoint_that_names_no_dtype_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DeviceError, match=said):
        choose_settings(ScoringOptions(device="cpu", dtype="auto")).for_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", None])
def test_a_configuration_that_cannot_be_read_is_its_checkpoints_error(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="config.json cannot be read"):
        choose_settings(ScoringOptions(device="cpu", dtype="auto")).for_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dtype": "int8"}, "no dtype='int8'; there is: float32, bfloat16, float16, auto"),
        ({"batch_tokens": 0}, "batch_tokens takes 1 or more, not 0"),
        ({"vocab": "half"}, "no vocab='half'; there is: full, tokenizer"),
        ({"columns": ["rank", "margin"]}, "no column 'margin' beside the loss; there is: rank, entropy"),
    ],
)
def test_what_is_not_offered_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        choose_settings(ScoringOptions(**{"device": "cpu", **settings}))


def test_times_and_sizes_are_numbers_or_texts() -> None:
    texts = ScoringOptions(budget="2h", timeout="90s", cache_limit="50GB", columns="entropy,rank")
    numbers = ScoringOptions(budget=7200.0, timeout=90, cache_limit=50 * 10**9, columns=["rank", "entropy"])
    for options in (texts, numbers):
        assert (options.budget_seconds, options.timeout_seconds) == (7200.0, 90.0)
        assert (options.cache_bytes, options.columns) == (50 * 10**9, ("rank", "entropy"))
    assert (texts.backfilled_columns, replace(texts, backfill=True).backfilled_columns) == ((), texts.columns)
    for wrong in ({"timeout": "soon"}, {"timeout": 0}, {"budget": "2 weeks"}, {"cache_limit": "50"}):
        with pytest.raises(BadOption):
            ScoringOptions(**wrong)


def test_keywords_win_over_the_options_of_a_call() -> None:
    options = ScoringOptions(steps="log", device="cpu")
    assert scoring_options(options, {"steps": "last"}) == ScoringOptions(steps="last", device="cpu")
    assert scoring_options(None, {"device": "cpu"}) == ScoringOptions(device="cpu")
    with pytest.raises(TypeError, match="stepz"):
        scoring_options(options, {"stepz": "log"})
