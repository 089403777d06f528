"""The options of scoring, in one table: which checkpoints are scored, and how.

Its fields are the keywords of `trajstore.scoring.score` and the options of the command `score`, whose help is the line
under each field. Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from trajstore.arguments.spelling import option
from trajstore.errors import BadOption
from trajstore.schema import check_columns
from trajstore.scoring.time_budget import parse_duration

Order = Literal["forward", "bisect"]
Dtype = Literal["float32", "bfloat16", "float16", "auto"]
Vocab = Literal["full", "tokenizer"]


@dataclass(frozen=True)
class ScoringOptions:
    """The options of scoring a run's checkpoints on datasets of a store.

    Times are seconds or texts such as `15m`, sizes bytes or texts such as `50GB`. Raises `BadOption` for a text that
    cannot be read, and `DeviceError` for a column that no pass keeps.
    """

    steps: str | int | Sequence[int] = "all"
    """all, last, log, numbers, inclusive ranges; commas join."""
    name: str | None = None
    """The model's name in the store [default: MODEL's last part]."""
    pattern: str | None = None
    """Pattern of the steps' names, where not stepN or the like: 'epoch_{step}'."""
    order: Order = "forward"
    """forward, or bisect: coarse to fine, so that a part is a curve already."""
    shard: str | None = None
    """Only one of N parts of the steps; I counts from 0 to N-1."""
    budget: float | str | None = None
    """Begin nothing that would not be done by then: 90s, 15m, 2h."""
    timeout: float | str | None = None
    """Give up a checkpoint that takes longer, and go on: 90s, 15m."""
    cache_limit: int | str | None = None
    """Keep the Hub's cache below 50GB, say (with a unit), by removing what was downloaded and scored."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    devices: Sequence[str | int] = ()
    """A process for each of these, and no Ray: all (GPUs), 0,1, or cpu,cpu."""
    dtype: Dtype = "float32"
    """float32, bfloat16, float16, or auto (the checkpoint's own); the softmax is float32."""
    vocab: Vocab = "full"
    """full, or tokenizer: a softmax without the head's padding rows."""
    columns: Sequence[str] = ()
    """Kept beside the loss: rank, entropy."""
    backfill: bool = False
    """Give `columns` to slices that are there without them; losses stay."""
    attention: str | None = None
    """Attention kernel of transformers: sdpa, eager, flash_attention_2 …"""
    batch_tokens: int | None = None
    """Tokens of a batch [default: by device]."""
    threads: int | None = None
    """Threads on a CPU [default: one or all, whichever is faster now]."""
    repeat_noise: int = 0
    """Score K contexts of each dataset once more, in other batches and a more exact dtype, and keep what differs as
    measures."""
    measures: Sequence[str] = ()
    """Measures of each slice as it is scored, and of heads on a probe: see trajstore measure list."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """A measure's parameter: offset=0 or prefix_matching.offset=0."""
    tokens_per_step: int | None = None
    """Training tokens a step, where the suite is not known."""
    skip_known_bad: bool = False
    """Leave out checkpoints that are published as wrong."""
    trust_remote_code: bool = False
    """Run model code that comes with a checkpoint."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", check_columns(_names(self.columns)))
        object.__setattr__(self, "measures", _names(self.measures))
        object.__setattr__(self, "parameters", _values(self.parameters))
        object.__setattr__(self, "devices", _listed(self.devices))
        if self.devices and self.device != "auto":
            raise BadOption("device", self.device, f"no value beside {option('devices')}")
        if self.timeout is not None and parse_duration(self.timeout, "timeout") <= 0:
            raise BadOption("timeout", self.timeout, "more than 0 seconds, as in 90s or 15m")
        _ = self.budget_seconds, self.cache_bytes

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds; None for all the time there is."""
        return None if self.budget is None else parse_duration(self.budget)

    @property
    def timeout_seconds(self) -> float | None:
        """The time that a checkpoint may take, in seconds; None without a limit."""
        return None if self.timeout is None else parse_duration(self.timeout, "timeout")

    @property
    def cache_bytes(self) -> int | None:
        """The limit of the Hub's cache in bytes; None without one."""
        from trajstore.checkpoints.cache_limit import parse_size

        return None if self.cache_limit is None else parse_size(self.cache_limit)

    @property
    def backfilled_columns(self) -> tuple[str, ...]:
        """Columns that slices without them are to get."""
        return tuple(self.columns) if self.backfill else ()


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names, each once, of a list or of a text in which commas join them."""
    return tuple(dict.fromkeys(_listed(names)))


def _listed(names: str | Sequence[str | int]) -> tuple[str, ...]:
    """Names of a list or of a text in which commas join them."""
    several = names.split(",") if isinstance(names, str) else names
    return tuple(str(name).strip() for name in several if name != "")


def _values(parameters: Mapping[str, object] | Sequence[str]) -> dict[str, object]:
    """Values by name, of a mapping or of texts such as `offset=0`, whose values are JSON or a text."""
    if isinstance(parameters, Mapping):
        return dict(parameters)
    values: dict[str, object] = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadOption("parameters", text, "NAME=VALUE, such as offset=0")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def scoring_options(options: ScoringOptions | None, keywords: Mapping[str, Any]) -> ScoringOptions:
    """The options of a call that takes them as a whole, by keywords, or both, where the keywords win."""
    return ScoringOptions(**keywords) if options is None else replace(options, **keywords)
