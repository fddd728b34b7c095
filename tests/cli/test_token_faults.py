"""What ``hubkeep token inspect`` says of tokens that clients make wrongly."""

import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from urllib.parse import quote

import pytest

from cli.processes import HubProcess, hub_process
from hubkeep.cli.token_faults import signature_fault
from hubkeep.wire import sas

KEY = b"k" * 32
SR = "hub.test%2Fdevices%2Fpress"
SE = "2000000000"


def token(signed: str, key: bytes = KEY, *, signature: bytes | None = None) -> sas.SasToken:
    made = signature or hmac.digest(key, signed.encode(), sha256)
    return sas.parse(f"SharedAccessSignature sr={SR}&sig={quote(b64encode(made).decode(), safe='')}&se={SE}")


FAULTS = {
    "signed decoded": (token(f"hub.test/devices/press\n{SE}"), "the resource was signed decoded and sent encoded"),
    "other letters": (token("hub.test%2fdevices%2fpress\n" + SE), "another encoding than it was sent in"),
    "no line end": (token(SR + SE), "without the line end"),
    "a line end too many": (token(f"{SR}\n{SE}\n"), "a line end stands behind the expiry"),
    "no expiry": (token(SR), "the resource alone was signed"),
    "CR LF": (token(f"{SR}\r\n{SE}"), "CR LF"),
    "the key's text": (token(f"{SR}\n{SE}", b64encode(KEY)), "the key's base64 text was used as the key"),
    "two at once": (token(SR + SE, b64encode(KEY)), "between them; and the key's base64 text was used"),
    "SHA-1": (token("", signature=b"s" * 20), "20 bytes: HMAC-SHA256 makes 32"),
    "another key": (token(f"{SR}\n{SE}", b"other key"), "matches no key"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_the_signature(name: str) -> None:
    made, said = FAULTS[name]
    fault, signed_by = signature_fault(made, {"press, primary key": KEY})
    assert said in fault
    assert bool(signed_by) == (name not in {"SHA-1", "another key"})


def test_a_good_signature_has_none() -> None:
    assert signature_fault(token(f"{SR}\n{SE}"), {"a": b"x" * 32, "b": KEY}) == ("", "b")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("tokens") / "hub") as process:
        yield process


def test_what_a_hub_knows_besides(hub: HubProcess) -> None:
    host = hub.address
    key = key_in(hub.ok("connection-string", "--device", "first-device"))
    of_device, of_service = (key_in(hub.ok("connection-string", "--policy", each)) for each in ("device", "service"))
    hub.ok("device", "create", "by-print", "--thumbprint", "A" * 64)
    hub.ok("module", "create", "first-device", "vision")
    module = key_in(hub.ok("connection-string", "--device", "first-device", "--module", "vision"))
    soon = int(time.time()) + 600
    wrong = {
        sas.make(f"{host}/devices/first-device", key, soon * 1000): "looks like milliseconds",
        sas.make(f"{host}/devices/first-device", key, 3600): "looks like a number of seconds from now",
        sas.make(f"{host}/devices/First-Device", key, soon): "upper and lower case count",
        sas.make(f"{host}/devices/by-print", key, soon): "authenticates by selfSigned: every token of it is refused",
        sas.make(f"{host}/devices/first-device", of_device, soon): "a key of policy 'device' signed it",
        sas.make(f"{host}/devices/first-device", of_service, soon, "service"): "may not act for devices",
        sas.make(host, of_service, soon): "names neither a policy (skn) nor a device",
    }
    for each, said in wrong.items():
        found = hub.run("token", "inspect", each)
        assert (found.status, said in found.out) == (1, True), found.out
    good = sas.make(f"{host}/devices/first-device/modules/vision", module, soon)
    assert "first-device/vision, primary key" in hub.ok("token", "inspect", f'Authorization: "{good}"')
    forever = sas.make(f"{host}/devices/first-device", key, soon + 20 * 365 * 86_400)
    assert "good for 20 years" in hub.ok("token", "inspect", forever)
    second = hub.ok("token", "make", "--policy", "service", "--key", "secondary")
    assert "secondary key" in hub.ok("token", "inspect", second)
    pasted = hub.run("token", "inspect", hub.ok("connection-string", "--device", "first-device"))
    assert "this is a connection string" in pasted.err


def key_in(connection_string: str) -> bytes:
    return b64decode(connection_string.strip().partition("SharedAccessKey=")[2])
