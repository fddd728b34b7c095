"""A real OpenID Connect provider (npm's oidc-provider), its keys, and tokens made by hand with them."""

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

FOLDER: Final = Path(__file__).parent / "compatibility" / "oidc"
HUB: Final = "https://iothubs.azure.net"
EVENT_HUBS: Final = "https://eventhubs.azure.net"


class Provider:
    """issuer: its URL, on loopback. key, curve_key: what it signs with, so that tests can sign what it never would."""

    def __init__(self, issuer: str, key: rsa.RSAPrivateKey, curve_key: ec.EllipticCurvePrivateKey) -> None:
        self.issuer, self.key, self.curve_key = issuer, key, curve_key

    def settings(self, **more: Any) -> dict[str, Any]:
        """The section ``people`` of a hub that believes it."""
        return {"issuer": self.issuer, "client_id": "hubkeep", "resource": HUB, **more}

    def token(self, client: str = "dashboards", resource: str = HUB) -> str:
        """An access token of a program, by its own credentials."""
        answer = self.post(
            "/token",
            grant_type="client_credentials",
            client_id=client,
            client_secret=f"{client}-secret-of-a-test",
            resource=resource,
        )
        return str(answer["access_token"])

    def post(self, path: str, **form: str) -> Any:
        data = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.issuer}{path}", data=data, timeout=20) as answer:  # loopback
            return json.load(answer)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Those of a good access token."""
        now = int(time.time())
        good = {"iss": self.issuer, "aud": HUB, "sub": "ann", "iat": now, "exp": now + 600, "client_id": "dashboards"}
        return {name: value for name, value in (good | more).items() if value is not None}

    def signed(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token as the provider's own key would sign it. A claim of None: left out."""
        wanted = {"alg": "RS256", "typ": "at+jwt", "kid": "first"} | (header or {})
        key: Any = self.curve_key if wanted["alg"] == "ES256" else self.key
        return signed_with(
            key, {name: value for name, value in wanted.items() if value is not None}, self.claims(**claims)
        )


def signed_with(key: Any, header: dict[str, Any], claims: dict[str, Any] | str) -> str:
    """Whatever they say: libraries refuse to sign much of what a hub must refuse to believe. claims: or their JSON."""
    head = f"{segment(header)}.{segment(claims)}"
    signature = jwt.algorithms.get_default_algorithms()[header["alg"]].sign(head.encode(), key)
    return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def segment(value: Any) -> str:
    """A part of a token: JSON, or text as it is."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def public_jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), **more}


def private_jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    own = {name: value for name, value in json.loads(kind.to_jwk(key)).items() if name != "key_ops"}
    return {**own, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KeyServer(Provider):
    """What a hub sees of a provider: its document and its keys. Use as a context.

    tokens: what it gives for any code.
    keys: what it serves now; may be changed. is_away: it answers 503. fetches: of the keys.
    """

    def __init__(self) -> None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        super().__init__(f"http://127.0.0.1:{server.server_port}", new_key(), ec.generate_private_key(ec.SECP256R1()))
        self.keys = [public_jwk(self.key, kid="first", use="sig"), public_jwk(self.curve_key, kid="curve", use="sig")]
        self.document: dict[str, Any] = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        self.document |= {"authorization_endpoint": f"{self.issuer}/auth", "token_endpoint": f"{self.issuer}/token"}
        self.tokens: dict[str, str] = {}
        self.is_away, self.fetches, self.others = False, 0, 0
        self._server = server

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler_of(of: KeyServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # as http.server calls it
            found: Any = None
            if self.path == "/keys":
                of.fetches += 1
                found = {"keys": of.keys}
            elif self.path == "/.well-known/openid-configuration":
                found = of.document
            else:
                of.others += 1
            self._answer(found)

        def do_POST(self) -> None:  # as http.server calls it
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(of.tokens if self.path == "/token" else None)

        def _answer(self, found: Any) -> None:
            self.send_response(503 if of.is_away else 200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            return

    return Handler


def new_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@contextlib.contextmanager
def provider_process(*redirects: str) -> Iterator[Provider]:
    """Skips the test where it is not installed."""
    if shutil.which("node") is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("oidc-provider is not installed: python tests/setup.py")
    key = new_key()
    curve_key = ec.generate_private_key(ec.SECP256R1())
    keys = [private_jwk(key, kid="first", use="sig", alg="RS256"), private_jwk(curve_key, kid="curve", use="sig")]
    command = ["node", "--no-deprecation", str(FOLDER / "provider.js"), str(free_port()), ",".join(redirects)]
    environment = {**os.environ, "JWKS": json.dumps({"keys": keys})}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=FOLDER
    )
    with process:
        try:
            assert process.stdout is not None
            issuer = next((line.strip() for line in process.stdout if line.startswith("http://")), "")
            assert issuer, "the provider ended"
            yield Provider(issuer, key, curve_key)
        finally:
            process.kill()
