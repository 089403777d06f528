"""Losses that cannot be nats are refused unless on purpose; honest ones are not, however bad the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from trajstore.cli import app
from trajstore.errors import BadLosses
from trajstore.importers.ingest import ingest
from trajstore.store.files.datasets import NewDataset, TokenizerFacts
from trajstore.store.files.slices import Provenance
from trajstore.store.loss_limits import hardly_nats, largest, possible

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

PYTHIA = 50_277


def losses_of_logits(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log softmax in float64, a row a token."""
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    found: np.ndarray = (total - logits[np.arange(len(targets)), targets]).astype(np.float32)
    return found


def trained(seed: int = 0, tokens: int = 4000, mean: float = 2.5) -> np.ndarray:
    """Losses as of a trained model: skewed, most small, a few at ln V."""
    return np.random.default_rng(seed).gamma(0.8, mean / 0.8, tokens).clip(0, 11).astype(np.float32)


@pytest.mark.parametrize("vocabulary", [27, 256, PYTHIA, 256_000])
@pytest.mark.parametrize("spread", [0.02, 0.6, 3, 8])
def test_starts_of_any_size_are_nats(vocabulary: int, spread: float) -> None:
    """Logits with a standard deviation of up to 8, of a model that knows nothing; rows of heads drawn in part."""
    rng = np.random.default_rng(0)
    sample = min(vocabulary, 20_000)
    logits = spread * rng.standard_normal((300, sample))
    losses = losses_of_logits(logits, rng.integers(0, sample, 300)) + np.float32(
        math.log(vocabulary / sample)
    )
    assert hardly_nats(losses, vocabulary) is None


def test_a_confident_model_that_is_wrong_is_nats() -> None:
    losses = trained()
    losses[[5, 900]] = 100, 180
    assert hardly_nats(losses, PYTHIA) is None
    assert hardly_nats(np.full(50, math.nan, np.float32), PYTHIA) is None


@pytest.mark.parametrize(("dtype", "size"), [("float32", 0.5), ("float16", 0.5), ("bfloat16", 1.0)])
def test_losses_of_models_with_large_weights_are_nats(dtype: str, size: float) -> None:
    import torch

    from tests.helpers.tiny_models import VOCABULARY, neox
    from trajstore.forward.losses import token_losses

    model = neox(vocabulary=VOCABULARY)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(size / 0.5)
    model = model.to(getattr(torch, dtype))
    texts = np.random.default_rng(0).integers(0, VOCABULARY, (20, 24))
    losses = np.concatenate(token_losses(model, texts))
    assert hardly_nats(losses, VOCABULARY) is None
    assert possible(losses, dtype).all()


@pytest.mark.parametrize("mean", [0.8, 1.5, 2.5, 4, 10.8])
def test_perplexities_are_not(mean: float) -> None:
    """Of models from well trained to untrained: their means are far beyond, or that of a single token is."""
    losses = np.full(400, mean, np.float32) if mean > 10 else trained(mean=mean)
    said = hardly_nats(np.exp(losses.astype(np.float64)).astype(np.float32), PYTHIA)
    assert said is not None
    assert "50,277" in said
    assert "10.8 nats" in said


def test_which_numbers_can_be_losses() -> None:
    numbers = np.array([0, -5e-4, -0.01, -1e30, 1e30, np.inf, -np.inf, np.nan, 300, 131_009], np.float32)
    can = [True, True, False, False, False, False, False, False, True, False]
    assert possible(numbers, "float32").tolist() == can
    assert possible(numbers[2:3], "float16").tolist() == [True]
    assert largest(10) == largest(1 << 15)
    assert largest(1 << 20) > largest(1 << 15)


def named(size: int) -> NewDataset:
    """A dataset of random tokens under a tokenizer of this many entries."""
    made = ragged([40] * 10)
    return NewDataset(
        made.ids, made.texts, made.contexts, TokenizerFacts("big", "sha256:" + "0" * 64, size), made.source
    )


@pytest.mark.parametrize("whole", [True, False])
def test_append_refuses_them_unless_told(store: Store, whole: bool) -> None:
    dataset = store.add_dataset("d", named(PYTHIA))
    contexts = None if whole else [0, 3]
    perplexities = np.exp(trained(tokens=dataset.n_losses if whole else 78))
    slice_ = {"model": "m", "dataset": "d", "step": 1, "losses": perplexities, "contexts": contexts}
    with pytest.raises(
        BadLosses, match=r"m on d at step 1: these losses are hardly nats: their mean is"
    ) as error:
        store.append(**slice_)  # type: ignore[arg-type]
    assert "--unit bits|perplexity" in str(error.value)
    assert "allow_large=True" in str(error.value)
    assert not store.steps("m", "d")
    store.append(**slice_, allow_large=True)  # type: ignore[arg-type]
    assert np.nanmax(store.slice_losses("m", "d", 1)) == perplexities.max()
    with pytest.raises(BadLosses, match="at most 131008 nats"):
        store.append(model="m", dataset="d", step=2, losses=np.full(dataset.n_losses, 1e30), allow_large=True)


