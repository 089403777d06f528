"""Every column of a view or macro is explained by the comments in the catalog, which say what can be asked."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from trajstore import sql_headers, sqlfiles
from trajstore.cli import app
from trajstore.errors import UnknownName
from trajstore.store.files import group_tables
from trajstore.store.queries import schema_reference
from trajstore.store.queries.schema_reference import ColumnFacts
from trajstore.store.store import Store

UNITS = {"", "nats", "tokens", "bytes", "nats²"}


def test_every_relation_is_there_with_its_columns(store: Store) -> None:
    found = {each.name: each for each in schema_reference.relations(store)}
    in_catalog = store.sql(
        "SELECT CASE table_schema WHEN 'main' THEN '' ELSE table_schema || '.' END || table_name, "
        "list(column_name ORDER BY ordinal_position) FROM information_schema.columns GROUP BY ALL"
    )
    for name, columns in in_catalog.fetchall():
        assert [column.name for column in found[name].columns] == columns
    assert {name for name, each in found.items() if each.kind == "group"} == {
        f"groups.{file.name}" for file in sqlfiles.load("groups")
    }
    assert {name for name, each in found.items() if each.kind == "macro"} == {
        file.name for file in sqlfiles.load("macros")
    }
    assert {name for name, each in found.items() if each.kind == "table"} == {"migrations", "definitions"}


def test_everything_is_explained(store: Store) -> None:
    for each in schema_reference.relations(store):
        assert len(each.description) > 20, each.name
        for column in each.columns:
            assert column.meaning, f"{each.name}.{column.name} has no comment"
            assert column.unit in UNITS, f"{each.name}.{column.name} [{column.unit}]"
        for parameter in each.parameters:
            assert parameter.meaning, f"{each.name}: ${parameter.name} is not documented"


@pytest.mark.parametrize("file", sqlfiles.load("macros"), ids=lambda file: file.name)
def test_headers_of_macros_are_what_they_take_and_give(store: Store, file: sqlfiles.SqlFile) -> None:
    header = sql_headers.parse(file.description)
    (parameters,) = store.sql(
        f"SELECT parameters FROM duckdb_functions() WHERE function_name = '{file.name}'"
    ).fetchall()[0]
    assert [each.name for each in header.parameters] == parameters
    if not header.columns:
        assert not re.search(r"\bAS\s+TABLE\b", file.body, re.IGNORECASE), "a table macro names its columns"
        return
    # For kept_sites, which reads a table of that name.
    group_tables.publish_empty_table(store.path, "every_token")
    call = ", ".join("'every_token'" if each.kind == "group" else "NULL" for each in header.parameters)
    assert store.sql(f"FROM {file.name}({call})").columns == [each.name for each in header.columns]


def test_a_column_means_the_same_wherever_it_stands(store: Store) -> None:
    found = {each.name: {c.name: c for c in each.columns} for each in schema_reference.relations(store)}
    assert found["losses"]["loss"] == found["raw_losses"]["loss"]
    assert found["losses"]["loss"] == ColumnFacts(
        "loss", "FLOAT", "nats", "−log p(token given earlier tokens), float32"
    )
    assert "predicted" in found["losses"]["position"].meaning
    assert "predicted" not in found["tokens"]["position"].meaning, "unless it says otherwise itself"
    assert found["groups.digits"]["position"].meaning == found["tokens"]["position"].meaning
    assert found["trajectory"]["mean"] == ColumnFacts("mean", "", "nats", "mean loss")


def test_ones_own_are_there_too(planted: Store) -> None:
    planted.groups.add("mine", "-- What is mine.\nSELECT dataset, context, position FROM tokens")
    mine = schema_reference.relation(planted, "mine")
    assert (mine.name, mine.kind, mine.description) == ("groups.mine", "group", "What is mine.")
    assert mine == schema_reference.relation(planted, "groups.mine")
    with pytest.raises(UnknownName, match="no table, view or macro 'losess' .* Did you mean losses"):
        schema_reference.relation(planted, "losess")


def test_the_command(store: Store) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["schema", *words, "-s", str(store.path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    lines = run().splitlines()
    assert lines[0].split() == ["name", "kind", "columns", "description"]
    assert any(line.startswith("trajectory(group_name, align)  ") for line in lines)
    lines = run("losses").splitlines()
    assert lines[0].startswith("losses: The long format")
    assert lines[-1].split()[:3] == ["loss", "FLOAT", "nats"]
    assert run("trajectory").splitlines()[3].split()[:5] == ["group_name", "the", "name", "of", "a"]
    (macro,) = json.loads(run("trajectory", "--json"))
    assert macro["call"] == "trajectory(group_name, align)"
    assert [column["name"] for column in macro["columns"]] == ["model", "dataset", "step", "tokens", "mean"]
    assert len(json.loads(run("--json"))) == len(schema_reference.relations(store))
