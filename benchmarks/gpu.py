"""The scoring pass on a GPU: tokens a second and share of the card's peak, beside the plain loop and the CPU.

Model FLOPs of a token are twice the parameters of its matrix products (head included, the embedding not), and the
attention's 4 · layers · width · the tokens before it. The peak is the rate of one large bfloat16 product on the same
card, measured in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import page
from benchmarks.passes import LENGTH, S70M, VOCABULARY, ModelShape, Score, contexts, ours, plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHAPES = (S70M, ModelShape("410m", 1024, 24, 16), ModelShape("1.4b", 2048, 24, 16))
DTYPES = ("bfloat16", "float32")

_CONTEXTS, _PLAIN_CONTEXTS, _COMPARED, _ROUNDS = 512, 64, 2, 5
"""Contexts of our round, of the plain loop's, and those that also run on the CPU; and rounds."""

_DEVICE, _PRODUCT = "cuda", 8192
"""Where all runs, and the width of the product that stands for the card's peak."""

_NOTES = f"""\
Tokens a second are medians of rounds in which both take turns; the plain loop runs one context at a time, on an eighth
of the contexts. The share is model FLOPs over the rate of a product of bfloat16 matrices of {_PRODUCT} × {_PRODUCT}
here. Memory is the most that torch held, the model included. The largest difference is that of a token's loss from the
same weights' in float32 on the CPU.
"""


def there() -> bool:
    """Return whether a CUDA device works here."""
    import torch

    return torch.cuda.is_available()


def section(command: str, quick: bool, say: Callable[[str], None]) -> str:
    """The section as Markdown."""
    import torch

    peak = _product_rate()
    header = ["Model", "Dtype", "Tokens/s", "Share of peak", "Plain loop, tokens/s"]
    header += ["trajstore is faster ×", "Peak memory", "Largest difference"]
    lines = []
    for shape in SHAPES[:1] if quick else SHAPES:
        for dtype in DTYPES:
            say(f"GPU: {shape.name} in {dtype}")
            lines.append([shape.name, dtype, *_measured(shape, dtype, peak)])
            torch.cuda.empty_cache()
    facts = [
        ("Device", torch.cuda.get_device_name()),
        ("Libraries", f"torch {torch.__version__}, CUDA {torch.version.cuda}"),
        ("Product of bfloat16 matrices", f"{peak / 1e12:,.0f} TFLOP/s"),
        ("Command", f"`{command}`"),
        ("Data", f"{_CONTEXTS} contexts of {LENGTH} random tokens, {VOCABULARY} rows of the head"),
    ]
    return f"## {page.GPU}\n\n{page.listed(facts)}\n{page.markdown([header, *lines])}\n{_NOTES}"


def _measured(shape: ModelShape, dtype: str, peak: float) -> list[str]:
    """The cells of a row behind the model and the dtype."""
    import torch

    model = shape.model()
    compared = contexts(_COMPARED)
    wanted = np.concatenate(ours(model)(compared))
    model = model.to(_DEVICE, getattr(torch, dtype))
    difference = np.abs(np.concatenate(ours(model)(compared)) - wanted).max()
    ids, fewer = contexts(_CONTEXTS), contexts(_PLAIN_CONTEXTS)
    one, other = ours(model), plain(model)
    _timed(one, ids)
    _timed(other, fewer)
    torch.cuda.reset_peak_memory_stats()
    times = [(_timed(one, ids), _timed(other, fewer)) for _ in range(_ROUNDS)]
    # one more: the pass starts the count of the peak anew where it finds its budget
    _timed(one, ids)
    memory = torch.cuda.max_memory_allocated()
    speed = ids.size / statistics.median(mine for mine, _ in times)
    plain_speed = fewer.size / statistics.median(theirs for _, theirs in times)
    return [
        f"{speed:,.0f}",
        f"{speed * _flops(model, shape) / peak:.0%}",
        f"{plain_speed:,.0f}",
        f"{speed / plain_speed:.3g}",
        f"{memory / 1e9:.2f} GB",
        f"{difference:.1e}",
    ]


def _timed(score: Score, ids: np.ndarray) -> float:
    """Seconds of a run; its losses come back to the CPU, so that nothing is left running."""
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    score(ids)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _flops(model: PreTrainedModel, shape: ModelShape) -> float:
    """Of a token's forward pass, the mean over a context."""
    matrices = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    return float(2 * matrices + 4 * shape.layers * shape.width * LENGTH / 2)


def _product_rate() -> float:
    """FLOP/s of a large bfloat16 product on random numbers."""
    import torch

    a, b = (torch.randn(_PRODUCT, _PRODUCT, device=_DEVICE, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(5):
            torch.mm(a, b)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 5)
    return 2 * _PRODUCT**3 / statistics.median(times)
