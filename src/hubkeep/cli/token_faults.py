"""What is wrong with a shared access signature, in plain words: what a client did, and what it should have done."""

import hmac
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from hubkeep.wire import sas

from .client import HubClient, device_path
from .failure import CommandFailure

_MILLISECONDS: Final = 100_000_000_000  # from here on, seconds would be past the year 5000
_YEARS: Final = 365 * 86_400
_LONG: Final = 10 * _YEARS
_PREFIX: Final = "sharedaccesssignature"


def plain(text: str) -> str:
    """The token in what people paste: without a header's name, quotes, or ``Bearer``. Raises CommandFailure."""
    text = text.strip().strip("\"'").strip()
    at = text.lower().find(_PREFIX)
    if at < 0 and "sharedaccesskey=" in text.lower():
        raise CommandFailure(
            "this is a connection string: it holds a key, from which a token is made",
            "hubkeep token make; never send the key itself",
        )
    return text[at:] if at > 0 else text


def faults(client: HubClient, token: sas.SasToken) -> tuple[list[str], list[str], str]:
    """What this hub would say against a token, what else is odd of it, and which key signed it."""
    resource = sas.resources(token.sr)[0]
    problems, notes = list(_of_time(token)), []
    if token.expiry - time.time() > _LONG and token.expiry < _MILLISECONDS:
        notes.append(f"it is good for {int((token.expiry - time.time()) / _YEARS)} years: whoever reads it may use it")
    names = {name.lower() for name in client.get("/api/status")["host_names"]} | {"localhost", "127.0.0.1"}
    if resource.host not in names:
        problems.append(f"{resource.host} is not a name of this hub ({', '.join(sorted(names))})")
    keys, of_owner = _keys(client, token, resource.segments)
    problems += of_owner
    signed_by = ""
    if keys:
        fault, signed_by = signature_fault(token, keys)
        if fault and not token.skn:
            fault = _signed_by_a_policy(client, token) or fault
        problems += [fault] if fault else []
    return problems, notes, signed_by


def signature_fault(token: sas.SasToken, keys: Mapping[str, bytes]) -> tuple[str, str]:
    """What is wrong with the signature (nothing: empty), and the name of the key that made it, as far as known."""
    for name, key in keys.items():
        if sas.is_signed_by(token, key):
            return "", name
    for name, key in keys.items():
        if sas.is_signed_by(token, sas.key_text(key)):
            return "the key's base64 text was used as the key: decode it first", name
        for what, signed in _signed_texts(token):
            if hmac.compare_digest(hmac.digest(key, signed.encode(), sha256), token.signature):
                return what, name
            if hmac.compare_digest(hmac.digest(sas.key_text(key), signed.encode(), sha256), token.signature):
                return f"{what}; and the key's base64 text was used as the key: decode it first", name
    if len(token.signature) != sha256().digest_size:
        return f"its signature has {len(token.signature)} bytes: HMAC-SHA256 makes 32, sent as base64", ""
    return "its signature matches no key of the device or policy that it names", ""


def _signed_texts(token: sas.SasToken) -> Iterator[tuple[str, str]]:
    """Texts that clients sign by mistake."""
    decoded = sas.percent_decoded(token.sr)
    other_case = {quote(decoded, safe=""), quote(decoded, safe="").replace("%2F", "%2f").replace("%3A", "%3a")}
    if decoded != token.sr:
        yield "the resource was signed decoded and sent encoded: sign the text that is sent", f"{decoded}\n{token.se}"
    for text in sorted(other_case - {token.sr}):
        yield (
            "the resource was signed in another encoding than it was sent in",
            f"{text}\n{token.se}",
        )
    yield "resource and expiry were signed without the line end between them", f"{token.sr}{token.se}"
    yield "a line end stands behind the expiry in what was signed", f"{token.sr}\n{token.se}\n"
    yield "the resource alone was signed: the expiry belongs behind a line end", token.sr
    yield "lines of what was signed end in CR LF: one line feed is meant", f"{token.sr}\r\n{token.se}"


def _of_time(token: sas.SasToken) -> Iterator[str]:
    late = time.time() - token.expiry
    if token.expiry >= _MILLISECONDS:
        yield f"se={token.se} looks like milliseconds: it is in seconds since 1970"
    elif token.expiry < 10 * _YEARS:
        yield f"se={token.se} looks like a number of seconds from now: it is the second since 1970 at which it ends"
    elif late > 0:
        yield f"it expired {_span(late)} ago: make a new one; check the clock of who makes it"


def _keys(client: HubClient, token: sas.SasToken, path: tuple[str, ...]) -> tuple[dict[str, bytes], list[str]]:
    """The keys that may have signed it, and what speaks against their owner."""
    words = [each.lower() for each in path]
    if token.skn:
        policies = {each["name"]: each for each in client.get("/api/policies")}
        found = policies.get(token.skn)
        if found is None:
            return {}, [f"there is no policy {token.skn!r}; there are: {', '.join(policies)}"]
        against = []
        if words[:1] == ["devices"] and "DeviceConnect" not in found["rights"]:
            against.append(f"policy {token.skn!r} may not act for devices: it holds {found['rights']}")
        return {f"policy {token.skn}, {which} key": b64decode(found[f"{which}Key"]) for which in _WHICH}, against
    if len(path) < 2 or words[0] != "devices":
        return {}, ["it names neither a policy (skn) nor a device in its resource (sr=HOST/devices/ID)"]
    is_module = len(path) >= 4 and words[2] == "modules"
    name = f"{path[1]}/{path[3]}" if is_module else path[1]
    try:
        device = client.get(device_path(path[1]))
        held = client.get(f"{device_path(path[1])}/modules/{quote(path[3], safe='')}") if is_module else device
    except CommandFailure as failure:
        return {}, [f"{name} is not registered here; upper and lower case count ({failure.cause})"]
    return _keys_of_identity(name, device, held)


_WHICH: Final = ("primary", "secondary")


def _keys_of_identity(name: str, device: Any, held: Any) -> tuple[dict[str, bytes], list[str]]:
    against = []
    if device["status"] != "enabled":
        reason = f": {device['statusReason']}" if device["statusReason"] else ""
        against.append(f"{device['deviceId']} is disabled{reason}")
    kind = held["authentication"]["type"]
    if kind != "sas":
        return {}, [*against, f"{name} authenticates by {kind}: every token of it is refused"]
    pair = held["authentication"]["symmetricKey"]
    keys = {f"{name}, {which} key": b64decode(pair[f"{which}Key"]) for which in _WHICH if pair[f"{which}Key"]}
    return keys, against


def _signed_by_a_policy(client: HubClient, token: sas.SasToken) -> str:
    for each in client.get("/api/policies"):
        if any(sas.is_signed_by(token, b64decode(each[f"{which}Key"])) for which in _WHICH):
            return f"a key of policy {each['name']!r} signed it, which it does not name: add &skn={each['name']}"
    return ""


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
