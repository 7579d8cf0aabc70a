"""A server on the loopback that speaks what huggingface_hub asks of the Hub to download and to upload models.

Written after the requests that the library makes: the API of repositories, ``resolve`` with its headers, uploads by Git
LFS's batch protocol and commits as lines of JSON. Xet, another way to transfer large files, is not spoken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"
"""What a request has to bring to write, and to see what is private."""

LARGE = 1000
"""Bytes above which a file goes the way of large ones."""


@dataclass
class Repository:
    """A repository.

    Attributes:
        commits: The files of each commit, in order, by its id.
        refs: The commit of each branch and tag.
        private: Whether it is hidden from who brings no token.
        gated: Whether its files are withheld from everyone.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Adds files to those of a branch; gives the commit's id."""
        whole = {**self.commits.get(self.refs.get(ref, ""), {}), **files}
        number = hashlib.sha1(f"{len(self.commits)} {sorted(whole)}".encode()).hexdigest()
        self.commits[number] = whole
        self.refs[ref] = number
        return number


@dataclass
class Hub:
    """What the server knows, and what it was asked for.

    Attributes:
        repositories: By ``owner/name``.
        requests: Method and path of each request.
        large: Uploaded large files, by their SHA-256.
        address: Where it listens.
        broken: Whether it answers every request with an internal error.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    broken: bool = False


@contextmanager
def serving() -> Iterator[Hub]:
    """Runs a server until the block is left."""
    hub = Hub()

    class Bound(_Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Refusal(Exception):  # noqa: N818 (an answer, no error of the server)
    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the test's output clean."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if self.hub.broken:
                raise _Refusal(500, "", "Internal error")
            for pattern, method in _ROUTES:
                if found := re.fullmatch(pattern, f"{self.command} {path}"):
                    getattr(self, method)(body, **found.groupdict())
                    return
            raise _Refusal(404, "", f"no such route: {self.command} {path}")
        except _Refusal as refusal:
            content = json.dumps({"error": str(refusal), **refusal.more}).encode()
            self._send(refusal.status, content, {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse_strangers(self) -> None:
        if not self._is_known():
            raise _Refusal(401, "", "Invalid username or password.")

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._is_known()):
            raise _Refusal(401 if not self._is_known() else 404, "RepoNotFound", "Repository not found")
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def _resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        commit, files = self._files(name, revision)
        if self.hub.repositories[name].gated:
            raise _Refusal(403, "GatedRepo", f"Access to model {name} is restricted")
        if file not in files:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        content = files[file]
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def _create(self, body: bytes) -> None:
        self._refuse_strangers()
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.hub.repositories:
            raise _Refusal(409, "", "You already created this model repo", url=f"{self.hub.address}/{name}")
        repository = self.hub.repositories[name] = Repository(private=wanted.get("visibility") == "private")
        repository.commit({".gitattributes": b""})
        self._send_json({"url": f"{self.hub.address}/{name}", "id": name})

    def _validate(self, body: bytes) -> None:
        self._send_json({"errors": [], "warnings": []})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        self._refuse_strangers()
        self._files(name, revision)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] > LARGE else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._send_json({"files": modes})

    def _batch(self, body: bytes, name: str) -> None:
        self._refuse_strangers()
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.address}/large/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, number: str) -> None:
        assert hashlib.sha256(body).hexdigest() == number
        self.hub.large[number] = body
        self._send(200, b"")

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        self._refuse_strangers()
        self._files(name, revision)
        files = {}
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        number = self.hub.repositories[name].commit(files, revision)
        self._send_json({"commitUrl": f"{self.hub.address}/{name}/commit/{number}", "commitOid": number})


_NAME = r"(?P<name>[^/]+/[^/]+)"
_ROUTES = (
    (rf"(GET|HEAD) /{_NAME}/resolve/(?P<revision>[^/]+|refs/pr/\d+)/(?P<file>.+)", "_resolve"),
    (r"POST /api/repos/create", "_create"),
    (r"POST /api/validate-yaml", "_validate"),
    (rf"POST /api/models/{_NAME}/preupload/(?P<revision>.+)", "_preupload"),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", "_batch"),
    (r"PUT /large/(?P<number>\w+)", "_put"),
    (rf"POST /api/models/{_NAME}/commit/(?P<revision>.+)", "_commit"),
)
"""What is answered, and by which method."""
