"""RankMe, α-ReQ, TwoNN and participation ratios of a model are those of its own states in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import tiny
from trajstore.errors import BadMeasures
from trajstore.forward.model_structure import find_attention, find_blocks
from trajstore.measures import Batch, PassFacts, measure
from trajstore.measures.definitions import own
from trajstore.measures.hidden_states.participation_ratio import ParticipationRatio
from trajstore.measures.hidden_states.rankme import RankMe
from trajstore.measures.hidden_states.twonn import dimension, neighbour_ratios

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trajstore.measures import Measure, MeasureDefinition, Stream

CONTEXTS = [np.random.default_rng(n).integers(0, 300, 4 + 5 * (n % 3)) for n in range(50)]


def named(name: str, **parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == name]
    return definition.with_parameters(**parameters)


def states_of(model: PreTrainedModel) -> list[list[np.ndarray]]:
    """Hidden states of each context in float64, layers 0 and 1."""
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    found = []
    for ids in CONTEXTS:
        with torch.no_grad():
            states = double(torch.as_tensor(ids)[None], output_hidden_states=True).hidden_states
        found.append([state[0].numpy() for state in states[:2]])
    return found


def by_layer(rows: list[Measure]) -> dict[int | None, float]:
    return {row.layer: row.value for row in rows}


def fed(stream: Stream, states: np.ndarray) -> list[Measure]:
    """The measures of states (contexts, tokens, width) at layer 0."""
    number, tokens, _ = states.shape
    ids = [np.zeros(tokens, int)] * number
    stream.begin(PassFacts(tiny("gpt-neox"), ids, 1))
    for start in range(0, number, 3):
        chosen = range(start, min(start + 3, number))
        batch = Batch(list(chosen), [ids[i] for i in chosen])
        stream.layer(0, torch.as_tensor(states[chosen], dtype=torch.float32), batch)
    return stream.finish()


@pytest.mark.parametrize("features", ["last", "all"])
@pytest.mark.parametrize("centred", [False, True])
def test_spectra_of_a_model(features: str, centred: bool) -> None:
    model = tiny("gpt-neox")
    definitions = [named("rankme", features=features, centred=centred), named("alpha_req", features=features)]
    measures, left_out = measure(model, CONTEXTS, definitions, batch_tokens=50)
    assert not left_out
    eigen = measure(
        model, CONTEXTS, [named("rankme", features=features, centred=centred, spectrum="eigen")]
    ).measures
    for layer in (0, 1):
        own_states = [states[layer] for states in states_of(model)]
        matrix = np.stack([s[-1] for s in own_states]) if features == "last" else np.concatenate(own_states)
        about = matrix - matrix.mean(0)
        values = np.linalg.svd(about if centred else matrix, compute_uv=False)
        for power, rows in ((1, measures["rankme"]), (2, eigen["rankme"])):
            p = values**power / (values**power).sum()
            assert by_layer(rows)[layer] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
        rank = np.arange(11, 33)
        eigenvalues = np.linalg.svd(about, compute_uv=False)[10:] ** 2
        slope, _ = np.polyfit(np.log(rank), np.log(eigenvalues), 1, w=rank**-0.5)
        assert by_layer(measures["alpha_req"])[layer] == pytest.approx(-slope, rel=1e-4)
    params = measures["rankme"][0].params
    assert params["number"] == (50 if features == "last" else sum(map(len, CONTEXTS)))


@pytest.mark.parametrize("features", ["last", "all"])
def test_rankme_in_closed_forms(features: Any) -> None:
    directions = 5 * np.eye(12)[:, None]
    assert fed(RankMe(features, "singular", False), directions)[0].value == pytest.approx(12, rel=1e-6)
    line = np.outer(np.linspace(-2, 3, 40), np.linspace(1, 2, 12))[:, None]
    assert fed(RankMe(features, "singular", False), line)[0].value == pytest.approx(1, abs=1e-4)
    assert fed(RankMe(features, "singular", False), np.zeros((4, 2, 3))) == []


@pytest.mark.parametrize("true", [1, 2, 5])
def test_twonn_of_a_surface_of_known_dimension(true: int) -> None:
    draw = np.random.default_rng(true)
    inside = draw.uniform(size=(1500, true))
    turn = np.linalg.qr(draw.normal(size=(16, 16)))[0][:true]
    points = torch.as_tensor(inside @ turn, dtype=torch.float64)
    assert dimension(neighbour_ratios(points), 0.1) == pytest.approx(true, rel=0.1)


def test_twonn_by_its_definition() -> None:
    """Pair by pair, with states that are the same, through numpy's least squares."""
    draw = np.random.default_rng(3)
    points = draw.normal(size=(60, 4)).astype(np.float32)
    points[50:] = points[:10]
    different = points[:50].astype(np.float64)
    ratios = []
    for i, point in enumerate(different):
        near = np.sort(np.linalg.norm(np.delete(different, i, 0) - point, axis=1))
        ratios.append(near[1] / near[0])
    ordered = np.sort(ratios)
    share = np.arange(1, 51) / 50
    x, y = np.log(ordered)[:45], -np.log(1 - share[:45])
    exact = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    mine = dimension(neighbour_ratios(torch.from_numpy(points)), 0.1)
    assert mine == pytest.approx(exact, rel=1e-9)


