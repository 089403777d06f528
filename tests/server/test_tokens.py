"""The tokens pane: what its endpoints give is what the store has, counted anew."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, NewStore, new_dataset, plant
from tests.server.conftest import plant_prompts
from trajstore.server.app import create_app
from trajstore.server.cache import ByteCache
from trajstore.server.endpoints import Service
from trajstore.store.store import Store

HERE = "datasets=d&context=2"
N = PLANTED_LENGTHS[2] - 1
FIRST = sum(PLANTED_LENGTHS[:2]) - 2
"""Row of the context's first loss in a slice."""


def arrow(client: TestClient, path: str) -> pl.DataFrame:
    answer = client.get(f"/api/{path}")
    assert answer.status_code == 200, answer.text
    return pl.read_ipc_stream(answer.content)


@pytest.fixture
def losses(served_path: Path) -> Iterator[dict[tuple[str, int], np.ndarray]]:
    """The context's losses by SQL."""
    with Store(served_path) as store:
        rows = store.sql(
            "SELECT model, step, list(loss ORDER BY position) FROM losses "
            "WHERE dataset = 'd' AND context = 2 GROUP BY ALL"
        ).fetchall()
        yield {(model, step): np.array(values, dtype=np.float32) for model, step, values in rows}


def test_losses_are_the_stores(client: TestClient, losses: dict[tuple[str, int], np.ndarray]) -> None:
    frame = arrow(client, f"tokens.arrow?{HERE}&models=b,a")
    assert frame["model"].unique(maintain_order=True).to_list() == ["b", "a"]
    assert frame.height == 2 * len(PLANTED_STEPS) * N
    for (model, step), part in frame.group_by("model", "step"):
        assert part["position"].to_list() == list(range(1, N + 1))
        np.testing.assert_array_equal(part["loss"].to_numpy(), losses[str(model), int(str(step))])


def test_steps_differ_from_those_before(
    client: TestClient, losses: dict[tuple[str, int], np.ndarray]
) -> None:
    frame = arrow(client, f"token_differences.arrow?{HERE}&models=a&steps=0,4,64&scale=relative&least=1000")
    assert frame.select("step", "minus_step").unique(maintain_order=True).rows() == [(4, 0), (64, 4)]
    wanted = (losses["a", 64].astype(float) - losses["a", 4]) / 1000
    np.testing.assert_allclose(frame.filter(step=64)["difference"].to_numpy(), wanted, rtol=1e-5)


def test_below_a_threshold_tokens_count_as_equal(
    client: TestClient, losses: dict[tuple[str, int], np.ndarray]
) -> None:
    changes = np.abs(losses["b", 8] - losses["a", 8])
    threshold = float(np.median(changes)) + 1e-4
    frame = arrow(
        client, f"token_differences.arrow?{HERE}&of=models&models=a,b&steps=8&threshold={threshold}"
    )
    assert frame["equal"].to_list() == (changes <= threshold).tolist()
    assert frame["noise"].is_nan().all()


def test_the_same_items_differ_between_prompts(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path / "store") as store:
        plant_prompts(store)
    with TestClient(create_app(tmp_path / "store"), base_url="http://localhost") as client:
        frame = arrow(client, "token_differences.arrow?of=prompts&datasets=bare,shown&context=0")
    rows = frame.select("position", "minus_position", "minus_loss", "loss", "difference").rows()
    assert rows == [(3, 1, 1.0, 9.0, 8.0), (4, 2, 2.0, 12.0, 10.0)]


def test_a_tokens_trajectory_and_those_like_it(
    client: TestClient, served_path: Path, losses: dict[tuple[str, int], np.ndarray]
) -> None:
    frame = arrow(client, f"token.arrow?{HERE}&position=3")
    assert {(m, s): x for m, s, x in frame.rows()} == {key: values[2] for key, values in losses.items()}
    near = arrow(client, f"neighbours.arrow?{HERE}&models=a&position=3&steps=all&n=3")
    with Store(served_path) as store:
        matrix = store.matrix("d", "a").values.astype(float)
    distance = np.sqrt(np.square(matrix - matrix[:, [FIRST + 2]]).mean(axis=0))
    distance[FIRST + 2] = np.inf
    np.testing.assert_allclose(near["distance"].to_numpy(), np.sort(distance)[:3], rtol=1e-5)


