"""Losses, ranks and entropies against transformers' own loss and float64, whatever the batches, tiles and dtype."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import KINDS, UNKNOWN, exact, ragged, tiny, watched
from trajstore.errors import DeviceError, UnfitContext
from trajstore.forward import losses, model_pass
from trajstore.forward.losses import Scores, token_losses, token_scores
from trajstore.forward.model_pass import Forward
from trajstore.forward.tiled_head import Tile

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = ("rank", "entropy")


def flat(arrays: list[np.ndarray] | None) -> np.ndarray:
    assert arrays is not None
    return np.concatenate(arrays)


def assert_same(found: Scores, wanted: Scores, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(flat(found.loss), flat(wanted.loss), rtol=0, atol=atol)
    np.testing.assert_allclose(flat(found.entropy), flat(wanted.entropy), rtol=0, atol=atol)
    assert np.abs(flat(found.rank) - flat(wanted.rank)).max() <= 1  # two logits may change places by rounding


@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
@pytest.mark.parametrize("vocabulary", [300, 5000])
def test_agrees_with_the_models_own_loss_and_with_float64(kind: str, vocabulary: int) -> None:
    model, contexts = tiny(kind, vocabulary), ragged(vocabulary)
    found = token_losses(model, contexts)
    assert [len(loss) for loss in found] == [len(ids) - 1 for ids in contexts]
    assert all(loss.dtype == np.float32 for loss in found)
    assert np.concatenate(found).std() > 0.3  # otherwise the comparison would say little
    for ids, loss, reference in zip(contexts, found, exact(model, contexts), strict=True):
        np.testing.assert_allclose(loss, reference.loss, rtol=0, atol=1e-5)
        labels = torch.as_tensor(ids, dtype=torch.long)[None]
        with torch.no_grad():
            own = model(labels, labels=labels).loss.item()
        assert loss.mean() == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("precision", ["none", "tf32"])
def test_float32_products_are_exact_whatever_torch_is_set_to(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """As TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 sets it in some containers; afterwards it is as before."""
    matmul: Any = torch.backends.cuda.matmul
    seen = set()
    whole = Forward.start

    def looking(*arguments: Any) -> Any:
        seen.add(matmul.fp32_precision)
        return whole(*arguments)

    monkeypatch.setattr(Forward, "start", looking)
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = precision
        there = matmul.fp32_precision
        token_losses(tiny("gpt-neox"), ragged())
        assert (seen, matmul.fp32_precision) == ({"ieee"}, there)
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
def test_rank_and_entropy_come_of_the_same_pass(kind: str) -> None:
    model, contexts = tiny(kind, 700), ragged(700)
    found = token_scores(model, contexts, columns=["entropy", "rank"], tile=Tile(16, 64))
    assert found.tiled == (kind != UNKNOWN)
    reference = exact(model, contexts)
    assert flat(found.rank).dtype == np.int32
    assert flat(found.entropy).dtype == np.float32
    np.testing.assert_array_equal(flat(found.rank), np.concatenate([each.rank for each in reference]))
    assert np.unique(flat(found.rank)).size > 50
    np.testing.assert_allclose(
        flat(found.entropy), np.concatenate([each.entropy for each in reference]), rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(flat(found.loss), flat(token_losses(model, contexts, tile=Tile(16, 64))))


def test_what_was_not_asked_for_is_not_there() -> None:
    model, contexts = tiny("gpt-2"), ragged()
    plain, ranked = token_scores(model, contexts), token_scores(model, contexts, columns=["rank"])
    assert (plain.rank, plain.entropy, ranked.entropy) == (None, None, None)
    assert ranked.rank is not None
    with pytest.raises(DeviceError, match="no column 'perplexity' beside the loss; there is: rank, entropy"):
        token_scores(model, contexts, columns=["perplexity"])
    empty = token_scores(model, [], columns=BOTH)
    assert (empty.loss, empty.rank, empty.entropy) == ([], [], [])


@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
@pytest.mark.parametrize("batch_tokens", [1, 90, 4096])
def test_any_batch_size_gives_what_one_context_at_a_time_gives(kind: str, batch_tokens: int) -> None:
    model, contexts = tiny(kind), ragged()
    batched = token_scores(model, contexts, columns=BOTH, batch_tokens=batch_tokens)
    alone = [token_scores(model, [ids], columns=BOTH) for ids in contexts]
    assert_same(
        batched,
        Scores(
            *([getattr(each, name)[0] for each in alone] for name in ("loss", *BOTH)),
            batch_tokens=1,
            tiled=batched.tiled,
        ),
    )


@pytest.mark.parametrize("tile", [Tile(1, 30), Tile(7, 64), Tile(16, 299), Tile(40, 8), Tile(1000, 1000)])
def test_tiles_of_any_shape_give_the_same(tile: Tile) -> None:
    model, contexts = tiny("gpt-j"), ragged()
    assert_same(
        token_scores(model, contexts, columns=BOTH, tile=tile), token_scores(model, contexts, columns=BOTH)
    )


def hidden_scale(model: Any, factor: float) -> Any:
    """The model with its logits multiplied behind its head, which nothing in its configuration says."""
    plain = model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        output.logits = output.logits * factor
        return output

    model.forward = scaled
    return model


@pytest.mark.parametrize("kind", ["llama", "gemma-2"])
def test_a_scale_behind_the_head_is_noticed(kind: str) -> None:
    model, ids = hidden_scale(tiny(kind), 1.01), ragged()[1]
    logits = model(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0, :-1].double()
    expected = torch.nn.functional.cross_entropy(
        logits, torch.as_tensor(ids[1:], dtype=torch.long), reduction="none"
    )
    found = token_scores(model, [ids])
    assert not found.tiled
    np.testing.assert_allclose(found.loss[0], expected.detach().numpy(), rtol=0, atol=1e-5)


def scale_in_the_configuration(model: Any) -> None:
    model.config.logits_scaling = 1.5


def hook_on_the_head(model: Any) -> None:
    model.lm_head.register_forward_hook(lambda layer, given, logits: logits * 1.01)


def another_hook_on_the_head(model: Any) -> None:
    model.lm_head._forward_hooks.clear()
    model.lm_head.register_forward_hook(lambda layer, given, logits: logits.roll(1, 2))


def another_forward(model: Any) -> None:
    hidden_scale(model, 0.98)


def another_layer_of_the_kind(model: Any) -> None:
    model.lm_head = torch.nn.Linear(32, model.config.vocab_size)


def a_layer_of_another_kind(model: Any) -> None:
    model.lm_head = torch.nn.Sequential(torch.nn.Linear(32, model.config.vocab_size), torch.nn.ReLU())


def half_precision(model: Any) -> None:
    model.bfloat16()


CHANGES = {  # in this order, and whether the head then runs in tiles
    scale_in_the_configuration: True,
    another_layer_of_the_kind: True,
    hook_on_the_head: False,
    another_hook_on_the_head: False,
    another_forward: False,
    a_layer_of_another_kind: False,
    half_precision: False,
}


def test_a_head_is_checked_once_until_the_model_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, whole = [], Forward._checked_head

    def checked(self: Forward, context: Any) -> Any:
        checks.append(self.model)
        return whole(self, context)

    monkeypatch.setattr(Forward, "_checked_head", checked)
    model, (first, second, *_) = tiny("granite"), ragged()
    token_losses(model, [first])
    model.train()
    token_scores(model, [second], columns=["rank"], vocabulary=None, tile=Tile(4, 16))
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert_own_losses(model, second)
    assert len(checks) == 1
    for change, tiled in CHANGES.items():
        change(model)
        assert token_scores(model, [first]).tiled == tiled, change
        assert_own_losses(model, second, rtol=0.05 if model.dtype == torch.bfloat16 else 0.0)


def test_what_is_known_of_a_head_does_not_keep_the_model() -> None:
    model = tiny("llama")
    token_losses(model, [ragged()[0]])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def assert_own_losses(model: Any, ids: np.ndarray, rtol: float = 0.0) -> None:
    """The losses are those of the model's own logits."""
    with torch.no_grad():
        logits = model.eval()(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0, :-1].double()
    wanted = torch.nn.functional.cross_entropy(
        logits, torch.as_tensor(ids[1:], dtype=torch.long), reduction="none"
    )
    np.testing.assert_allclose(token_losses(model, [ids])[0], wanted.numpy(), rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt-neox", "gemma-2", "granite", "cohere"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_get_float32_losses(kind: str, dtype: torch.dtype) -> None:
    model, contexts = tiny(kind), ragged()
    reference = np.concatenate(token_losses(model, contexts))
    half = token_scores(model.to(dtype), contexts)
    assert half.tiled
    losses = flat(half.loss)
    assert losses.dtype == np.float32
    assert 0 < np.abs(losses - reference).max() < 0.5
    assert losses.min() > -1e-5  # logits are float32, so that no loss sinks below zero


def test_autocast_around_the_pass_does_not_change_its_dtype() -> None:
    model, contexts = tiny("gpt-neox"), ragged()
    alone = token_losses(model, contexts)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(flat(token_losses(model, contexts)), flat(alone))


def known_probabilities() -> Any:
    """A model with the logits 0, ln 3, 0 at every position: probabilities 1/5, 3/5, 1/5."""
    model = tiny("gpt-neox", vocabulary=3)
    with torch.no_grad():
        norm = model.gpt_neox.final_layer_norm
        norm.weight.zero_()
        norm.bias.zero_()
        norm.bias[0] = 1.0
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, 0] = torch.tensor([0.0, math.log(3.0), 0.0])
    return model


