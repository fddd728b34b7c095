"""A container of blobs that does what a test wants: holds requests, fails, redirects. Plain HTTP on loopback."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Container:
    """blobs: by name. asked: requests as ``METHOD blob``, with where they read from if it is not the beginning.

    answers: given in place of what it would say: status, headers.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.blocks: dict[tuple[str, str], bytes] = {}
        self.asked: list[str] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.url = ""
        self._released = threading.Event()
        self._released.set()
        self._held = ""

    def hold(self, asked: str = "") -> None:
        """Requests wait from now on: all, or those whose text begins so."""
        self._held = asked
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        name = unquote(parts.path.removeprefix("/c/"))
        start = int((headers["x-ms-range"] or "bytes=0-")[6:-1])
        asked = f"{method} {name}" + (f" from {start}" if start else "")
        self.asked.append(asked)
        assert not asked.startswith(self._held) or self._released.wait(60)
        if self.answers:
            return *self.answers.pop(0), b""
        if query.get("sig") != ["secret/+="] or headers["x-ms-version"] is None:
            return 403, {"x-ms-error-code": "AuthenticationFailed"}, b""
        if method == "PUT":
            return self._put(name, query, body), {}, b""
        if name not in self.blobs:
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        content = self.blobs[name]
        told = {"ETag": f'"{hash(content)}"', "Last-Modified": "Tue, 24 Nov 2026 20:00:00 GMT"}
        return (206 if start else 200), told, content[start:]

    def _put(self, name: str, query: dict[str, list[str]], body: bytes) -> int:
        kind = query.get("comp", [""])[0]
        if kind == "block":
            self.blocks[name, query["blockid"][0]] = body
        elif kind == "blocklist":
            ids = [each.partition("<")[0] for each in body.decode().split("<Latest>")[1:]]
            self.blobs[name] = b"".join(self.blocks[name, each] for each in ids)
        else:
            self.blobs[name] = body
        return 201


@contextlib.contextmanager
def container_peer() -> Iterator[Container]:
    container = Container()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, headers, content = container.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = _any  # noqa: N815  # as the library calls them

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        container.url = f"http://127.0.0.1:{server.server_port}/c?sv=1&sig=secret%2F%2B%3D&se=2030"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield container
        finally:
            container.release()
            server.shutdown()
