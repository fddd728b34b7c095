"""A person's sign-in for the commands: the device code flow (RFC 8628), and the file that its tokens are kept in."""

import contextlib
import http.client
import ipaddress
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from .failure import UNREACHABLE, CommandFailure

_FILE: Final = "login.json"
_WITHIN: Final = 20.0  # seconds for an answer of the provider
_AT_MOST: Final = 1_000_000  # bytes of one
_EARLY: Final = 60.0  # seconds before its end that a token is renewed
_DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER: Final = 5  # seconds (RFC 8628 3.5)


class Login(NamedTuple):
    """hub: name, and port if it is not 443. provider: issuer, client_id, resource, scopes. expires: Unix seconds."""

    hub: str
    address: str
    trust_bundle: str
    provider: dict[str, Any]
    access_token: str
    refresh_token: str
    expires: float

    def __repr__(self) -> str:
        return f"Login({self.hub!r})"

    @property
    def host(self) -> str:
        return self.hub.rpartition(":")[0] if self.port else self.hub

    @property
    def port(self) -> int:
        """0: the usual one."""
        _, colon, port = self.hub.rpartition(":")
        return int(port) if colon and port.isdigit() else 0


# -- the file ----------------------------------------------------------------------------------------------------------


def login_file() -> Path:
    """In the user's own configuration, for nobody else to read."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "hubkeep" / _FILE


def stored_login() -> Login | None:
    """None for nobody. Raises CommandFailure: the file cannot be read, or others can."""
    try:
        path = login_file()
    except RuntimeError:  # a user without a home, as services and containers have
        return None
    try:
        with path.open() as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise CommandFailure(f"{path} can be read by others", "hubkeep logout, then hubkeep login")
            return Login(**json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CommandFailure(f"{path} cannot be read: {error}", "hubkeep logout, then hubkeep login") from None


def store_login(login: Login) -> None:
    """Whole or not at all. Raises CommandFailure."""
    path = login_file()
    new = path.with_name(f".{_FILE}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(login._asdict(), file)
            file.flush()
            os.fsync(handle)
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise CommandFailure(f"{path} cannot be written: {error.strerror}") from None


def forget_login() -> bool:
    """Whether there was one."""
    try:
        login_file().unlink()
    except FileNotFoundError:
        return False
    return True


def bearer(login: Login) -> str:
    """The Authorization header of the signed-in person, renewed if it is about to end. Raises CommandFailure."""
    if time.time() < login.expires - _EARLY:
        return f"Bearer {login.access_token}"
    current = stored_login()  # another command may have renewed it meanwhile
    if current is not None and current.hub == login.hub and time.time() < current.expires - _EARLY:
        return f"Bearer {current.access_token}"
    login = current or login
    if not login.refresh_token:
        raise CommandFailure("the sign-in has ended", "hubkeep login")
    provider = login.provider
    form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, **_named(provider)}
    answer = _post(endpoint(provider, "token_endpoint"), form)
    if "access_token" not in answer:
        raise CommandFailure(f"the sign-in has ended: {_told(answer)}", "hubkeep login")
    renewed = signed_in(login, answer)
    store_login(renewed)
    return f"Bearer {renewed.access_token}"


def signed_in(login: Login, answer: Mapping[str, Any]) -> Login:
    """answer: of the token endpoint."""
    return login._replace(
        access_token=str(answer["access_token"]),
        refresh_token=str(answer.get("refresh_token") or login.refresh_token),
        expires=time.time() + float(answer.get("expires_in") or 300),
    )


# -- the provider ------------------------------------------------------------------------------------------------------


class Code(NamedTuple):
    """What the person is shown, and what is asked with meanwhile. expires: monotonic seconds."""

    url: str
    whole_url: str
    user_code: str
    device_code: str
    interval: float
    expires: float


def ask_code(provider: Mapping[str, Any]) -> Code:
    """Raises CommandFailure."""
    form = {**_named(provider), "scope": " ".join(provider["scopes"])}
    answer = _post(endpoint(provider, "device_authorization_endpoint"), form)
    if "device_code" not in answer:
        raise CommandFailure(f"the provider gives no code: {_told(answer)}", "does its client have the device flow?")
    return Code(
        _plain(answer.get("verification_uri")),
        _plain(answer.get("verification_uri_complete")),
        _plain(answer.get("user_code")),
        str(answer["device_code"]),
        float(answer.get("interval") or _SLOWER),
        time.monotonic() + float(answer.get("expires_in") or 300),
    )


def answers(provider: Mapping[str, Any], code: Code) -> Iterator[Mapping[str, Any] | None]:
    """Ask until the person has agreed: None each time that they have not yet. Raises CommandFailure."""
    where, interval = endpoint(provider, "token_endpoint"), code.interval
    form = {"grant_type": _DEVICE_CODE, "device_code": code.device_code, "client_id": str(provider["clientId"])}
    while time.monotonic() < code.expires:
        answer = _post(where, form)
        if "access_token" in answer:
            yield answer
            return
        if answer.get("error") == "slow_down":
            interval += _SLOWER
        elif answer.get("error") != "authorization_pending":
            raise CommandFailure(f"not signed in: {_told(answer)}", "hubkeep login, once more")
        yield None
        time.sleep(interval)
    raise CommandFailure("nobody has entered the code in time", "hubkeep login, once more")


def endpoint(provider: Mapping[str, Any], name: str) -> str:
    """Raises CommandFailure where the provider has none, or one without TLS."""
    issuer = str(provider["issuer"])
    document = _json(urllib.request.Request(_checked(f"{issuer.rstrip('/')}/.well-known/openid-configuration")))  # noqa: S310
    if document.get("issuer") != issuer:
        raise CommandFailure(f"the provider at {issuer} calls itself {_plain(document.get('issuer'))!r}")
    url = document.get(name)
    if not isinstance(url, str):
        raise CommandFailure(f"the provider at {issuer} has no {name}", "this sign-in needs one with the device flow")
    return _checked(url)


def _named(provider: Mapping[str, Any]) -> dict[str, str]:
    resource = {"resource": str(provider["resource"])} if provider.get("resource") else {}
    return {"client_id": str(provider["clientId"]), **resource}


def _checked(url: str) -> str:
    """Plain HTTP for a provider on this machine alone."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or "")):
        return url
    raise CommandFailure(f"{_plain(url)} is no https address")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _post(url: str, form: Mapping[str, str]) -> dict[str, Any]:
    """The provider's answer, a refusal too."""
    return _json(urllib.request.Request(url, data=urlencode(form).encode()))  # noqa: S310  # checked


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What holds a token is sent to the provider's own address and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _json(request: urllib.request.Request) -> dict[str, Any]:
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    opener = urllib.request.build_opener(https, _NoRedirects)
    try:
        try:
            with opener.open(request, timeout=_WITHIN) as answer:
                content = answer.read(_AT_MOST)
        except urllib.error.HTTPError as refused:
            with refused:
                content = refused.read(_AT_MOST)
        value = json.loads(content)
    except (OSError, ValueError, http.client.HTTPException) as error:
        where = urlsplit(request.full_url).netloc
        raise CommandFailure(f"the provider at {where} does not answer: {error}", status=UNREACHABLE) from None
    if not isinstance(value, dict):
        raise CommandFailure("the provider's answer is no JSON object")
    return value


def _told(answer: Mapping[str, Any]) -> str:
    return _plain(answer.get("error_description") or answer.get("error") or "it does not say why")


def _plain(value: object) -> str:
    """Text of the provider for a terminal."""
    return "".join(each for each in str(value or "")[:500] if each.isprintable())
