"""The commands' HTTPS client: finds a hub, proves who asks, asks. Works against a hub far away as well."""

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlencode

from hubkeep import __version__
from hubkeep.wire import sas

from .failure import MISUSED, UNREACHABLE, CommandFailure
from .sign_in import Login, bearer, stored_login

API_VERSION: Final = "2021-04-12"
CONNECTION_STRING_VARIABLE: Final = "HUBKEEP_CONNECTION_STRING"
TRUST_BUNDLE_VARIABLE: Final = "HUBKEEP_TRUST_BUNDLE"
_TIMEOUT: Final = 15.0
_DOWNLOAD_BYTES: Final = 256 * 1024
_TOKEN_SECONDS: Final = 3600
_CURES: Final = {
    "DeviceNotFound": "hubkeep device list shows those that exist; ids are case-sensitive",
    "ModuleNotFound": "hubkeep module list ID shows those that exist",
    "DeviceNotOnline": "it must be connected and listen for methods; --connect-timeout waits for it",
    "GatewayTimeout": "--timeout gives it longer",
    "ConfigurationNotFound": "hubkeep configuration list shows those that exist",
    "ConfigurationAlreadyExists": "hubkeep configuration update ID, or another id: what one sets cannot be changed",
    "PolicyNotFound": "hubkeep policy list shows those that exist",
    "JobNotFound": "hubkeep job list shows those that exist",
    "DeviceJobAlreadyExists": "give it another id; hubkeep job show JOB tells of that one",
    "DeviceAlreadyExists": "hubkeep device show ID, or hubkeep device update ID",
    "PreconditionFailed": "somebody else changed it meanwhile: try again",
}
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where a hub on all addresses is reached from here


class HubPlace(NamedTuple):
    """Where a hub is. login: who signed in to it, in place of the connection string.

    address: what is dialled. trust_bundle: None for the system's. data: None when far away."""

    connection_string: str
    host: str
    address: str
    ports: dict[str, int]
    trust_bundle: Path | None
    events_connection_string: str = ""
    provisioning_connection_string: str = ""
    data: Path | None = None
    login: Login | None = None

    def port(self, kind: str) -> int:
        """Raises CommandFailure when that listener is not there."""
        defaults = {"https": 443, "mqtt": 8883, "amqp": 5671}
        port = self.ports.get(kind) if self.ports else defaults[kind]
        if port is None:
            raise CommandFailure(f"the hub has no {kind} listener", "its first lines say why: hubkeep dev")
        return port


def find_hub(data: Path, connection_string: str | None) -> HubPlace:
    """By connection string (option or environment), else by the data directory's ``admin`` file, else where somebody
    signed in. Who signed in to the very hub that the file tells of asks as that person.

    Raises CommandFailure.
    """
    if text := connection_string or os.environ.get(CONNECTION_STRING_VARIABLE):
        return _from_connection_string(text)
    path = data / "admin"
    try:
        admin = json.loads(path.read_text())
    except FileNotFoundError:
        if (login := stored_login()) is not None:
            return place_of_login(login)
        raise CommandFailure(
            f"no hub was started in {data}",
            f"start one with 'hubkeep dev', or name it: --data DIR, --connection-string, "
            f"${CONNECTION_STRING_VARIABLE}, hubkeep login HUB",
            UNREACHABLE,
        ) from None
    except (OSError, ValueError) as error:
        raise CommandFailure(f"{path} cannot be read: {error}") from None
    address = _ANY.get(admin["address"], admin["address"])
    found = HubPlace(
        admin["connection_string"],
        sas.parse_connection_string(admin["connection_string"]).host,
        address,
        admin["ports"],
        Path(admin["trust_bundle"]),
        admin["events_connection_string"],
        admin["provisioning_connection_string"],
        data,
    )
    login = stored_login()
    is_this_one = login is not None and (login.host, login.port or 443) == (found.host, found.ports.get("https"))
    return found._replace(login=login) if is_this_one else found


def place_of_login(login: Login) -> HubPlace:
    """The hub that somebody signs in to, or has signed in to."""
    ports = {"https": login.port, "mqtt": 8883, "amqp": 5671} if login.port else {}
    bundle = Path(login.trust_bundle) if login.trust_bundle else None
    return HubPlace("", login.host, login.address or login.host, ports, bundle, login=login)