def test_twonn_of_a_model() -> None:
    model = tiny("llama")
    measures, _ = measure(model, CONTEXTS, [named("twonn")])
    last = torch.as_tensor(np.stack([states[1][-1] for states in states_of(model)]))
    assert by_layer(measures["twonn"])[1] == pytest.approx(dimension(neighbour_ratios(last), 0.1), rel=1e-3)
    few = measure(model, CONTEXTS[:5], [named("twonn")])
    assert few.left_out == {"twonn": "twonn takes 20 contexts or more, and there are 5."}


def test_last_tokens_are_held_once_for_all_measures_of_them() -> None:
    model, names = tiny("llama"), ("rankme", "alpha_req", "twonn")
    together, _ = measure(model, CONTEXTS, [named(name) for name in names])
    for name in names:
        alone, _ = measure(model, CONTEXTS, [named(name)])
        assert together[name] == alone[name]
    facts = PassFacts(model, CONTEXTS, 300)
    streams: list[Any] = [named(name).make_stream() for name in ("rankme", "twonn")]
    for stream in streams:
        stream.begin(facts)
        stream.layer(0, torch.ones(1, len(CONTEXTS[0]), 8), Batch([0], [CONTEXTS[0]]))
    assert streams[0]._taken.states[0] is streams[1].states[0]
    # in one piece, since pieces between what the pass frees would keep that from being used again
    memory = {states.untyped_storage().data_ptr() for states in streams[1].states.values()}
    assert len(streams[1].states) == 3
    assert len(memory) == 1


@pytest.mark.parametrize("kind", ["gpt-2", "gpt-neox", "mistral"])
def test_participation_ratio_of_what_heads_write(kind: str) -> None:
    """By the covariance in the residual stream, of each head's part of the input of the output layer."""
    model = tiny(kind)
    rows = measure(model, CONTEXTS, [named("participation_ratio")], batch_tokens=60).measures[
        "participation_ratio"
    ]
    attention = find_attention(find_blocks(model)[1])
    taken: list[np.ndarray] = []
    hook = attention.output.register_forward_pre_hook(lambda _, args: taken.append(args[0][0].numpy()))
    for ids in CONTEXTS:
        with torch.no_grad():
            model(torch.as_tensor(ids)[None])
    hook.remove()
    outputs = np.concatenate(taken).astype(np.float64)
    size = outputs.shape[1] // 4
    weight = attention.output.weight.detach().double().numpy()
    weight = weight if kind == "gpt-2" else weight.T
    for head in range(4):
        part = slice(head * size, (head + 1) * size)
        eigenvalues = np.linalg.eigvalsh(np.cov((outputs[:, part] @ weight[part]).T))
        [row] = [row for row in rows if (row.layer, row.head) == (1, head)]
        assert row.value == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-5)


def test_participation_ratio_in_closed_forms() -> None:
    """Heads that write evenly into three directions, into one, and the same for every token."""
    model = tiny("gpt-2")
    attention = find_attention(find_blocks(model)[0])
    with torch.no_grad():
        attention.output.weight.copy_(torch.eye(32))
    stream = ParticipationRatio()
    ids = [np.zeros(6, int)]
    stream.begin(PassFacts(model, ids, 1))
    outputs = torch.zeros(1, 6, 4, 8)
    for token in range(6):
        outputs[0, token, 0, token // 2] = (-1) ** token
        outputs[0, token, 1, 4] = token
    outputs[0, :, 2] = 2
    stream.head_outputs(0, outputs, Batch([0], ids))
    rows = {row.head: row.value for row in stream.finish()}
    assert rows == {0: pytest.approx(3), 1: pytest.approx(1)}


def test_parameters_that_cannot_be() -> None:
    for name, wrong in (
        ("rankme", {"features": "first"}),
        ("rankme", {"spectrum": "power"}),
        ("alpha_req", {"first": 0}),
        ("twonn", {"discarded": 1.0}),
    ):
        with pytest.raises(BadMeasures):
            named(name, **wrong).make_stream()


def test_a_batch_that_runs_out_of_memory_halfway_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gpt-neox")
    definitions = [named("rankme", features="all", centred=True), named("participation_ratio")]
    whole = measure(model, CONTEXTS[:8], definitions).measures
    real, failed = torch.Tensor.__matmul__, set[int]()

    def short(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        if one.dtype == torch.float64 and one.ndim not in failed:
            failed.add(one.ndim)
            raise torch.OutOfMemoryError
        return real(one, other)

    monkeypatch.setattr(torch.Tensor, "__matmul__", short)
    again = measure(model, CONTEXTS[:8], definitions)
    assert failed == {2, 3}
    assert not again.left_out
    for name, rows in whole.items():
        assert [row.value for row in again.measures[name]] == pytest.approx([row.value for row in rows])


def test_heads_whose_output_does_not_vary_have_no_participation_ratio() -> None:
    same = [np.full(10, 5)] * 4  # of one token, so that values are the same at all positions
    report = measure(tiny("gpt-neox"), same, [named("participation_ratio")])
    assert not report.measures
    assert list(report.left_out) == ["participation_ratio"]