def test_contexts_are_found_by_text_and_by_change(client: TestClient, served_path: Path) -> None:
    with Store(served_path) as store:
        text = store.dataset("d").frame(["text"])["text"][-1]
        means = store.sql(
            "SELECT context, avg(loss) FILTER (step = 64) - avg(loss) FILTER (step = 0) AS change FROM losses "
            "WHERE dataset = 'd' AND model = 'a' GROUP BY ALL ORDER BY abs(change) DESC"
        ).fetchall()
    found = arrow(client, f"find.arrow?datasets=d&text={text.strip().upper()}")
    assert found.height > 0
    assert all(text.strip() in snippet for snippet in found["snippet"])
    changed = arrow(client, "find.arrow?datasets=d&models=a")
    assert changed["context"].to_list() == [context for context, _ in means]
    np.testing.assert_allclose(changed["score"].to_numpy(), [change for _, change in means], rtol=1e-4)
    of_two = arrow(client, "find.arrow?datasets=d&models=a&contexts=2:4")
    assert of_two["context"].to_list() == [context for context, _ in means if context in (2, 3)]


def test_a_token_knows_its_groups(client: TestClient, served_path: Path) -> None:
    frame = arrow(client, f"token_groups.arrow?{HERE}&groups=stopword,hapax")
    with Store(served_path) as store:
        wanted = store.sql("SELECT position FROM groups.hapax WHERE dataset = 'd' AND context = 2").fetchall()
    inside = frame.filter(pl.col("groups").str.split(", ").list.contains("hapax"))["position"].to_list()
    assert inside == sorted(position for (position,) in wanted)


