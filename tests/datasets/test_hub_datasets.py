"""A Hugging Face dataset: the library's own client against a small Hub on this machine."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.datasets.conftest import tokens_of

# A Hugging Face dataset: the library's own client against a small Hub on this machine

COMMIT = "a" * 40
HUB_TEXTS = [f"Document number {n} says that {n} times {n} is {n * n}. " * (n % 5) for n in range(40)]


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's interface as a public dataset with data/train.jsonl needs."""

    protocol_version = "HTTP/1.1"
    file = "\n".join(json.dumps({"text": text, "n": n}) for n, text in enumerate(HUB_TEXTS)).encode()
    api = "/api/datasets/owner/tiny"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, data: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in (self.api, f"{self.api}/revision/main", f"{self.api}/revision/{COMMIT}"):
            facts = {"id": "owner/tiny", "sha": COMMIT, "private": False, "gated": False, "tags": []}
            facts["siblings"] = [{"rfilename": "data/train.jsonl"}]
            self.answer(json.dumps(facts).encode())
        elif path == f"{self.api}/tree/{COMMIT}":
            self.answer(
                json.dumps([{"type": "directory", "path": "data", "oid": "1" * 40, "size": 0}]).encode()
            )
        elif path == f"{self.api}/tree/{COMMIT}/data":
            file = {"type": "file", "path": "data/train.jsonl", "oid": "2" * 40, "size": len(self.file)}
            self.answer(json.dumps([file]).encode())
        elif path == f"/datasets/owner/tiny/resolve/{COMMIT}/data/train.jsonl":
            self.answer_file()
        else:
            known = path.startswith((self.api, "/datasets/owner/tiny/"))
            kind = "RevisionNotFound" if "/revision/" in path else "EntryNotFound"
            self.answer(b'{"error": "not found"}', 404, X_Error_Code=kind if known else "RepoNotFound")

    do_HEAD = do_GET

    def answer_file(self) -> None:
        headers = {"ETag": '"1"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        if not (wanted := self.headers.get("Range")):
            return self.answer(self.file, **headers)
        first, last = wanted.removeprefix("bytes=").split("-")
        part = self.file[int(first) : int(last or len(self.file) - 1) + 1]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(self.file)}"
        return self.answer(part, 206, **headers, Content_Range=place)


ASK_HUB = """
import json, sys
import datasets, huggingface_hub
from trajstore.errors import TrajstoreError
from trajstore.datasets.build import build_dataset

answers = []
for options in json.loads(sys.argv[2]):
    if options.pop("offline", False):  # what HF_HUB_OFFLINE=1 sets
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        new = build_dataset(tokenizer=sys.argv[1], **options)
        rows = new.contexts["document"].to_list()
        answers.append({"ids": [ids.tolist() for ids in new.ids], "documents": rows, "facts": new.source})
    except TrajstoreError as error:
        answers.append({"error": f"{type(error).__name__}: {error}"})
print(json.dumps(answers))
"""


def ask_hub(tokenizer: str, options: list[dict[str, Any]], **environment: str) -> list[dict[str, Any]]:
    """Return what `build_dataset` answers in a process of its own: the client reads its endpoint when imported."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK_HUB, tokenizer, json.dumps(options)],
        env={**own, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_hugging_face_dataset_online_streamed_and_offline(tmp_path: Path, tokenizer_folder: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tiny = {"source": "owner/tiny", "contexts": 12, "length": 20}
    asked: dict[str, dict[str, Any]] = {
        "whole": tiny,
        "again": tiny,
        "pinned": {**tiny, "revision": COMMIT},
        "streamed": {**tiny, "stream": True},
        "streamed again": {**tiny, "stream": True},
        "streamed, other seed": {**tiny, "stream": True, "seed": 1},
        "no column": {**tiny, "column": "body"},
        "no split": {**tiny, "split": "nosuch"},
        "no name": {"source": "owner/none"},
        "no revision": {**tiny, "revision": "v9"},
        "offline": {**tiny, "offline": True},
        "offline, pinned": {**tiny, "revision": COMMIT},
    }
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        answers = ask_hub(
            tokenizer_folder, list(asked.values()), HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "home")
        )
    finally:
        server.shutdown()
        server.server_close()
    said = dict(zip(asked, answers, strict=True))
    whole, streamed = said["whole"], said["streamed"]

    tokens = [tokens_of(text) for text in HUB_TEXTS]
    for answer in (whole, streamed, said["streamed, other seed"]):
        assert len(answer["ids"]) == 12
        for ids in answer["ids"]:  # each a slice of one document, as long as that one allows
            assert any(ids == row[s : s + len(ids)] for row in tokens for s in range(len(row)))
            assert len(ids) == 20 or ids in tokens
    for ids, name in zip(whole["ids"], whole["documents"], strict=True):
        row = tokens[int(name.removeprefix("train#"))]
        assert any(ids == row[s : s + len(ids)] for s in range(len(row)))
    assert said["again"] == whole
    assert said["pinned"]["ids"] == whole["ids"]
    assert said["streamed again"] == streamed
    assert streamed["ids"] not in (whole["ids"], said["streamed, other seed"]["ids"])
    assert whole["facts"] == {
        "source": "owner/tiny",
        "column": "text",
        "config": None,
        "split": "train",
        "stream": False,
        "revision": None,
        "commit": COMMIT,
        "contexts": 12,
        "length": 20,
        "seed": 0,
    }
    assert said["pinned"]["facts"]["revision"] == COMMIT
    assert "owner/tiny has no column 'body'; it has: text, n." in said["no column"]["error"]
    assert 'Unknown split "nosuch"' in said["no split"]["error"]
    assert "no file or folder 'owner/none', and no Hugging Face dataset" in said["no name"]["error"]
    assert "SOURCE is a .txt file" in said["no name"]["error"]
    assert "The revision 'v9' of the Hugging Face dataset 'owner/tiny'" in said["no revision"]["error"]
    assert said["offline"]["ids"] == whole["ids"]  # the copy that was downloaded
    assert said["offline"]["facts"]["commit"] is None
    assert "Without revision" in said["offline, pinned"]["error"]  # any copy would be taken for it