def test_losses_beyond_what_logits_span_name_the_unit_too(store: Store) -> None:
    dataset = store.add_dataset("d", named(PYTHIA))
    losses = trained(tokens=dataset.n_losses)
    losses[7] = 2e9
    with pytest.raises(BadLosses, match=r"at most 131008 nats; bits and perplexities .* --unit"):
        store.append(model="m", dataset="d", step=0, losses=losses)


def table(losses: np.ndarray, path: Path) -> Path:
    """Losses of contexts of 40 tokens as a file, with the padding that a matrix has for each position 0."""
    if path.suffix == ".npy":
        np.save(path, np.pad(losses.reshape(10, 39), ((0, 0), (1, 0))).reshape(1, -1))
        return path
    context, position = np.divmod(np.arange(390), 39)
    frame = pl.DataFrame({"context": context, "position": position + 1, "loss": losses})
    frame = pl.concat(
        [frame, pl.DataFrame({"context": [0], "position": [0], "loss": [0.0]}, schema=frame.schema)]
    )
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_ingest_refuses_perplexities_and_takes_their_logarithm(
    store: Store, tmp_path: Path, suffix: str
) -> None:
    dataset = store.add_dataset("d", named(PYTHIA))
    losses = trained(tokens=dataset.n_losses).astype(np.float64)
    path = table(np.exp(losses), tmp_path / f"x{suffix}")
    (failure,) = ingest(store, path, dataset="d", model="m", step=0).failures
    assert failure.reason.startswith("these losses are hardly nats: their mean is")
    assert "--unit" in failure.reason
    assert not store.models()
    assert ingest(store, path, dataset="d", model="m", step=0, unit="perplexity").written == 1
    assert np.allclose(store.slice_losses("m", "d", 0), losses, atol=1e-6)
    assert ingest(store, path, dataset="d", model="told", step=0, allow_large=True).written == 1


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_a_perplexity_without_a_logarithm_is_no_loss(store: Store, tmp_path: Path, suffix: str) -> None:
    dataset = store.add_dataset("d", named(PYTHIA))
    values = np.exp(trained(tokens=dataset.n_losses).astype(np.float64))
    for bad in (0.0, -3.0):
        values[17] = bad
        path = table(values, tmp_path / f"x{suffix}")
        (failure,) = ingest(store, path, dataset="d", model="m", step=0, unit="perplexity").failures
        assert "context 0, position 18" in failure.reason


def test_the_command(store: Store, tmp_path: Path) -> None:
    dataset = store.add_dataset("d", named(PYTHIA))
    path = table(np.exp(trained(tokens=dataset.n_losses).astype(np.float64)), tmp_path / "x.csv")
    arguments = ["ingest", str(path), "-d", "d", "-m", "m", "--step", "0", "-s", str(store.path)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "--unit bits|perplexity" in refused.stderr
    assert CliRunner().invoke(app, [*arguments, "--allow-large"]).exit_code == 0
    assert (
        CliRunner().invoke(app, [*arguments[:5], "n", *arguments[6:], "--unit", "perplexity"]).exit_code == 0
    )


def test_what_is_scored_here_is_nats_however_large(store: Store, tmp_path: Path) -> None:
    """The weights of a head a thousand times too large give losses that append would refuse from elsewhere."""
    import torch

    from tests.helpers.tiny_models import VOCABULARY, neox, random_dataset
    from trajstore.scoring.run import score

    store.add_dataset("d", random_dataset([20, 20]))
    model = neox()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1000)
    model.save_pretrained(tmp_path / "run/step1")
    score(store, str(tmp_path / "run"), ["d"], device="cpu")
    losses = store.slice_losses("run", "d", 1)
    assert hardly_nats(losses, VOCABULARY) is not None
    report = score(store, str(tmp_path / "run"), ["d"], device="cpu", columns=["rank"], backfill=["rank"])
    assert report.failures == []
    assert store.slice_columns("run", "d", 1) == ("rank",)
    with pytest.raises(BadLosses, match="hardly nats"):
        store.append(model="other", dataset="d", step=1, losses=losses, provenance=Provenance())
