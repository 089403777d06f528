"""Measuring a model's checkpoints: what is missing and nothing else, and the values that the model itself gives."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import trajstore
from tests.helpers.architectures import tiny
from tests.helpers.killed import before_each_change
from tests.helpers.tiny_models import random_dataset, save_tokenizer
from tests.scoring.measuring.conftest import NAMES, STEPS, WORDS, other_run
from trajstore.cli import app
from trajstore.errors import (
    BadDataset,
    BadMeasures,
    BadOption,
    CheckpointError,
    ModelMismatch,
    NothingChosen,
    NotMeasurable,
    StoreUnusable,
    TokenizerMismatch,
    UnknownStep,
)
from trajstore.measures import measure as measure_model
from trajstore.measures.definitions import find_measures
from trajstore.plugins import PluginError
from trajstore.schema import META_KEY
from trajstore.scoring.measuring import run as measuring
from trajstore.scoring.run import score
from trajstore.store.disk import layout
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def test_values_are_those_of_the_model_on_the_dataset(scored: Store, run: Path) -> None:
    report = trajstore.measure(scored, "run", NAMES, "d", device="cpu")
    assert (report.written, report.skipped, report.failures, report.left_out) == (6, 0, [], [])
    frame = scored.measures("run")
    assert sorted(frame["step"].unique()) == [0, 8]  # those that are scored
    ids = scored.dataset("d").ids()
    for step in (0, 8):
        model = AutoModelForCausalLM.from_pretrained(run / f"step{step}")
        theirs = measure_model(model, ids, find_measures(NAMES)).measures
        for name in NAMES:
            rows = frame.filter(step=step, dataset="d").filter(pl.col("name").str.starts_with(name))
            assert rows.height == len(theirs[name])
            for row, value in zip(rows.iter_rows(named=True), theirs[name], strict=True):
                assert (row["name"], row["layer"], row["context"]) == (value.name, value.layer, value.context)
                assert row["value"] == pytest.approx(value.value, rel=1e-5)
    energies = frame.filter(step=8, name="interaction_energy", layer=2)
    by_context = energies.drop_nulls("context")["value"].to_numpy()
    mean = energies.filter(pl.col("context").is_null())
    assert len(by_context) == 4
    assert mean["value"].item() == pytest.approx(by_context.mean())
    assert mean["stderr"].item() == pytest.approx(by_context.std(ddof=1) / 2)


def test_what_is_there_is_skipped_and_the_rest_is_measured(
    scored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajstore.measure(scored, "run", "rankme", "d", device="cpu", steps="8")
    passes = []
    monkeypatch.setattr(
        measuring,
        "measure_model",
        lambda model, ids, definitions, **how: (
            passes.append([each.name for each in definitions])
            or measure_model(model, ids, definitions, **how)
        ),
    )
    report = trajstore.measure(scored, "run", ["rankme", "kl_bigram"], ["d"], device="cpu", steps="all")
    assert passes == [["rankme", "kl_bigram"]] * 2 + [["kl_bigram"]]
    assert (report.written, report.skipped) == (5, 1)
    report = trajstore.measure(scored, "run", ["rankme", "kl_bigram"], ["d"], device="cpu", steps="all")
    assert (report.written, report.skipped, len(passes)) == (0, 6, 3)
    report = trajstore.measure(scored, "run", "rankme", "d", device="cpu", steps="0", replace=True)
    assert (report.written, report.skipped, len(passes)) == (1, 0, 4)


def test_the_footer_says_of_which_weights_they_are(scored: Store) -> None:
    trajstore.measure(scored, "run", "rankme", "d", device="cpu", steps="8")
    path = scored.path / "measures" / "model=run" / "step=8" / "rankme.d.parquet"
    facts = json.loads(pq.read_metadata(path).metadata[META_KEY.encode()])["provenance"]
    provenance = scored.slice_facts("run", "d", 8).provenance
    assert (facts["weights"], facts["dtype"], facts["revision"]) == (provenance.weights, "float32", "step8")
    assert facts["tokens_sha256"] == scored.dataset("d").tokens_sha256


def test_weights_are_measured_without_a_dataset_and_beside_those_before(scored: Store, run: Path) -> None:
    names = ["weight_norm", "weight_distance"]
    report = trajstore.measure(scored, "run", names, device="cpu", steps="8")
    assert (report.written, report.left_out, report.datasets) == (2, [], ())
    report = trajstore.measure(scored, "run", names, device="cpu", steps="all")
    assert (report.written, report.skipped, report.left_out) == (3, 2, [])  # the first has none before it
    states = [AutoModelForCausalLM.from_pretrained(run / f"step{step}").state_dict() for step in STEPS]
    flat = [np.concatenate([tensor.double().numpy().ravel() for tensor in each.values()]) for each in states]
    rows = scored.measures("run").filter(pl.col("params").str.contains('"matrix": "all"'))
    assert rows["dataset"].null_count() == rows.height
    by = {(row["name"], row["step"]): row for row in rows.iter_rows(named=True)}
    last, before = flat[2] - flat[1], flat[1] - flat[0]
    assert by["weight_norm", 4]["value"] == pytest.approx(np.linalg.norm(flat[1]))
    assert by["weight_distance", 8]["value"] == pytest.approx(np.linalg.norm(last))
    assert by["weight_distance", 4]["value"] == pytest.approx(np.linalg.norm(before))
    cosine = last @ before / np.linalg.norm(last) / np.linalg.norm(before)
    assert by["weight_distance_cosine", 8]["value"] == pytest.approx(cosine)
    assert {json.loads(by["weight_distance", step]["params"])["since"] for step in (4, 8)} == {0, 4}
    assert ("weight_distance", 0) not in by
    assert ("weight_distance_cosine", 4) not in by


def _measure_in(store: Path, _: Path) -> object:
    with Store(store) as opened:
        return trajstore.measure(opened, "run", ["rankme", "kl_bigram"], ["d"], device="cpu", steps="0,8")


def test_killed_it_goes_on(scored: Store, tmp_path: Path) -> None:
    _measure_in(Path(shutil.copytree(scored.path, tmp_path / "whole")), scored.path)
    with Store(tmp_path / "whole") as whole:
        expected = whole.measures("run")
    numbers = set()
    for copy, _ in before_each_change(scored.path, tmp_path, _measure_in, every=3):
        with Store(copy) as opened:
            there = len(list(copy.glob("measures/model=run/*/*.parquet")))
            numbers.add(there)
            report = _measure_in(copy, copy)
            assert (report.written, report.skipped) == (4 - there, there)
            assert opened.measures("run").equals(expected)
    assert len(numbers) > 2


def test_the_probe_of_repeats_is_made_once_and_kept(scored: Store, run: Path) -> None:
    report = trajstore.measure(
        scored, "run", ["prefix_matching", "previous_token"], probe="repeats", device="cpu"
    )
    assert (report.written, report.datasets) == (4, ("probe-repeats",))
    probe = scored.dataset("probe-repeats")
    ids = np.stack(probe.ids())
    assert ids.shape == (64, 100)
    parts = ids.reshape(64, 4, 25)
    assert (parts == parts[:, :1]).all()
    assert all(len(set(context)) == 25 for context in parts[:, 0])
    assert len(np.unique(parts[:, 0], axis=0)) == 64
    assert probe.source["seed"] == 0
    sha256 = probe.tokens_sha256
    trajstore.measure(scored, "run", "duplicate_token", probe="repeats", device="cpu")
    assert scored.dataset_names() == ["d", "probe-repeats"]
    assert scored.dataset("probe-repeats").tokens_sha256 == sha256
    rows = scored.measures("run", "prefix_matching").filter(step=8, layer=1, head=2)
    assert rows.height == 65
    model = AutoModelForCausalLM.from_pretrained(run / "step8", attn_implementation="eager")
    import torch

    with torch.no_grad():
        weights = model(torch.as_tensor(ids[3:4]), output_attentions=True).attentions[1][0, 2].numpy()
    own = [sum(weights[i, j + 1] for j in range(i) if ids[3, j] == ids[3, i]) for i in range(25, 100)]
    assert rows.filter(context=3)["value"].item() == pytest.approx(np.mean(own), rel=1e-4)


def test_another_tokenizer_gets_a_probe_of_its_own(scored: Store, tmp_path: Path) -> None:
    trajstore.measure(scored, "run", "previous_token", probe="repeats", device="cpu", steps="8")
    tiny("gpt-2", vocabulary=64, positions=128).save_pretrained(tmp_path / "other" / "step8")
    save_tokenizer(tmp_path / "other", [f"{word}s" for word in WORDS[:50]])
    report = trajstore.measure(
        scored, str(tmp_path / "other"), "previous_token", probe="repeats", device="cpu"
    )
    (name,) = report.datasets
    assert name.startswith("probe-repeats-")
    assert max(ids.max() for ids in scored.dataset(name).ids()) < 50
    assert scored.measures("other")["dataset"].unique().to_list() == [name]
    facts = scored.model("other")
    assert facts is not None
    assert (facts.family, facts.n_layer) == ("gpt2", 2)


def test_the_natural_probe_is_the_beginnings_of_contexts(scored: Store) -> None:
    sha256 = scored.dataset("d").tokenizer.vocabulary_sha256.removeprefix("sha256:")
    scored.add_dataset("long", random_dataset((120, 30, *[101] * 70), sha256=sha256))
    report = trajstore.measure(
        scored, "run", "previous_token", "long", probe="natural", device="cpu", steps="8"
    )
    assert report.datasets == ("probe-natural-long",)
    probe, own = scored.dataset("probe-natural-long"), scored.dataset("long").ids()
    assert probe.lengths.tolist() == [100] * 64
    for ids, whole in zip(probe.ids(), [own[0], *own[2:65]], strict=True):
        assert np.array_equal(ids, whole[:100])
    assert probe.frame(["text"]).height == 6400
    short = trajstore.measure(scored, "run", "previous_token", "d", probe="natural", device="cpu", steps="8")
    assert scored.dataset(*short.datasets).lengths.tolist() == [12, 5, 9, 20]


def test_errors_say_what_to_do_next(scored: Store, run: Path, tmp_path: Path) -> None:
    def fails(
        error: type[Exception], words: str, name: str = "rankme", model: str = "run", **how: object
    ) -> None:
        with pytest.raises(error, match=words):
            trajstore.measure(scored, model, name, **{"device": "cpu", **how})  # type: ignore[arg-type]

    fails(
        NothingChosen, "rankme must be measured on something: probe='repeats', or datasets=D with one of: d"
    )
    fails(NothingChosen, "The probe natural is of a dataset", probe="natural")
    fails(BadOption, "repeats or natural", probe="other")
    fails(BadOption, "a dataset of its own", probe="repeats", datasets="d")
    fails(PluginError, "no measure 'rankmi'.*Did you mean rankme", name="rankmi", datasets="d")
    fails(
        BadMeasures,
        "the parameter 'offset'; they have: rankme.features",
        datasets="d",
        parameters={"offset": 1},
    )
    fails(UnknownStep, "3", datasets="d", steps="3")
    fails(CheckpointError, "no folder", model=str(tmp_path / "nowhere"), datasets="d")
    fails(ModelMismatch, "another run", model=str(other_run(tmp_path, run)), datasets="d")
    scored.add_dataset("strange", random_dataset())
    fails(TokenizerMismatch, "strange was made with", datasets="strange")
    sha256 = scored.dataset("d").tokenizer.vocabulary_sha256.removeprefix("sha256:")
    scored.add_dataset("large", random_dataset([100] * 200, sha256=sha256))
    fails(BadDataset, "take a probe, repeats or natural", name="previous_token", datasets="large")
    scored.publish_model(ModelFacts("ingested"))
    fails(
        CheckpointError, "does not know where the weights of ingested are. Name the folder", model="ingested"
    )
    assert not (scored.path / "measures").exists() or scored.measures().is_empty()


def test_the_scoring_pass_measures_the_same(scored: Store, run: Path) -> None:
    report = score(scored, str(run), ["d"], device="cpu", steps="4", measures=NAMES)
    assert (report.written, report.unmeasured) == (1, [])
    assert scored.measures("run")["step"].unique().to_list() == [4]  # those that were there got none
    again = trajstore.measure(scored, "run", NAMES, "d", device="cpu")
    assert (again.written, again.skipped) == (6, 3)
    own = scored.measures("run").filter(step=4)
    trajstore.measure(scored, "run", NAMES, "d", device="cpu", steps="4", replace=True)
    alone = scored.measures("run").filter(step=4)
    assert own.drop("value", "stderr").equals(alone.drop("value", "stderr"))
    for column in ("value", "stderr"):
        assert own[column].fill_null(0).to_numpy() == pytest.approx(
            alone[column].fill_null(0).to_numpy(), rel=1e-3, abs=1e-5
        )
    losses = scored.slice_losses("run", "d", 4)
    score(scored, str(run), ["d"], device="cpu", steps="4", name="plain")
    assert np.array_equal(losses, scored.slice_losses("plain", "d", 4))


def test_scoring_takes_no_measure_that_needs_more_than_its_pass(scored: Store, run: Path) -> None:
    for name, advice in (
        ("ablation", "trajstore measure ablation --model M --dataset D"),
        ("weight_norm", "trajstore measure weight_norm --model M$"),
        ("llc", "trajstore measure llc --model M --dataset D"),
    ):
        with pytest.raises(BadMeasures, match=advice):
            score(scored, str(run), ["d"], device="cpu", steps="4", measures=[name])
    assert scored.steps("run", "d") == [0, 8]


def test_scoring_takes_heads_on_their_probe_while_the_model_is_loaded(scored: Store, run: Path) -> None:
    trajstore.measure(scored, "run", "heads", probe="repeats", device="cpu", steps="0,4,8")
    alone = scored.measures("run")
    assert alone["name"].n_unique() == 4
    how: dict[str, Any] = {"device": "cpu", "name": "scored", "measures": ["heads", "rankme"]}
    report = score(scored, str(run), ["d"], **how, parameters={"offset": 0, "rankme.features": "all"})
    assert (report.written, report.unmeasured) == (3, [])
    rows = scored.measures("scored")
    key = ["step", "name", "layer", "head", "context"]
    heads = rows.filter(pl.col("name") != "rankme")
    same = pl.col("name") != "prefix_matching"
    both = heads.filter(same).join(alone.filter(same), on=key, nulls_equal=True, validate="1:1")
    assert both.height == heads.filter(same).height == alone.filter(same).height
    assert both["dataset"].unique().to_list() == ["probe-repeats"]
    assert both["value"].to_numpy() == pytest.approx(both["value_right"].to_numpy(), abs=1e-6)
    (matching,) = heads.filter(~same)["params"].unique().to_list()
    assert json.loads(matching)["offset"] == 0
    assert json.loads(rows.filter(name="rankme")["params"][0])["features"] == "all"
    for step in (0, 8):  # the kernel that gives weights is not that of the losses
        assert np.array_equal(scored.slice_losses("scored", "d", step), scored.slice_losses("run", "d", step))
    # On another dataset nothing is missing of them, and another value is not taken for what is there.
    sha256 = scored.dataset("d").tokenizer.vocabulary_sha256.removeprefix("sha256:")
    scored.add_dataset("e", random_dataset((9, 4), seed=1, sha256=sha256))
    with pytest.raises(BadMeasures, match="is there with offset = 0, and not 1"):
        score(scored, str(run), ["e"], **how, parameters={"offset": 1})
    files = {path: path.stat().st_mtime_ns for path in scored.path.glob("measures/model=scored/*/*probe*")}
    assert score(scored, str(run), ["e"], **how, parameters={"offset": 0}).unmeasured == []
    assert len(files) == 12
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())


def test_heads_are_kept_before_the_slice_so_that_a_job_that_ends_there_lacks_none(
    scored: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "append", full)
    with pytest.raises(StoreUnusable, match="No space"):
        score(scored, str(run), ["d"], device="cpu", steps="4", measures=["previous_token"])
    assert scored.steps("run", "d") == [0, 8]
    assert scored.measures("run", "previous_token")["step"].unique().to_list() == [4]


def test_kinds_of_text_are_the_categories_of_a_dataset(scored: Store) -> None:
    sha256 = scored.dataset("d").tokenizer.vocabulary_sha256.removeprefix("sha256:")
    new = random_dataset([8] * 40, sha256=sha256)
    categories = pl.Series("category", ["a", "b"] * 20)
    scored.add_dataset("kinds", replace(new, contexts=new.contexts.with_columns(categories)))
    with pytest.raises(BadMeasures, match="those of d have none"):
        trajstore.measure(scored, "run", "text_type_probe", "d", device="cpu", steps="8")
    trajstore.measure(scored, "run", "text_type_probe", "kinds", device="cpu", steps="8")
    rows = scored.measures("run", "text_type_probe")
    assert rows["layer"].to_list() == [0, 1, 2]
    assert json.loads(rows["params"][0])["classes"] == 2
    same, others = ({"labels": kinds * 20} for kinds in (["a", "b"], ["b", "a"]))
    again = partial(trajstore.measure, scored, "run", "text_type_probe", "kinds", device="cpu", steps="8")
    again(parameters=same)
    for parameters, name in ((others, "labels"), ({"documents": list(range(40))}, "documents")):
        with pytest.raises(BadMeasures, match=f"is there with {name} = "):
            again(parameters=parameters)


def test_what_cannot_be_measured_ends_the_work_at_once_or_is_said(scored: Store) -> None:
    sha256 = scored.dataset("d").tokenizer.vocabulary_sha256.removeprefix("sha256:")
    new = random_dataset((20, 20), sha256=sha256)
    new.ids[:] = [np.arange(20, dtype=np.int32)] * 2
    scored.add_dataset("once", new)
    with pytest.raises(
        NotMeasurable, match="Nothing can be measured of step 0.*no token of these contexts occurs twice"
    ):
        trajstore.measure(scored, "run", "prefix_matching", "once", device="cpu")
    report = trajstore.measure(scored, "run", ["prefix_matching", "previous_token"], "once", device="cpu")
    assert report.written == 2
    assert [(step, line.partition(":")[0]) for step, line in report.left_out] == [
        (0, "prefix_matching on once"),
        (8, "prefix_matching on once"),
    ]


def test_what_one_dataset_does_not_have_does_not_keep_the_others(scored: Store) -> None:
    sha256 = scored.dataset("d").tokenizer.vocabulary_sha256.removeprefix("sha256:")
    once, twice = (random_dataset((20, 20), sha256=sha256) for _ in range(2))
    once.ids[:] = [np.arange(20, dtype=np.int32)] * 2
    twice.ids[:] = [np.arange(20, dtype=np.int32) // 2] * 2
    scored.add_dataset("once", once)
    scored.add_dataset("twice", twice)
    report = trajstore.measure(scored, "run", "prefix_matching", ["once", "twice"], device="cpu", steps="8")
    assert report.written == 1
    assert [(step, line.partition(":")[0]) for step, line in report.left_out] == [
        (8, "prefix_matching on once")
    ]


def test_a_damaged_checkpoint_does_not_keep_the_others(scored: Store, run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "step4" / "model.safetensors").write_bytes(b"no weights")
    report = trajstore.measure(scored, str(copy), "rankme", "d", device="cpu", steps="all", name="copy")
    assert report.written == 2
    assert [step for step, _ in report.failures] == [4]
    report = trajstore.measure(
        scored, str(copy), ["weight_norm", "weight_distance"], device="cpu", steps="8", name="copy"
    )
    assert (report.written, report.failures) == (1, [])  # its own weights are there
    assert [step for step, _ in report.left_out] == [8, 8]
    assert "step 4" in report.left_out[0][1]
    assert report.left_out[1][1].startswith("weight_distance: ")
    alone = trajstore.measure(scored, str(copy), "weight_distance", device="cpu", steps="8", name="copy")
    assert alone.left_out == report.left_out


def test_a_full_disk_ends_the_work_and_leaves_what_is_finished(
    scored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = layout.publish

    def full(root: Path, path: Path, *rest: Any, **more: Any) -> Any:
        if "step=8" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(root, path, *rest, **more)

    monkeypatch.setattr(layout, "publish", full)
    with pytest.raises(
        StoreUnusable, match="rankme of run at step 8.*No space left.*the same command goes on"
    ):
        trajstore.measure(scored, "run", "rankme", "d", device="cpu")
    monkeypatch.undo()
    assert scored.measures("run")["step"].unique().to_list() == [0]
    report = trajstore.measure(scored, "run", "rankme", "d", device="cpu")
    assert (report.written, report.skipped) == (1, 1)


def test_the_command(scored: Store, run: Path) -> None:
    words = ["-s", str(scored.path), "--device", "cpu"]

    def command(*more: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["measure", *more, *words])
        return result.exit_code, result.stderr

    code, said = command("rankme,kl_bigram", "-m", "r*", "-d", "d")
    assert (code, "run: 4 measures of checkpoints on d written, 0 there already" in said) == (0, True)
    code, said = command(
        "prefix_matching", "-m", "run", "--probe", "repeats", "-p", "offset=0", "--steps", "last"
    )
    assert code == 0
    assert set(scored.measures("run", "prefix_matching")["params"].unique()) == {
        '{"occurrences": "all", "offset": 0}'
    }
    code, said = command("rankme", "-m", "run")
    assert (code, "--probe repeats, or --datasets" in said or "--dataset" in said) == (1, True)
    assert command("rankme")[0] == 2
    assert command("list", "rankme")[0] == 0
    assert command("list", "rankm")[0] == 1
    assert command("rankme", "-m", "run", "-d", "d", "-p", "offset")[0] == 2
