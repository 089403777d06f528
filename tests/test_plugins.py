"""Other packages add to trajstore: an example package is installed and used; broken ones are in the way of nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import new_dataset
from trajstore import plugins
from trajstore.cli import app
from trajstore.errors import BadMeasures, BadSource, GroupError
from trajstore.importers.formats import OWN, format_of, names
from trajstore.importers.ingest import ingest
from trajstore.measures import Measure, MeasureDefinition, MeasureInputs
from trajstore.measures.definitions import SETS, available, find_measures
from trajstore.plugins import PluginError
from trajstore.store.groups import named_functions
from trajstore.store.store import Store

EXAMPLE = Path(__file__).parent / "example_plugin"
TEXTS = [["The", " cat", " Sat"], ["on", " the", " Mat", "."]]
LOST = "The measure lost of the package broken_example 0.1"
MODULES = ("trajstore_example", "broken_example")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example package is installed into, by pip as anybody would."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--quiet",
    ]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        [*command, "--target", str(folder), str(EXAMPLE)], check=True, capture_output=True, env=environment
    )
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example package among what can be imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(site))
    return site


def package(folder: Path, name: str, entry_points: str, code: str = "") -> None:
    """A package in a folder as an installer lays it out, with one module of its name."""
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, and one whose things are not what they are called."""
    folder = tmp_path / "broken"
    folder.mkdir()
    code = "import a_module_that_there_is_not\n"
    points = "[trajstore.measures]\nlost = broken_example:lost\n[trajstore.importers]\nlost = broken_example:Lost\n"
    package(folder, "broken_example", points + "[trajstore.groups]\nlost = broken_example.gone:lost\n", code)
    points = "[trajstore.measures]\nodd = odd_example:odd\n[trajstore.importers]\nodd = odd_example:odd\n"
    package(folder, "odd_example", points, "odd = 3\n")
    for name in ("broken_example", "odd_example"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


# Names are there without the package being imported


def test_names_are_read_without_importing_the_package(installed: Path) -> None:
    assert [plugin.name for plugin in plugins.plugins("measures")] == ["loss_spread", "top_one"]
    assert plugins.find("groups", "capitalised").package == "trajstore-example 1.2"
    assert names() == [*OWN, "losslog"]
    assert [each.name for each in named_functions.available()] == ["not_english", "capitalised"]
    assert not [name for name in sys.modules if name.startswith("trajstore_example")]


def test_help_reads_no_metadata() -> None:
    code = (
        "import sys\nsys.argv = ['trajstore', '--help']\nfrom trajstore.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    assert 'trajstore.plugins' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# Measures


def test_the_list_of_measures(installed: Path) -> None:
    code, out, err = run("measure", "list", "--json")
    assert (code, err) == (0, "")
    rows = {row["measure"]: row for row in json.loads(out)}
    assert list(rows)[:2] == ["noise_max", "noise_p99"]
    assert list(rows)[-2:] == ["loss_spread", "top_one"]
    assert rows["prefix_matching"] | {"formula": "", "source": ""} == {
        "measure": "prefix_matching",
        "formula": "",
        "axes": "layer, head, context",
        "unit": "1",
        "cost": "probe",
        "parameters": "offset=1, occurrences=all",
        "score with": "--measures prefix_matching",
        "source": "",
        "package": rows["noise_max"]["package"],
    }
    assert rows["top_one"] == {
        "measure": "top_one",
        "formula": "share of tokens with rank 0",
        "unit": "1",
        "axes": "",
        "cost": "pass",
        "parameters": "",
        "score with": "--measures top_one",
        "source": "",
        "package": "trajstore-example 1.2",
    }
    assert (rows["loss_spread"]["axes"], rows["noise_max"]["unit"]) == ("context", "nats")
    assert rows["noise_p99"]["score with"] == "--repeat-noise K"
    assert rows["noise_p99"]["package"].startswith("trajstore ")


def test_a_measure_gets_what_it_needs_and_nothing_else(installed: Path) -> None:
    losses = [np.array([1.0, 3.0], np.float32), np.array([2.0, 2.0, 5.0], np.float32)]
    rank = [np.array([0, 4], np.int32), np.array([0, 0, 1], np.int32)]
    inputs = MeasureInputs(ids=[np.arange(3), np.arange(4)], losses=losses, rank=rank)
    top_one, spread = find_measures(["top_one", "loss_spread", "top_one"])
    assert top_one.values(inputs) == [Measure("top_one", 0.6)]
    values = spread.values(inputs)
    assert [value.context for value in values] == [0, 1, None]
    assert [value.value for value in values] == pytest.approx([1, 2**0.5, (1 + 2**0.5) / 2])
    seen = []
    MeasureDefinition("seen", "sees", "1", lambda given: seen.append(given) or 1, needs=("ids",)).values(
        inputs
    )
    assert seen == [MeasureInputs(ids=inputs.ids)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "Top-1"}, "cannot be a measure's name"),
        ({"formula": "a\nb"}, "formula of one line"),
        ({"unit": ""}, "formula of one line and a unit"),
        ({"needs": ("gradients",)}, "needs are among model, ids"),
        ({"axes": ("neuron",)}, "axes are among layer, head, context, and not neuron"),
    ],
)
def test_definitions_that_cannot_be(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(BadMeasures, match=reason):
        MeasureDefinition(**{"name": "m", "formula": "f", "unit": "1", **settings})  # type: ignore[arg-type]


def test_values_that_are_not_the_definition_s() -> None:
    by_layer = MeasureDefinition("m", "f", "1", lambda _: [Measure("m", 1.0, layer=2)])
    with pytest.raises(BadMeasures, match="a value has a layer, which is not among its axes"):
        by_layer.values(MeasureInputs())
    with pytest.raises(BadMeasures, match="gave str, not a number or Measure"):
        MeasureDefinition("m", "f", "1", lambda _: ["much"]).values(MeasureInputs())  # type: ignore[list-item]


def test_a_value_that_is_not_defined_is_left_out() -> None:
    values = [Measure("m", float("nan"), layer=0), Measure("m", 1.0, layer=1)]
    assert (
        MeasureDefinition("m", "f", "1", lambda _: values, axes=("layer",)).values(MeasureInputs())
        == values[1:]
    )
    assert MeasureDefinition("m", "f", "1", lambda _: float("nan")).values(MeasureInputs()) == []


def test_one_measure_in_full(installed: Path) -> None:
    code, out, _ = run("measure", "list", "prefix_matching")
    assert code == 0
    facts = dict(
        line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(("score with", "fact"))
    )
    assert list(facts) == [
        "measure",
        "formula",
        "axes",
        "unit",
        "cost",
        "parameters",
        "source",
        "package",
        "meaning",
    ]
    assert facts["parameters"].strip() == "offset=1, occurrences=all"
    code, out, _ = run("measure", "list", "heads", "--json")
    assert [row["measure"] for row in json.loads(out)] == list(SETS["heads"])
    code, _, err = run("measure", "list", "top_won")
    assert code == 1
    assert "Did you mean top_one" in err


def test_broken_measures_are_named_and_the_others_listed(installed: Path, broken: Path) -> None:
    code, out, err = run("measure", "list")
    assert code == 0
    assert "top_one" in out
    assert "lost" not in out
    assert err.splitlines() == [
        f"{LOST} cannot be loaded (ModuleNotFoundError: No module named 'a_module_that_there_is_not').",
        "The measure odd of the package odd_example 0.1 is no MeasureDefinition, but int.",
    ]
    assert find_measures(["top_one"])[0].name == "top_one"
    with pytest.raises(PluginError, match=f"{LOST} cannot be loaded"):
        find_measures(["lost"])


def test_a_name_that_two_packages_have(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "[trajstore.measures]\ntop_one = second_example:m\nnoise_max = second_example:noise_max\n"
    code = (
        "from trajstore.measures import MeasureDefinition\n"
        "noise_max = MeasureDefinition('noise_max', 'f', '1', lambda inputs: 0.0)\n"
    )
    package(tmp_path, "second_example", points, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="second_example 0.1, trajstore-example 1.2. Uninstall all but one"):
        plugins.find("measures", "top_one")
    with pytest.raises(PluginError, match="no measure 'top_two'.* Did you mean top_one"):
        plugins.find("measures", "top_two")
    _, problems = available()
    assert "noise_max of the package second_example 0.1 has the name of one of trajstore's own" in str(
        problems[0]
    )


# Groups


def test_a_group_by_a_package_s_function(installed: Path, store: Store) -> None:
    store.add_dataset("d", new_dataset(TEXTS))
    code, _, err = run("group", "add", "names", "--python", "capitalised", "-s", str(store.path))
    assert (code, err.splitlines()[-1]) == (0, "Group names: 3 in d.")
    group = store.groups.show("names")
    assert group.code is not None
    assert group.code.function == "trajstore_example.groups:capitalised"
    assert group.description.startswith("Tokens that begin with a capital letter")
    with Store(store.path) as again:
        rows = again.sql("SELECT context, position FROM groups.names ORDER BY ALL").fetchall()
    assert rows == [(0, 0), (0, 2), (1, 2)]


def test_functions_that_can_be_used_are_listed(installed: Path, broken: Path) -> None:
    code, out, err = run("group", "list", "--available", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["capitalised"] == {
        "name": "capitalised",
        "function": "trajstore_example.groups:capitalised",
        "description": "Tokens that begin with a capital letter, a space before it left aside.",
        "package": "trajstore-example 1.2",
    }
    assert rows["not_english"]["function"] == "trajstore.groupfunctions.languages:not_english"
    assert "Tokens that go on in the language" in rows["not_english"]["description"]
    assert err.startswith("lost of the package broken_example 0.1 cannot be used: There is no module")


def test_a_broken_group_function(broken: Path, store: Store) -> None:
    with pytest.raises(GroupError, match="There is no module 'broken_example.gone'"):
        store.groups.add_python("x", "lost")


# Importers


def losslog(path: Path, steps: int = 2) -> Path:
    lines = []
    for step in range(steps):
        lines.append(f"step {10 * step}")
        for context, texts in enumerate(TEXTS):
            lines += [f"{context} {n} {step}.{context}{n}" for n in range(1, len(texts))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("options", [(), ("--format", "losslog")])
def test_a_package_s_format_is_ingested(
    options: tuple[str, ...], installed: Path, store: Store, tmp_path: Path
) -> None:
    store.add_dataset("d", new_dataset(TEXTS))
    path = losslog(tmp_path / "run.losslog")
    code, _, err = run("ingest", str(path), "-m", "m", "-d", "d", *options, "-s", str(store.path))
    assert code == 0, err
    assert "2 slices written" in err
    assert "10 rows read" in err
    expected = np.array([1.01, 1.02, 1.11, 1.12, 1.13], np.float32)
    assert np.array_equal(store.slice_losses("m", "d", 10), expected)


def test_rows_of_a_package_s_format_are_checked_and_converted(
    installed: Path, store: Store, tmp_path: Path
) -> None:
    store.add_dataset("d", new_dataset(TEXTS))
    path = tmp_path / "run.losslog"
    path.write_text("step 1\n0 1 1\n0 2 x\n1 1 1\n1 2 1\n1 3 1\n")
    report = ingest(store, path, dataset="d", model="m")
    assert "row 2 of" in report.failures[0].reason
    assert "NaN or no number" in report.failures[0].reason
    path.write_text("step 1\n0 1 1\n0 2 2\n1 1 1\n1 2 1\n1 3 1\n")
    ingest(store, path, dataset="d", model="m", unit="bits")
    assert store.slice_losses("m", "d", 1)[1] == np.float32(2 * np.log(2))
    path.write_text("step 2\n0 1\n")
    report = ingest(store, path, dataset="d", model="m")
    assert not report.written
    assert "line 2 is not context, position, loss" in report.failures[0].reason
    assert str(path) in report.failures[0].what


def test_formats_are_one_list(installed: Path, broken: Path, tmp_path: Path) -> None:
    path = losslog(tmp_path / "run.LossLog")
    assert format_of(path).name == "losslog"  # a broken package's is passed over
    plain = tmp_path / "a.csv"
    plain.write_text("step\n")
    assert format_of(plain) is OWN["csv"]
    other = tmp_path / "a.dat"
    other.write_text("step\n")
    with pytest.raises(BadSource, match="Cannot tell .* format='parquet.*losslog.lost.odd") as caught:
        format_of(other)
    assert "The importer lost of the package broken_example 0.1 cannot be loaded" in str(caught.value)
    assert "The importer odd of the package odd_example 0.1 is no Importer" in str(caught.value)
    with pytest.raises(PluginError, match="importer lost .* cannot be loaded"):
        format_of(other, "lost")


def test_the_formats_that_there_are_stand_in_the_message(
    installed: Path, store: Store, tmp_path: Path
) -> None:
    store.add_dataset("d", new_dataset(TEXTS))
    path = losslog(tmp_path / "run.losslog")
    code, _, err = run("ingest", str(path), "--format", "nonesuch", "-d", "d", "-s", str(store.path))
    assert code == 1
    assert "there is auto, parquet, csv, jsonl, arrow, npy, npz, devinterp, losslog" in err


def test_in_a_process_of_its_own(site: Path) -> None:
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "trajstore", "measure", "list"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert "trajstore-example 1.2" in done.stdout