@pytest.mark.parametrize(
    "path",
    [
        "tokens.json?datasets=d&context=6",
        "tokens.json?datasets=d&context=-1",
        "token.json?datasets=d&context=2&position=0",
        "tokens.json?datasets=d,e&context=0",
        "tokens.json?context=0",
        f"tokens.json?{HERE}&steps=3",
        f"tokens.json?{HERE}&columns=x",
        f"token_differences.json?{HERE}&of=models&models=a",
        f"token_differences.json?{HERE}&least=nan",
    ],
)
def test_what_is_not_there_is_an_error_in_words(client: TestClient, path: str) -> None:
    answer = client.get(f"/api/{path}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]


class TestReplies:
    def test_all_kinds_hold_the_same(self, client: TestClient) -> None:
        path = f"/api/tokens.KIND?{HERE}&models=a&steps=0,1"
        want = pl.read_ipc_stream(client.get(path.replace("KIND", "arrow")).content).cast(
            {"model": pl.String}
        )
        csv = pl.read_csv(client.get(path.replace("KIND", "csv")).content, schema_overrides=want.schema)
        json = pl.DataFrame(client.get(path.replace("KIND", "json")).json(), schema=want.schema)
        parquet = pl.read_parquet(io.BytesIO(client.get(path.replace("KIND", "parquet")).content))
        for frame in (csv, json, parquet.cast({"model": pl.String})):
            assert frame.equals(want)
        assert client.get(path.replace("KIND", "exe")).status_code == 404

    def test_hostile_tokens_are_data(self, new_store: NewStore, tmp_path: Path) -> None:
        hostile = [
            "<script>alert(1)</script>",
            "\u202ereversed",
            "a\0b",
            "\x1b[31mred",
            "x" * 10_000,
            '"\n,=1+1',
            "<0xE2>",
        ]
        with new_store(tmp_path / "store") as store:
            store.add_dataset("d", new_dataset([["start", *hostile]]))
        with TestClient(create_app(tmp_path / "store"), base_url="http://localhost") as client:
            assert arrow(client, "context.arrow?dataset=d&context=0")["token"].to_list()[1:] == hostile
            answer = client.get("/api/context.json?dataset=d&context=0")
            assert [row["token"] for row in answer.json()][1:] == hostile
            assert answer.headers["content-type"] == "application/json"
            assert not {"\0", "\x1b", "\u202e"} & set(answer.text)  # escaped, so that no terminal is steered
            assert client.get("/api/find.json?dataset=d&text=%3Cscript%3E").json()[0]["context"] == 0

    @pytest.fixture
    def changing(self, store: Store) -> Iterator[TestClient]:
        """A client of a store whose losses the test changes by `change`."""
        plant(store, [0, 1])
        with TestClient(create_app(store.path), base_url="http://localhost") as client:
            yield client

    def change(self, store: Store, model: str) -> None:
        losses = np.full(store.dataset("d").n_losses, 2.5, dtype=np.float32)
        store.append(model=model, dataset="d", step=1, losses=losses, replace=True)

    def test_what_is_unchanged_is_not_sent_again(self, store: Store, changing: TestClient) -> None:
        path = f"/api/tokens.arrow?{HERE}&models=a"
        first = changing.get(path)
        again = changing.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        self.change(store, "a")
        fresh = changing.get(path, headers={"if-none-match": first.headers["etag"]})
        assert fresh.status_code == 200
        frame = pl.read_ipc_stream(fresh.content).filter(step=1)
        assert frame["loss"].unique().to_list() == [2.5]

    @pytest.mark.parametrize(
        ("path", "changed"),
        [
            pytest.param(f"/api/tokens.arrow?{HERE}&model=b", "a", id="a parameter is ignored"),
            pytest.param("/api/trajectories.arrow?models=a&datasets=d&minus_model=b", "b", id="subtracted"),
        ],
    )
    def test_another_model_than_the_named_one_changes(
        self, store: Store, changing: TestClient, path: str, changed: str
    ) -> None:
        first = changing.get(path)
        assert first.status_code == 200, first.text
        self.change(store, changed)
        fresh = changing.get(path, headers={"if-none-match": first.headers["etag"]})
        assert fresh.status_code == 200
        assert fresh.content != first.content

    def test_a_copy_of_a_store_has_what_was_sent_of_it(
        self, client: TestClient, served_path: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(served_path, tmp_path / "copy", copy_function=shutil.copyfile)
        path = f"/api/tokens.arrow?{HERE}&models=a"
        tag = client.get(path).headers["etag"]
        with TestClient(create_app(tmp_path / "copy"), base_url="http://localhost") as other:
            other.app.state.service.cache.context = None  # type: ignore[attr-defined]
            assert other.get(path, headers={"if-none-match": tag}).status_code == 304

    def test_a_slice_of_another_digest_is_sent_again(self, store: Store, changing: TestClient) -> None:
        path = "/api/coverage.arrow?models=a"
        tag = changing.get(path).headers["etag"]
        with (store.path / "losses/model=a/dataset=d/step=1/slice.parquet").open("r+b") as file:
            file.write(b"BAD!")
        assert changing.get(path, headers={"if-none-match": tag}).status_code == 200


def test_neighbours_of_a_context_are_there_already(client: TestClient, served_path: Path) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    arrow(client, f"tokens.arrow?{HERE}&models=a")
    service.cache.slice = None  # type: ignore[method-assign, assignment]
    with Store(served_path) as store:
        store.slice_losses = None  # type: ignore[method-assign, assignment]
        values = service.cache.context(store, "a", "d", [0, 64], 3)
    assert values.shape == (2, PLANTED_LENGTHS[3] - 1)
    assert not np.isnan(values).any()


def test_a_cache_holds_no_more_than_it_may() -> None:
    cache = ByteCache(100)
    for number in range(20):
        assert cache.get(number, lambda number=number: np.full(3, number, np.float64))[0] == number
    assert cache.bytes <= 100
    assert cache.peek(19) is not None
    assert cache.peek(0) is None
    assert cache.get("large", lambda: np.zeros(100))[0] == 0
    assert cache.bytes <= 100
