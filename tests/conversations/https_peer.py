"""A small HTTPS client that sends requests as they are written, and raw bytes."""

import contextlib
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from conversations import api_contract
from conversations.mqtt_peer import tls_socket
from hubkeep.testing import HubInThread

VERSION = "api-version=2021-04-12"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: Any  # JSON, or bytes

    @property
    def code(self) -> str:
        """The name in a refusal of form A."""
        message: str = self.body["Message"]
        return message.removeprefix("ErrorCode:").partition(";")[0]


def request(
    hub: HubInThread,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    policy: str = "iothubowner",
    headers: dict[str, str] | None = None,
    certificate: Path | None = None,
) -> Answer:
    """token: empty for none; else one of ``policy``. certificate: of the client, with its key (PEM)."""
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    if certificate is not None:
        context.load_cert_chain(certificate)
    connection = http.client.HTTPSConnection(hub.host_name, hub.hub.ports["https"], context=context, timeout=10)
    given = dict(headers or {})
    if token != "":
        given.setdefault("Authorization", token or hub.token(policy=policy))
    payload = json.dumps(body).encode() if isinstance(body, dict | list) else body
    try:
        connection.request(method, path, payload, given)
        return read(connection.getresponse(), method, path)
    finally:
        connection.close()


Ask = Callable[[str, str, object, str], Answer]


@contextlib.contextmanager
def kept_alive(hub: HubInThread) -> Iterator[Ask]:
    """Requests (method, path, body, token) that share one connection; the hub closing it fails the next one."""
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    connection = http.client.HTTPSConnection(hub.host_name, hub.hub.ports["https"], context=context, timeout=10)
    connection.connect()
    connection.auto_open = 0  # instead of another connection

    def ask(method: str, path: str, body: object, token: str) -> Answer:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, payload, {"Authorization": token} if token else {})
        return read(connection.getresponse(), method, path)

    with contextlib.closing(connection):
        yield ask


def read(response: http.client.HTTPResponse, method: str = "", path: str = "") -> Answer:
    """method, path: of the request, if the answer is to be held against the API's description."""
    content = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    if method:
        api_contract.check(method, path, response.status, headers, content)
    is_json = "application/json" in headers.get("content-type", "")
    return Answer(response.status, headers, json.loads(content) if is_json and content else content)


def raw(hub: HubInThread, data: bytes, within: float = 5) -> bytes:
    """Everything that the hub answers to ``data`` until it closes, or falls silent."""
    with tls_socket(hub, hub.hub.ports["https"]) as sock:
        sock.settimeout(within)
        answer = b""
        try:
            sock.sendall(data)
            while chunk := sock.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
        return answer
