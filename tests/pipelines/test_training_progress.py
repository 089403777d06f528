"""Places of checkpoints by tokens seen and FLOPs are those computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trajstore.analysis.trajectories import Comparison
from trajstore.errors import TrajstoreError
from trajstore.pipelines import trajectories
from trajstore.pipelines.training_progress import with_training
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import Provenance
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store


def placed(store: Store, x: str, models: list[str], **comparison: object) -> list[tuple[object, ...]]:
    """(model, step, x) of each row."""
    selection, asked = Selection(["d"], models, "0,4:16"), Comparison(**comparison)  # type: ignore[arg-type]
    frame = trajectories.trajectories(store, ["every_token"], selection, comparison=asked)
    frame = with_training(store, frame, x, selection, asked)  # type: ignore[arg-type]
    assert frame.columns.index("tokens_seen" if x == "tokens" else "flops") == frame.columns.index("step") + 1
    return frame.select("model", "step", "^(tokens_seen|flops)$").rows()


@pytest.fixture
def counted(planted: Store) -> Store:
    """With tokens by the step for a, by each slice for b, and unknown for c."""
    planted.publish_model(ModelFacts("a", n_nonembedding=1000, tokens_per_step=10))
    planted.publish_model(ModelFacts("b", n_nonembedding=2000))
    for step in (0, 4, 8, 16):
        losses = planted.slice_losses("b", "d", step)
        seen = Provenance(tokens_seen=step * 10 + (step > 8))
        planted.append(model="b", dataset="d", step=step, losses=losses, provenance=seen, replace=True)
        planted.append(model="c", dataset="d", step=step, losses=np.ones(97))
    return planted


def test_tokens_and_flops(counted: Store) -> None:
    assert placed(counted, "tokens", ["a"]) == [("a", 0, 0), ("a", 4, 40), ("a", 8, 80), ("a", 16, 160)]
    assert [row[2] for row in placed(counted, "tokens", ["b"])] == [0, 40, 80, 161]
    assert [row[2] for row in placed(counted, "flops", ["b"])] == [
        6 * 2000 * seen for seen in (0, 40, 80, 161)
    ]
    assert [row[::2] for row in placed(counted, "flops", ["b", "a"], minus_model="b")][-1] == (
        "a − b",
        6 * 1000 * 160,
    )


def test_a_mean_of_models_has_a_place_where_they_agree(counted: Store) -> None:
    with pytest.raises(TrajstoreError, match="At step 16, b was not as far as the others of the mean"):
        placed(counted, "tokens", ["a", "b"], by="dataset")
    seen = counted.slice_facts("b", "d", 16).provenance.tokens_seen
    assert seen == 161
    losses = counted.slice_losses("b", "d", 16)
    exact = Provenance(tokens_seen=160)
    counted.append(model="b", dataset="d", step=16, losses=losses, provenance=exact, replace=True)
    assert placed(counted, "tokens", ["a", "b"], by="dataset")[-1] == ("mean of 2 models", 16, 160)
    with pytest.raises(TrajstoreError, match="At step 4, b was not as far"):
        placed(counted, "flops", ["a", "b"], by="dataset")


def test_what_is_not_known_is_said_with_what_to_do(counted: Store) -> None:
    with pytest.raises(
        TrajstoreError, match="tokens that c had seen at step 0 are not known.*tokens_per_step=N"
    ):
        placed(counted, "tokens", ["c"])
    with pytest.raises(TrajstoreError, match=r"parameters of c outside its embeddings.*publish_model"):
        placed(counted, "flops", ["c"])
    with pytest.raises(TrajstoreError, match="Cannot read x='days'. It takes step, tokens or flops"):
        placed(counted, "days", ["a"])


def test_a_stage_s_tokens_are_not_counted_from_its_steps(counted: Store) -> None:
    """They would lack those of the parent."""
    counted.publish_model(ModelFacts("c", n_nonembedding=1, tokens_per_step=10, parent="a"))
    with pytest.raises(TrajstoreError, match="tokens that c had seen at step 0 are not known"):
        placed(counted, "tokens", ["c"])
