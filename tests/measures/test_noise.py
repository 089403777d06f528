"""The noise of losses is what a repeat in another dtype and other batches differs by, and the model stays as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.tiny_models import VOCABULARY, neox, random_dataset, save_run
from trajstore.cli import app
from trajstore.errors import DeviceError
from trajstore.forward.losses import token_scores
from trajstore.measures.noise import in_dtype, measure_noise
from trajstore.scoring.job import publish
from trajstore.scoring.options import ScoringOptions
from trajstore.scoring.run import score
from trajstore.scoring.settings import choose_settings

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from trajstore.store.store import Store

CONTEXTS = [np.random.default_rng(n).integers(0, VOCABULARY, 8 + n % 9) for n in range(30)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def noise_of(model: PreTrainedModel, contexts: int) -> dict[str, Any]:
    """Values and params of the measures."""
    found = measure_noise(model, CONTEXTS, token_scores(model, CONTEXTS), contexts)
    return {measure.name: (measure.value, dict(measure.params)) for measure in found}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_against_the_model_itself_in_float64(dtype: torch.dtype) -> None:
    """Every context is repeated here, so that the largest difference is that from transformers' own loss in float64."""
    model = neox(3, layers=2).to(dtype)
    kept = np.concatenate(token_scores(model, CONTEXTS).loss)
    found = noise_of(model, 1000)
    exact = neox(3, layers=2).to(dtype).double()
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(
                exact(torch.as_tensor(ids)[None]).logits[0, :-1], torch.as_tensor(ids)[1:], reduction="none"
            )
            for ids in CONTEXTS
        ]
    apart = np.abs(torch.cat(losses).numpy() - kept)
    rounding = 3e-6  # the repeat's own, in float32 at the head
    assert found["noise_max"][0] == pytest.approx(apart.max(), abs=rounding)
    assert found["noise_p99"][0] == pytest.approx(np.percentile(apart, 99), abs=rounding)
    params = found["noise_max"][1]
    assert (params["contexts"], params["losses"]) == (30, len(kept))
    names = {torch.float32: ("float32", "float64"), torch.bfloat16: ("bfloat16", "float32")}
    assert (params["dtype"], params["repeat_dtype"]) == names[dtype]
    assert params["repeat_batch_tokens"] < params["batch_tokens"]
    low, high = {torch.float32: (1e-7, 1e-4), torch.bfloat16: (1e-3, 1.0)}[dtype]
    assert low < found["noise_p99"][0] <= found["noise_max"][0] < high


def test_the_same_contexts_at_every_step() -> None:
    """The tokens that were drawn count, and only they: noise put into all others is not seen."""
    drawn: list[set[int]] = []
    for seed in (0, 1):
        model = neox(seed)
        scores = token_scores(model, CONTEXTS)
        seen = set()
        for number in range(30):
            loss = list(scores.loss)
            loss[number] = loss[number] + np.float32(1)
            changed = type(scores)(loss, None, None, scores.batch_tokens, scores.tiled)
            if measure_noise(model, CONTEXTS, changed, 5)[0].value > 0.5:
                seen.add(number)
        drawn.append(seen)
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 5


def test_the_same_softmax() -> None:
    """Over the tokenizer's entries alone, the losses are others, and the repeat's as well."""
    model = neox(1)
    ids = [context % 50 for context in CONTEXTS]
    scores = token_scores(model, ids, vocabulary=50)
    assert measure_noise(model, ids, scores, 4, vocabulary=50)[0].value < 1e-4


def test_other_batches_where_contexts_ran_singly() -> None:
    model = neox()
    scores = token_scores(model, CONTEXTS, batch_tokens=16)
    params = measure_noise(model, CONTEXTS, scores, 6)[0].params
    assert params["batch_tokens"] == 16
    assert int(str(params["repeat_batch_tokens"])) >= 4 * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_model_is_as_it_was_to_the_bit(dtype: torch.dtype) -> None:
    """Also what is shared, what is kept in another dtype, and after an error."""
    model = neox(2, tie_word_embeddings=True).to(dtype)
    rotary = next(name for name, _ in model.named_buffers() if name.endswith("inv_freq"))
    model.get_buffer(rotary).data = model.get_buffer(rotary).data.float() * 1.0001
    before = {name: each.clone() for name, each in [*model.named_parameters(), *model.named_buffers()]}

    def fails_inside() -> None:
        with in_dtype(model, torch.float64):
            assert {each.dtype for each in model.parameters()} == {torch.float64}
            assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_inside()
    after = dict([*model.named_parameters(), *model.named_buffers()])
    assert after.keys() == before.keys()
    for name, each in after.items():
        assert each.dtype == before[name].dtype
        assert torch.equal(each, before[name]), name
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_what_cannot_be_repeated() -> None:
    model = neox()
    scores = token_scores(model, CONTEXTS)

    def no_float64(*_: object) -> None:
        raise RuntimeError("not implemented for Double")

    hook = model.gpt_neox.layers[0].register_forward_pre_hook(no_float64)
    with pytest.raises(DeviceError, match="again in float64, so leave out repeat_noise: not implemented"):
        measure_noise(model, CONTEXTS, scores, 2)
    hook.remove()
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    with pytest.raises(DeviceError, match="^repeat_noise takes"):
        choose_settings(ScoringOptions(device="cpu", repeat_noise=-1))


def test_scoring_keeps_it_as_measures(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    store.add_dataset("e", random_dataset(seed=1))
    run = save_run(tmp_path / "run", [0, 8])
    report = score(store, str(run), ["d", "e"], device="cpu", repeat_noise=3)
    assert report.failures == []
    frame = store.measures("run")
    assert frame.select("step", "dataset", "name").rows() == [
        (step, dataset, name) for step in (0, 8) for dataset in "de" for name in ("noise_max", "noise_p99")
    ]
    assert all(json.loads(each)["contexts"] == 3 for each in frame["params"])
    plain = store.slice_losses("run", "d", 8)
    floor = frame.filter(name="noise_p99", dataset="d")["value"].max()
    assert store.sql("SELECT DISTINCT noise FROM stepwise(0, 8) WHERE dataset = 'd'").fetchall() == [(floor,)]
    # The losses are those that are kept without it.
    store.drop([("run", "d", 8)])
    assert store.measures("run", dataset="d")["step"].to_list() == [0, 0]
    score(store, str(run), ["d"], device="cpu")
    assert np.array_equal(store.slice_losses("run", "d", 8), plain)
    assert store.measures("run", dataset="d")["step"].to_list() == [0, 0]


def test_losses_are_kept_where_their_noise_cannot_be_measured(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_dataset("d", random_dataset())
    run = save_run(tmp_path / "run", [0, 8])
    whole = publish.measure_noise

    def once(*arguments: Any) -> Any:
        monkeypatch.setattr(publish, "measure_noise", whole)
        raise DeviceError("no room")

    monkeypatch.setattr(publish, "measure_noise", once)
    words = ["score", str(run), "-d", "d", "--device", "cpu", "--repeat-noise", "2", "-s", str(store.path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "2 slices written" in result.stderr
    said = "step 0 was scored, but the noise of the losses on d could not be measured: no room"
    assert said in result.stderr
    assert "was not scored" not in result.stderr
    assert store.steps("run", "d") == [0, 8]
    assert store.measures("run")["step"].unique().to_list() == [8]


def test_the_command(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    run = save_run(tmp_path / "run", [4])
    words = ["score", str(run), "-d", "d", "--device", "cpu", "--repeat-noise", "2", "-s", str(store.path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert store.measures("run")["name"].to_list() == ["noise_max", "noise_p99"]
