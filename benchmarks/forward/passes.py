"""Ways to get per-token losses of a model, each in a process of its own that waits for its turn.

Models are random GPT-NeoX of published shapes, made from a seed; contexts are random ids, all of one length, that begin
with the same token, so that a harness which scores text can be given the same. All run on one thread in float32.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.subprocesses import NoAnswer, peak, start_peak

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 50304
"""Rows of the head."""

ENTRIES = 50277
"""Of the tokenizer: ids lie below."""

LENGTH = 512


@dataclass(frozen=True)
class ModelShape:
    """A size of GPT-NeoX as published."""

    name: str
    width: int
    layers: int
    heads: int
    side_by_side: int = 8
    """Contexts of a batch in the plain loop that has batches."""

    def model(self, **settings: Any) -> PreTrainedModel:
        """The model with random weights, the same each time on one kind of device."""
        import torch
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        torch.manual_seed(0)
        config = GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.width,
            intermediate_size=4 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            rotary_pct=0.25,
            max_position_embeddings=2048,
            **settings,
        )
        return GPTNeoXForCausalLM(config).eval()


S14M, S70M = ModelShape("14m", 128, 6, 4), ModelShape("70m", 512, 6, 8, side_by_side=4)

OURS, PLAIN, BATCHED, HARNESS = (
    "trajstore",
    "plain loop",
    "plain loop, batches",
    "lm_eval, loglikelihood_rolling",
)

Score = Callable[[np.ndarray], list[np.ndarray]]
"""Contexts, int64 (n, LENGTH), to an array of nats a context: of each token, or their sum alone."""


def paths() -> list[str]:
    """Return the paths that can run here: the harness only where it is installed."""
    return [OURS, PLAIN, BATCHED, *([HARNESS] if find_spec("lm_eval") else [])]


def contexts(n: int, seed: int = 0) -> np.ndarray:
    """Random ids, int64 (n, LENGTH); the first of each is 0."""
    ids = np.random.default_rng(seed).integers(0, ENTRIES, (n, LENGTH))
    ids[:, 0] = 0
    return ids


def ours(model: PreTrainedModel) -> Score:
    """The pass of this project."""
    from trajstore.scoring import token_losses

    return lambda ids: token_losses(model, list(ids))


def plain(model: PreTrainedModel, side_by_side: int = 1) -> Score:
    """The loop that one would write: all logits of a batch, and their cross-entropy."""
    import torch

    @torch.inference_mode()
    def score(ids: np.ndarray) -> list[np.ndarray]:
        flat: list[np.ndarray] = []
        for start in range(0, len(ids), side_by_side):
            batch = torch.as_tensor(ids[start : start + side_by_side], device=model.device)
            logits = model(batch, use_cache=False).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]).float(), batch[:, 1:].reshape(-1), reduction="none"
            )
            flat.extend(losses.view(len(batch), -1).cpu().numpy())
        return flat

    return score


def harness(model: PreTrainedModel) -> Score:
    """lm_eval on the contexts as text, a word a token; the first token is its prefix, and its answers are sums."""
    import logging

    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    evaluator = HFLM(
        pretrained=model,
        tokenizer=word_tokenizer(),
        max_length=LENGTH,
        batch_size=1,
        device=str(model.device),
        prefix_token_id=0,
    )

    def score(ids: np.ndarray) -> list[np.ndarray]:
        texts = [" ".join(f"w{token}" for token in context[1:]) for context in ids]
        requests = [
            Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=number)
            for number, text in enumerate(texts)
        ]
        with contextlib.redirect_stderr(io.StringIO()):  # it shows a bar for each text, whatever it is told
            return [np.array(-total) for total in evaluator.loglikelihood_rolling(requests)]

    return score


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a word for each id."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({f"w{token}": token for token in range(ENTRIES)}, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="w0", eos_token="w0")


def scorer(path: str, shape: ModelShape) -> Score:
    """A path on a new model."""
    model = shape.model()
    if path == OURS:
        return ours(model)
    return harness(model) if path == HARNESS else plain(model, shape.side_by_side if path == BATCHED else 1)


def by_definition(shape: ModelShape, ids: np.ndarray) -> list[np.ndarray]:
    """The losses in float64 of the same model."""
    import torch

    model = shape.model().double()
    losses = []
    for context in torch.as_tensor(ids):
        with torch.inference_mode():
            log_p = model(context[None], use_cache=False).logits[0, :-1].log_softmax(1)
        losses.append(-log_p.gather(1, context[1:, None])[:, 0].numpy())
    return losses


@dataclass(frozen=True)
class First:
    """The result of a path's first run."""

    losses: list[np.ndarray]
    peak: int
    """Bytes of memory above those with the model and the libraries loaded."""


class Waiting:
    """A process that holds a path's model and runs it when it is its turn."""

    def __init__(self, path: str, shape: ModelShape, ids: np.ndarray) -> None:
        context = multiprocessing.get_context("spawn")
        self.path = path
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, path, shape, ids), daemon=True)
        self._process.start()
        theirs.close()
        self.first: First = self._answer()

    def seconds(self) -> float:
        """Run it once."""
        self._pipe.send(True)
        seconds: float = self._answer()
        return seconds

    def end(self) -> None:
        """Give the memory back."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise NoAnswer(f"the process of {self.path} ended without an answer") from None


def _serve(pipe: Connection, path: str, shape: ModelShape, ids: np.ndarray) -> None:
    """Run in the process: once for memory and losses, then once at each request."""
    import torch

    torch.set_num_threads(1)
    score = scorer(path, shape)
    score(ids[:1, :2])
    before = start_peak()
    losses = score(ids)
    pipe.send(First(losses, peak() - before))
    with contextlib.suppress(EOFError):
        while pipe.recv():
            start = time.perf_counter()
            score(ids)
            pipe.send(time.perf_counter() - start)
