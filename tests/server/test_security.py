"""Attacks on the server: names, sites, tokens, addresses and texts that others choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import ADDRESS
from trajstore.errors import BadOption
from trajstore.server.app import create_app
from trajstore.server.security import POLICY

STORE = "/api/store"
OTHERS = "http://192.0.2.1:8000"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "localhost@evil.example", "10.0.0.7", ""],
)
def test_a_name_that_was_bound_to_this_machine_is_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: the browser asks us under the attacker's name."""
    answer = client.get(STORE, headers={"host": host})
    assert answer.status_code == 403
    assert "models" not in answer.text


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "127.0.0.1:9000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get(STORE, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://localhost:8000", "http://localhost:9000"]
)
def test_a_script_of_another_origin_is_refused(client: TestClient, origin: str) -> None:
    answer = client.get(STORE, headers={"origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert client.options(STORE, headers={"origin": origin}).status_code == 405


def test_the_page_itself_may_ask(client: TestClient) -> None:
    assert client.get(STORE, headers={"origin": ADDRESS, "sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "navigate", "cors"])
def test_another_site_embeds_nothing(client: TestClient, site: str, mode: str) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": "document"}
    assert client.get(STORE, headers=headers).status_code == 403
    assert client.get("/api/models.csv", headers=headers).status_code == 403


def test_a_form_of_another_site_is_refused(client: TestClient) -> None:
    form = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "http://evil.example"}
    assert client.post(STORE, data={"query": "x"}, headers=form).status_code == 403
    # An old browser sends no Sec-Fetch-Site, and a form can send no JSON.
    assert client.post(STORE, data={"query": "x"}).status_code == 415
    assert client.post(STORE, content='{"a": 1}', headers={"content-type": "text/plain"}).status_code == 415


def test_a_link_elsewhere_opens_the_page_and_not_in_a_frame(client: TestClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=link).status_code != 403
    assert client.get("/", headers={**link, "sec-fetch-dest": "iframe"}).status_code == 403


@pytest.mark.parametrize("path", [STORE, "/", "/nowhere", "/api/models.json"])
def test_every_answer_says_what_a_browser_may_do_with_it(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("token", ["", " ", "zwei Worte", "für"])
def test_a_token_that_keeps_nobody_out_or_fits_no_header_is_refused(served_path: Path, token: str) -> None:
    with pytest.raises(BadOption, match="token"):
        create_app(served_path, host="0.0.0.0", token=token)


class TestToken:
    @pytest.fixture
    def guarded(self, served_path: Path) -> TestClient:
        app = create_app(served_path, token="s3cret", host="0.0.0.0")
        return TestClient(app, base_url=OTHERS, follow_redirects=False)

    @pytest.mark.parametrize(
        "path", [STORE, "/", "/static/page.js", f"{STORE}?token=s3cre", f"{STORE}?token=é"]
    )
    def test_nothing_is_given_without_it(self, guarded: TestClient, path: str) -> None:
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert guarded.get(path, headers={"cookie": "trajstore-8000=wrong"}).status_code == 401

    def test_it_is_taken_out_of_the_address(self, guarded: TestClient) -> None:
        answer = guarded.get("/?pane=tokens&token=s3cret")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/?pane=tokens"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert guarded.get(STORE).status_code == 200  # by the cookie

    def test_a_server_on_another_port_has_a_cookie_of_its_own(
        self, guarded: TestClient, served_path: Path
    ) -> None:
        """Browsers send all of a machine's cookies to each of its ports."""
        guarded.get("/?token=s3cret")
        beside = create_app(served_path, token="another", host="0.0.0.0")
        other = TestClient(beside, base_url=OTHERS.replace("8000", "8001"), cookies=guarded.cookies)
        other.get("/?token=another")
        guarded.cookies.update(other.cookies)
        assert guarded.get(STORE).status_code == 200
        assert other.get(STORE).status_code == 200

    def test_it_leads_to_no_other_server(self, guarded: TestClient) -> None:
        assert guarded.get(f"{OTHERS}//evil.example/?token=s3cret").headers["location"] == "/evil.example/"

    def test_a_script_brings_it_in_a_header(self, guarded: TestClient) -> None:
        assert guarded.get(STORE, headers={"authorization": "Bearer s3cret"}).status_code == 200

    def test_a_name_that_is_not_the_machines_is_refused_with_it_too(self, guarded: TestClient) -> None:
        headers = {"authorization": "Bearer s3cret", "host": "evil.example"}
        assert guarded.get(STORE, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static//etc/passwd",
        "/static/%00",
        "/api/models.../etc/passwd",
        "/api/coverage.json/../../catalog.duckdb",
    ],
)
def test_no_path_leads_out_of_the_page(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    assert "import" not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "models=../../etc",
        "models=%00",
        "datasets=..%2F..%2Fd",
        "datasets='; DROP TABLE models; --",
        "models=%F0%9F%92%A9",
        "models=<script>alert(1)</script>",
        "models=" + "a," * 2000,
        "datasets=" + "x" * 30_000,
        "datasets=%ED%A0%80",  # a lone surrogate
    ],
)
def test_names_that_the_store_has_not_are_errors_in_words(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/coverage.json?{query}")
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]
    assert "Traceback" not in answer.text