def _from_connection_string(text: str) -> HubPlace:
    try:
        parsed = sas.parse_connection_string(text)
    except ValueError as error:
        raise CommandFailure(f"the connection string cannot be read: {error}") from None
    host, colon, port = parsed.host.rpartition(":")
    ports = {"https": int(port), "mqtt": 8883, "amqp": 5671} if colon and port.isdigit() else {}
    name = host if ports else parsed.host
    bundle = os.environ.get(TRUST_BUNDLE_VARIABLE)
    return HubPlace(text, name, name, ports, Path(bundle) if bundle else None)


class HubClient:
    """One connection to the hub's HTTPS surface. Use as a context; methods raise CommandFailure."""

    def __init__(self, place: HubPlace, timeout: float = _TIMEOUT) -> None:
        self.place = place
        self._connection = _Connection(place, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, **query: object) -> Any:
        return self.request("GET", path, query)

    def get_openly(self, path: str) -> Any:
        """What anybody may ask."""
        return self._ask("GET", path, {}, None, {"Authorization": ""})

    def request(
        self, method: str, path: str, query: dict[str, object] | None = None, body: Any = None, if_match: str = ""
    ) -> Any:
        """The JSON of the answer, None for an empty one."""
        headers = {"If-Match": f'"{if_match}"'} if if_match else {}
        payload = None if body is None else json.dumps(body).encode()
        return self._ask(method, path, query or {}, payload, headers)

    def post_bytes(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        """A body as it is, its properties as headers."""
        self._ask("POST", path, {}, content, {"Content-Type": "application/octet-stream", **headers})

    def put_bytes(self, path: str, content: bytes) -> Any:
        """The JSON of the answer to a body as it is."""
        return self._ask("PUT", path, {}, content, {"Content-Type": "application/octet-stream"})

    def _ask(
        self, method: str, path: str, query: dict[str, object], payload: bytes | None, headers: dict[str, str]
    ) -> Any:
        response = self._send(method, path, query, payload, headers)
        content = response.read()
        if response.status >= 400:
            raise refusal_of(response, content)
        return json.loads(content) if content else None

    def bulk(self, records: Sequence[Any]) -> dict[str, Any]:
        """Carry out records of identities; the answer names those that were refused."""
        return self._in_part("/devices", records)

    def rotate(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """New keys; the answer names the identities that were refused."""
        return self._in_part("/devices/keys/regenerate", wanted)

    def _in_part(self, path: str, body: Any) -> dict[str, Any]:
        """An answer that lists its own errors, even where its status tells of one."""
        response = self._send("POST", path, {}, json.dumps(body).encode(), {})
        content = response.read()
        answer = json.loads(content) if content else {}
        if response.status >= 400 and "errors" not in answer:
            raise refusal_of(response, content)
        return dict(answer)

    def page(self, path: str, body: Any, size: int, continuation: str) -> tuple[list[Any], str]:
        """One page of a query: its rows, and the continuation of the next one, empty on the last."""
        headers = {"x-ms-max-item-count": str(size)}
        if continuation:
            headers["x-ms-continuation"] = continuation
        response = self._send("POST", path, {}, json.dumps(body).encode(), headers)
        content = response.read()
        if response.status >= 400:
            raise refusal_of(response, content)
        return json.loads(content), response.headers.get("x-ms-continuation", "")

    def get_page(self, path: str, size: int, **query: object) -> Any:
        """The first page of a list."""
        return self._ask("GET", path, query, None, {"x-ms-max-item-count": str(size)})

    def download(self, path: str) -> Iterator[bytes]:
        """The bytes of a file as they come."""
        response = self._send("GET", path, {}, None, {})
        if response.status >= 400:
            raise refusal_of(response, response.read())
        try:
            while chunk := response.read(_DOWNLOAD_BYTES):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailure(f"the file did not come whole: {error}", status=UNREACHABLE) from None

    def lines(self, path: str, **query: object) -> Iterator[str]:
        """The lines of an answer that does not end, which has begun; empty lines only tell that it lives."""
        response = self._send("GET", path, query, None, {})
        if response.status >= 400:
            raise refusal_of(response, response.read())
        return _lines_of(response)

    def server_time(self) -> str:
        """The Date header of an answer."""
        response = self._send("GET", "/api/trust-bundle", {}, None, {})
        response.read()
        return response.headers["Date"]

    def _send(
        self, method: str, path: str, query: dict[str, object], payload: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        given = {name: str(value) for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode({'api-version': API_VERSION, **given})}"
        credential = {} if "Authorization" in headers else {"Authorization": credential_of(self.place)}
        headers = {"Content-Type": "application/json", **credential, **headers}
        headers["User-Agent"] = f"hubkeep/{__version__}"  # the posture report tells back ends from these commands by it
        place = self.place
        where = f"{place.host}:{place.port('https')}"
        try:
            # as bytes: http.client itself would write Latin-1
            self._connection.request(method, target, payload, {name: value.encode() for name, value in headers.items()})
            return self._connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise CommandFailure(
                f"the certificate of {where} is not trusted: {error.verify_message}",
                f"name the hub's trust bundle: ${TRUST_BUNDLE_VARIABLE}=.../trust-bundle.pem",
                UNREACHABLE,
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailure(
                f"no hub answers at {where}: {error}", "is it running? 'hubkeep doctor' tells more", UNREACHABLE
            ) from None


def credential_of(place: HubPlace) -> str:
    """The Authorization header of whoever asks. Raises CommandFailure."""
    return bearer(place.login) if place.login is not None else owner_token(place)


def owner_token(place: HubPlace, seconds: int = _TOKEN_SECONDS) -> str:
    """A token of the place's own policy. Raises CommandFailure when the connection string names none."""
    try:
        parsed = sas.parse_connection_string(place.connection_string)
        name = parsed.parts["SharedAccessKeyName"]
        return sas.make(place.host, parsed.key, int(time.time()) + seconds, name)
    except KeyError as error:
        raise CommandFailure(
            f"the connection string has no {error.args[0]}", "commands need the connection string of a policy"
        ) from None
    except ValueError:
        raise CommandFailure("the key of the connection string is not base64") from None


def device_path(device_id: str) -> str:
    """Raises CommandFailure for an empty id: that would be the address of all devices."""
    if not device_id:
        raise CommandFailure("a device id is empty", "hubkeep device list shows those that exist", MISUSED)
    return f"/devices/{quote(device_id, safe='')}"


class _Connection(http.client.HTTPSConnection):
    """Dials the place's address, and checks the certificate for its name."""

    def __init__(self, place: HubPlace, timeout: float) -> None:
        context = ssl.create_default_context(cafile=place.trust_bundle)
        super().__init__(place.host, place.port("https"), context=context, timeout=timeout)
        self._place, self._tls = place, context

    def connect(self) -> None:
        raw = socket.create_connection((self._place.address, self.port), self.timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(raw, server_hostname=self._place.host)


def _lines_of(response: http.client.HTTPResponse) -> Iterator[str]:
    """Raises CommandFailure when they end."""
    try:
        while line := response.readline():
            yield line.decode().rstrip("\n")
    except TimeoutError:
        raise CommandFailure("the hub is silent", status=UNREACHABLE) from None
    except (OSError, http.client.HTTPException) as error:
        raise CommandFailure(f"the connection was lost: {error}", status=UNREACHABLE) from None
    raise CommandFailure("the hub ended the connection", "does it still run? hubkeep doctor", UNREACHABLE)


def refusal_of(response: http.client.HTTPResponse, content: bytes) -> CommandFailure:
    """What a refusing answer tells."""
    try:
        body = json.loads(content)
        if "errorCode" in body:  # of the provisioning service
            name, text, tracking_id = str(body["errorCode"]), body["message"], body["trackingId"]
        elif body["Message"].startswith("{"):  # form B
            told = json.loads(body["Message"])
            name, text = response.headers["iothub-errorcode"], told["message"]
            tracking_id = told["trackingId"].partition("-")[0]
        else:
            name, _, text = body["Message"].removeprefix("ErrorCode:").partition(";")
            tracking_id = body["ExceptionMessage"].partition("Tracking ID:")[2].partition("-")[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        return CommandFailure(f"the hub answered {response.status} {response.reason}", answered=response.status)
    cure = _CURES.get(name) or (f"hubkeep explain {tracking_id}" if tracking_id else "")
    return CommandFailure(f"{text} ({response.status}, {name})", cure, answered=response.status)
