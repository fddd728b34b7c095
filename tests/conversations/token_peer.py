"""A token service in a thread, a company that issues web tokens, and an address that is asked. All on loopback."""

import asyncio
import contextlib
import http.client
import json
import ssl
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from conversations.https_peer import Answer, read
from hubkeep.server import RunningTokenService, running_token_service
from hubkeep.testing import HubInThread, MovableClock
from hubkeep.token_service.refusal_file import read_refusals
from hubkeep.token_service.settings import load

ISSUER: Final = "https://id.example.net"
AUDIENCE: Final = "hub-tokens"


class TokenServiceInThread:
    """Use as a context. settings: of hubkeep.token_service.settings; the hub is the one given."""

    def __init__(
        self,
        hub: HubInThread,
        data: Path,
        clock: MovableClock | None = None,
        *,
        access: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        settings["hub"] = {
            "connection_string": hub.policy_connection_string("device"),
            "registry_connection_string": hub.policy_connection_string("registryReadWrite"),
            "address": f"{hub.address}:{hub.hub.ports['https']}",
            "trust_bundle": str(hub.trust_bundle),
            **(access or {}),
        }
        self.settings = load(None, data=data, port=0, host_names=("localhost", "127.0.0.1"), **settings)
        self.clock = clock
        self._started: Future[RunningTokenService] = Future()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.running = self._started.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with running_token_service(self.settings, self.clock) as running:
                self._started.set_result(running)
                await self._stop.wait()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    def ask(
        self, authorization: str | list[str] = (), body: Any = None, *, method: str = "POST", path: str = "/token"
    ) -> Answer:
        """authorization: the header, or several."""
        assert self.running.trust_bundle is not None
        context = ssl.create_default_context(cafile=str(self.running.trust_bundle))
        connection = http.client.HTTPSConnection("127.0.0.1", self.running.port, context=context, timeout=20)
        payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.putrequest(method, path)
            for each in [authorization] if isinstance(authorization, str) else authorization:
                connection.putheader("Authorization", each)
            connection.putheader("Content-Length", str(len(payload)))
            connection.endheaders(payload)
            return read(connection.getresponse())

    def refusal(self, answer: Answer) -> Any:
        """What the operator reads of an answer that refused."""
        tracking_id = answer.body["ExceptionMessage"].removeprefix("Tracking ID:").partition("-")[0]
        assert self._loop is not None
        refusals = self.running.service._refusals
        (found,) = asyncio.run_coroutine_threadsafe(refusals.find(tracking_id), self._loop).result(10)
        return found

    def stored_refusals(self) -> str:
        return "".join(map(repr, read_refusals(self.settings.data / "refusals.jsonl", "", 1000)))


def basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{name}:{secret}".encode()).decode()


class Company:
    """An issuer with a key of each kind. ``token`` makes what a device of the company carries."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "RS256": rsa.generate_private_key(65537, 2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }

    def jwks(self, *algorithms: str) -> dict[str, Any]:
        """The public keys, key ids their algorithms."""
        return {"keys": [self.public(each) for each in algorithms or self.keys]}

    def public(self, algorithm: str) -> dict[str, Any]:
        maker = {"R": jwt.algorithms.RSAAlgorithm, "E": jwt.algorithms.ECAlgorithm}.get(algorithm[0])
        maker = jwt.algorithms.OKPAlgorithm if algorithm == "EdDSA" else maker
        assert maker is not None
        made = maker.to_jwk(self.keys[algorithm].public_key(), as_dict=True)
        return {**made, "kid": algorithm, "use": "sig", "alg": algorithm}

    def token(
        self, device: str, now: float, *, algorithm: str = "ES256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """claims: beside or instead of the usual ones; None leaves one out."""
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": device, "exp": int(now) + 600, "iat": int(now)}
        said = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        kid = {"kid": algorithm, **(header or {})}
        return jwt.encode(said, self.keys[algorithm], algorithm=algorithm, headers=kid)


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


class Address:
    """Plain HTTP that answers what it is told. asked: bodies with their headers."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.url = ""


@contextlib.contextmanager
def address() -> Iterator[Address]:
    there = Address()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there.asked.append((dict(self.headers), body))
            self.send_response(there.status)
            for name, value in {**there.headers, "Content-Length": str(len(there.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(there.body)

        do_GET = do_POST = answer  # noqa: N815  # the names that the server calls

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        there.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield there
        finally:
            server.shutdown()
            thread.join(10)