@pytest.mark.parametrize("tile", [Tile(), Tile(2, 2), Tile(1, 1)])
def test_known_logits_give_known_losses_ranks_and_entropies(tile: Tile) -> None:
    found = token_scores(known_probabilities(), [np.array([0, 1, 2, 1])], columns=BOTH, tile=tile)
    np.testing.assert_allclose(found.loss[0], [math.log(5 / 3), math.log(5), math.log(5 / 3)], atol=1e-6)
    assert flat(found.rank).tolist() == [0, 1, 0]  # a tie does not count
    np.testing.assert_allclose(flat(found.entropy), [math.log(5) - 0.6 * math.log(3)] * 3, atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt-neox", "gemma-2", UNKNOWN])
@pytest.mark.parametrize("vocabulary", [200, 64])
def test_the_softmax_may_run_over_the_first_ids_alone(kind: str, vocabulary: int) -> None:
    model, contexts = tiny(kind, 300), ragged(60)
    found = token_scores(model, contexts, columns=BOTH, vocabulary=vocabulary, tile=Tile(8, 50))
    for name in ("loss", *BOTH):
        wanted = [getattr(each, name) for each in exact(model, contexts, vocabulary)]
        np.testing.assert_allclose(flat(getattr(found, name)), np.concatenate(wanted), rtol=0, atol=1e-5)
    assert flat(found.loss).mean() < flat(token_losses(model, contexts)).mean() - 0.1
    assert_same(
        token_scores(model, contexts, columns=BOTH, vocabulary=999),
        token_scores(model, contexts, columns=BOTH),
    )
    with pytest.raises(UnfitContext, match="softmax shall run over the ids 0 to 9 only: .*vocab='full'"):
        token_losses(model, contexts, vocabulary=10)
    with pytest.raises(UnfitContext, match="1 id or more, not 0"):
        token_losses(model, contexts, vocabulary=0)


def test_huge_logits_do_not_overflow() -> None:
    model = tiny("gpt-2")
    with torch.no_grad():
        model.lm_head.weight.mul_(1000)
    found = token_scores(model, ragged(), columns=BOTH, tile=Tile(8, 32))
    reference = exact(model, ragged())
    assert np.isfinite(flat(found.entropy)).all()
    wanted = np.concatenate([each.loss for each in reference])
    np.testing.assert_allclose(flat(found.loss), wanted, rtol=1e-5, atol=0.1)


def test_a_nan_stays_a_nan() -> None:
    model = tiny("gpt-neox")
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    found = token_scores(model, ragged(), columns=BOTH)
    assert np.isnan(flat(found.loss)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_tensor_of_tokens_times_vocabulary_is_made(kind: str) -> None:
    model, contexts = tiny(kind, vocabulary=6000, positions=128), ragged(6000, (128, 120, 31))
    tile = Tile(64, 1024)
    with watched(model) as seen:
        assert token_scores(model, contexts, columns=BOTH, tile=tile, batch_tokens=128).tiled
    assert 0 < seen.bytes <= 4 * tile.elements + 4 * 6000  # the check of the head takes whole tokens
    with watched(model) as seen, torch.no_grad():
        model(torch.as_tensor(contexts[0], dtype=torch.long)[None])
    assert seen.bytes >= 4 * 128 * 6000  # what the watcher would have seen


@pytest.mark.parametrize("takes_positions", [True, False])
def test_a_model_with_an_unknown_head_makes_no_more_logits_than_it_must(
    takes_positions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, contexts = tiny(UNKNOWN, vocabulary=5000), ragged(5000, (100, 90, 31))
    whole = token_scores(model, contexts, columns=BOTH)
    if not takes_positions:
        plain = model.forward
        model.forward = lambda ids, use_cache: plain(ids, use_cache=use_cache)
    monkeypatch.setattr(model_pass, "MOST_LOGITS", 17 * 5000)
    with watched(model) as seen:
        pieces = token_scores(model, contexts, columns=BOTH)
    assert not pieces.tiled
    assert seen.bytes == 4 * (17 if takes_positions else 100) * 5000
    assert_same(pieces, whole)


def test_the_mode_of_each_module_comes_back_and_dropout_is_off() -> None:
    model = tiny("gpt-2").train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    assert np.array_equal(token_losses(model, ragged())[1], token_losses(model, ragged())[1])
    assert [module.training for module in model.modules()] == before
    assert token_losses(model, []) == []


def test_progress_counts_tokens() -> None:
    class Counter:
        total = 0

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.total += amount

    counter = Counter()
    token_losses(tiny("gpt-2"), ragged(), batch_tokens=50, progress=counter)  # type: ignore[arg-type]
    assert counter.total == 138


@pytest.mark.parametrize("kind", ["gpt-2", "gemma-2"])
def test_a_context_that_does_not_fit_is_refused_before_anything_runs(kind: str) -> None:
    model = tiny(kind)
    for bad, message in [
        (np.arange(129), "129 tokens, but the model has positions for 128"),
        (np.array([1, 300]), "token id 300, but the model's vocabulary has the ids 0 to 299"),
        (np.array([-1, 3]), "token id -1"),
        (np.array([4]), "a row of 2 tokens"),
        (np.zeros((2, 2), int), "shape"),
    ]:
        with pytest.raises(UnfitContext, match=message) as caught:
            token_losses(model, [np.array([1, 2]), bad])
        assert "Context 1 " in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1])
def test_no_positive_number_of_positions_is_no_limit(limit: int) -> None:
    model = tiny("gemma-2")
    model.config.max_position_embeddings = limit
    losses.check_contexts(model, [np.zeros(129, int)])


def test_a_context_may_fill_every_position() -> None:
    model, contexts = tiny("gpt-2"), ragged(lengths=(128, 2))
    for loss, reference in zip(token_losses(model, contexts), exact(model, contexts), strict=True):
        np.testing.assert_allclose(loss, reference.loss, rtol=0, atol=1e-5)


# Memory that runs out


def limited(monkeypatch: pytest.MonkeyPatch, tokens: int, error: Exception) -> list[int]:
    """A device on which no more than so many tokens at a time have room; gives the tokens of each try."""
    tries: list[int] = []
    whole = Forward.start

    def start(self: Forward, contexts: list[np.ndarray], targets: Any = None) -> Any:
        if targets is not None:  # the check of a new model, on a few tokens
            return whole(self, contexts, targets)
        tries.append(len(contexts) * max(map(len, contexts)))
        if tries[-1] > tokens:
            raise error
        return whole(self, contexts)

    monkeypatch.setattr(Forward, "start", start)
    return tries


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.88 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "mps", "cpu", "numpy"])
def test_where_memory_runs_out_the_batch_is_halved(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model, contexts = tiny("gpt-neox"), ragged()
    wanted = token_scores(model, contexts, columns=BOTH)
    assert wanted.batch_tokens == 512
    tries = limited(monkeypatch, 100, error)
    found = token_scores(model, contexts, columns=BOTH)
    assert tries == [280, 120, 40, 40, 31, 51, 2]  # 7 contexts, 3, and then a budget of 60 tokens
    assert_same(found, wanted)


def test_no_room_for_one_context_is_an_error_that_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 30, OUT_OF_MEMORY[0])
    with pytest.raises(
        DeviceError, match=r"memory of cpu does not hold .* one context of 40 tokens.*bfloat16"
    ):
        token_losses(tiny("gpt-neox"), ragged())


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = limited(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        token_losses(tiny("gpt-neox"), ragged())
    assert len(tries) == 1


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
def test_a_gpu_gives_what_the_cpu_gives(kind: str) -> None:
    model, contexts = tiny(kind, 5000), ragged(5000)
    on_cpu = token_scores(model, contexts, columns=BOTH)
    on_gpu = token_scores(model.to("cuda"), contexts, columns=BOTH)
    assert on_gpu.tiled == on_cpu.tiled
    assert_same(on_gpu, on_cpu, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_on_a_gpu_keeps_float32_logits(kind: str, dtype: torch.dtype) -> None:
    model, contexts = tiny(kind, 5000).to(dtype), ragged(5000)
    on_cpu = token_scores(model, contexts, columns=BOTH)
    on_gpu = token_scores(model.to("cuda"), contexts, columns=BOTH)
    assert on_gpu.tiled
    assert np.abs(flat(on_gpu.loss) - flat(on_cpu.loss)).max() < 0.2
    assert flat(on_gpu.loss).min() > -1e-4
    again = token_scores(model, contexts, columns=BOTH, tile=Tile(16, 1000))
    np.testing.assert_allclose(flat(again.loss), flat(on_gpu.loss), rtol=0, atol=1e-4)


@pytest.mark.gpu
def test_a_gpu_finds_its_own_budget_and_halves_it() -> None:
    model, contexts = tiny("gpt-neox", 5000).to("cuda"), ragged(5000)
    free = token_scores(model, contexts)
    assert 40 < free.batch_tokens <= 65536
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(64e6 / torch.cuda.get_device_properties(0).total_memory)
    try:
        tight = token_scores(model, contexts * 400, batch_tokens=1 << 20)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tight.batch_tokens < 1 << 20
    np.testing.assert_allclose(flat(tight.loss[:7]), flat(free.loss), rtol=0, atol=1e-4)
