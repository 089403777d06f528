"""The facts that a store has of each model beside its losses: `models/M.json`.

It is published once. What it says stays, but for the names in a renaming; what it does not know may be added.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from trajstore.errors import BadName, DamagedFile
from trajstore.schema import is_name
from trajstore.store.disk import catalog_lock, digests, layout

RENAMED_FROM = "renamed_from"
"""Field of a model's file that holds its old name while a renaming is not finished."""


@dataclass(frozen=True)
class ModelFacts:
    """A model: one training run's name in the store. What is not known is None."""

    model: str
    repo: str | None = None
    """Hub repository, or the absolute path of the local folder."""
    family: str | None = None
    """Architecture, transformers' `model_type`."""
    size: str | None = None
    """As the suite writes it, such as `70m`."""
    n_params: int | None = None
    n_nonembedding: int | None = None
    """Parameters outside the token and position embeddings and the head."""
    n_layer: int | None = None
    position_embedding: str | None = None
    seed: int | None = None
    tokenizer: str | None = None
    tokens_per_step: int | None = None
    parent: str | None = None
    """The model whose training this one continues."""

    @property
    def order(self) -> tuple[bool, int, str]:
        """Its place among models: by number of parameters, then name; unknown sizes last."""
        return self.n_params is None, self.n_params or 0, self.model


def publish_model(root: Path, facts: ModelFacts) -> ModelFacts:
    """Write a model's facts, or add those that the store does not know yet; returns what it holds.

    Nothing is added where a fact that it knows differs: that is another run. Nor is a repository or a parent, which
    say which run it is.
    """
    if not layout.publish(root, layout.model_path(root, facts.model), encode_model(asdict(facts))):
        _complete(root, facts)
    return read_model(root, facts.model) or facts


def whole(root: Path, model: str) -> dict[str, object]:
    """All that a model's file says, other versions' fields too; raises `DamagedFile` where it is not as written."""
    path = layout.model_path(root, model)
    read_model(root, model)
    if changed := digests.problem(path):
        raise DamagedFile(path, changed, "See what mends it: trajstore check")
    facts: dict[str, object] = json.loads(path.read_bytes())
    return facts


def _complete(root: Path, facts: ModelFacts) -> None:
    """Add facts to a model's file that it lacks; writes only where there are any."""
    if _lacking(root, facts):
        with catalog_lock.turn(root):
            if lacking := _lacking(root, facts):
                data = encode_model({**whole(root, facts.model), **lacking})
                layout.publish(root, layout.model_path(root, facts.model), data, replace=True)


def _lacking(root: Path, facts: ModelFacts) -> dict[str, object]:
    """Return the facts that the store does not know; none where it has no such model, or knows another run."""
    if (known := read_model(root, facts.model)) is None:
        return {}
    new = {name: value for name, value in asdict(facts).items() if value is not None}
    own = asdict(known)
    if any(own[name] not in (None, value) for name, value in new.items()):
        return {}
    return {name: value for name, value in new.items() if own[name] is None and name not in _WHICH_RUN}


_WHICH_RUN = ("repo", "parent")


def encode_model(facts: Mapping[str, object]) -> bytes:
    """The bytes of a model's file, with their digest."""
    own = {name: value for name, value in facts.items() if name != digests.JSON_FIELD}
    return digests.sealed(json.dumps(own, indent=1), ".json")


def read_model(root: Path, model: str) -> ModelFacts | None:
    """A model's facts, or None where the store has none; raises `DamagedFile` for a file that holds anything else."""
    path = layout.model_path(root, model)
    try:
        raw = json.loads(layout.plain(layout.unlinked(path)).read_bytes())
        return _facts(model, raw)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(path, str(error), _REMOVE) from error


def children(root: Path, parent: str) -> list[str]:
    """Models whose parent this one is, sorted; those whose facts are damaged are left out."""
    names = []
    for name in sorted(path.stem for path in root.glob("models/*.json") if is_name(path.stem)):
        with contextlib.suppress(DamagedFile):
            if (facts := read_model(root, name)) is not None and facts.parent == parent:
                names.append(name)
    return names


def old_name(root: Path, model: str) -> str | None:
    """The name that a model had before a renaming that is not finished, or None."""
    try:
        raw = json.loads(layout.plain(layout.unlinked(layout.model_path(root, model))).read_bytes())
    except (OSError, ValueError, RecursionError, DamagedFile, BadName):
        return None
    old = raw.get(RENAMED_FROM) if isinstance(raw, dict) else None
    return old if isinstance(old, str) and is_name(old) else None


_REMOVE = "Remove it; the next trajstore score of that model writes it anew"


def _facts(model: str, raw: object) -> ModelFacts:
    """Facts from JSON, each of its type; raises `ValueError`. Fields that later versions add are left out."""
    if not isinstance(raw, dict) or raw.get("model") != model:
        raise ValueError(f"it does not hold the facts of {model}")
    known = {field.name: field.type for field in fields(ModelFacts) if field.name in raw}
    for name, kind in known.items():
        value = raw[name]
        if "int" in str(kind):
            sound, should = type(value) is int and 0 <= value < 2**63, "a whole number"
        else:
            sound, should = isinstance(value, str), "a text"
        if value is not None and not sound:
            raise ValueError(f"its {name} is {value!r:.40}, and not {should}")
    return ModelFacts(**{name: raw[name] for name in known})
