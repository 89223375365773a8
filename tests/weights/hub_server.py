"""A Hub on this machine: repositories in memory, by the few endpoints that are used."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Files = dict[str, bytes]


class Hub:
    """What the server has and was asked.

    Attributes:
      url: of the server.
      repositories: files by repository and commit.
      names: the commit of a branch or tag, by repository.
      gated: repositories whose terms nobody has accepted.
      requests: "METHOD path" of every request.
      wrong: bytes that are sent for a file in place of its own, by its path.
    """

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, dict[str, Files]] = {}
        self.names: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.wrong: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}

    def commit(self, repository: str, files: Files, name: str = "main") -> str:
        """Adds a commit with these files and moves a branch to it; returns its hash."""
        commits = self.repositories.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits[commit] = files
        self.names.setdefault(repository, {})[name] = commit
        return commit


def etag(file: str, content: bytes) -> str:
    """SHA-256 of what LFS keeps, git's hash of the rest."""
    if file.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers for the Hub in `hub`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        self._resolve()

    def do_PUT(self) -> None:
        self._note()
        self.hub.uploads[self.path.rpartition("/")[2]] = self._body()
        self._answer(200)

    def do_POST(self) -> None:
        self._note()
        body = self._body()
        if "Authorization" not in self.headers:
            self._answer(401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            if repository not in self.hub.repositories:
                self.hub.commit(repository, {})
            self._json({"url": f"{self.hub.url}/{repository}"})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": modes})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                each | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        else:
            match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path)
            assert match, self.path
            files: Files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.uploads[value["oid"]]
            commit = self.hub.commit(match[1], files)
            self._json(
                {"commitUrl": f"{self.hub.url}/{match[1]}/commit/{commit}", "commitOid": commit}
            )

    def _resolve(self) -> None:
        self._note()
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if match is None:
            self._answer(404)
            return
        repository, revision, file = match.groups()
        if repository not in self.hub.repositories:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
            return
        if repository in self.hub.gated:
            self._answer(403, {"X-Error-Code": "GatedRepo"})
            return
        commit = self.hub.names[repository].get(revision, revision)
        if commit not in self.hub.repositories[repository]:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = self.hub.repositories[repository][commit]
        if file not in files:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = self.hub.wrong.get(file, files[file])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(file, files[file])}"'}
        self._answer(200, headers, content)

    def _note(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, content: object) -> None:
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, content: bytes = b""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running() -> Iterator[Hub]:
    """Yields a Hub that answers."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
