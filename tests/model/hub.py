"""A model hub on loopback that can misbehave: it drops connections half-way and sends a wrong byte.

Enough of the hub's HTTP API for `huggingface_hub`: files with their hashes, a file's metadata, its bytes by range.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`with Hub("org/name", folder) as hub`; `hub.url` is for HF_ENDPOINT."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.files = name, {file.name: file.read_bytes() for file in folder.iterdir()}
        self.drop_after: dict[str, list[int]] = {}
        """By file: after how many bytes of an answer the connection breaks, one number an answer."""
        self.spoil: Counter[str] = Counter()
        """By file: how many answers have one wrong byte."""
        self.sent: Counter[str] = Counter()
        """Bytes sent, by file."""
        self.ranges: list[tuple[str, int]] = []
        """Answers that went on in the middle of a file."""
        self.token: str | None = None
        """Who does not send it is refused."""
        self.pause_s = 0.0
        """Between two blocks of a file, which are of 1 KiB then: a download that lasts until somebody ends it."""
        self.until_two = False
        """Whether the first answer waits until a second file is asked for."""
        self.alone = 0
        """Answers that waited in vain."""
        self._asked: Counter[str] = Counter()
        self._two = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def entry(self, file: str) -> dict[str, Any]:
        """As the API lists a file: weights by sha256, small files by git's hash."""
        data = self.files[file]
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        listed: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": git}
        if file.endswith(".safetensors"):
            digest = hashlib.sha256(data).hexdigest()
            listed["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 100}
        return listed

    def etag(self, file: str) -> str:
        listed = self.entry(file)
        return str(listed.get("lfs", listed)["oid"])

    def wait_for_another(self, file: str) -> None:
        self._asked[file] += 1
        if len(self._asked) > 1:
            self._two.set()
        if self.until_two and not self._two.wait(20):
            self.alone += 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                api, at = f"/api/models/{hub.name}", f"/{hub.name}/resolve/"
                if hub.token and self.headers.get("authorization") != f"Bearer {hub.token}":
                    self.send_error(401)
                elif path.startswith(f"{api}/tree/"):
                    self.tell([hub.entry(file) for file in hub.files])
                elif path.startswith(api):
                    self.tell({"id": hub.name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in hub.files]})
                elif path.startswith(at) and (file := path.removeprefix(at).partition("/")[2]) in hub.files:
                    self.give(file)
                else:
                    self.send_error(404)

            def tell(self, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def give(self, file: str) -> None:
                data = hub.files[file]
                found = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
                begin = int(found[1]) if found else 0
                self.send_response(206 if found else 200)
                self.send_header("etag", f'"{hub.etag(file)}"')
                self.send_header("x-repo-commit", COMMIT)
                self.send_header("content-length", str(len(data) - begin))
                self.send_header("accept-ranges", "bytes")
                if found:
                    hub.ranges.append((file, begin))
                    self.send_header("content-range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if self.command == "GET":
                    hub.wait_for_another(file)
                    self.stream(file, data[begin:])

            def stream(self, file: str, data: bytes) -> None:
                cut = hub.drop_after.get(file, [])
                limit = cut.pop(0) if cut else len(data)
                if hub.spoil[file] and limit == len(data):
                    hub.spoil[file] -= 1
                    data = data[:-1] + bytes([data[-1] ^ 1])
                size = 1 << 10 if hub.pause_s else 1 << 16
                for start in range(0, min(limit, len(data)), size):
                    block = data[start : min(start + size, limit)]
                    try:
                        self.wfile.write(block)
                    except OSError:
                        return
                    hub.sent[file] += len(block)
                    time.sleep(hub.pause_s)
                if limit < len(data):
                    self.close_connection = True
                    self.connection.close()

        return Handler
