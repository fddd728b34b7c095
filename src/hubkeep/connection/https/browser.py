"""Sign-in with a browser: authorization code with PKCE (RFC 7636), and a page that tells who one is here.

The session opens this page alone: no request of another site can change anything with it. Sources: OpenID Connect Core
1.0, section 3.1; RFC 9700 (security of OAuth).
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from html import escape
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from hubkeep.cloud.provider_keys import ProviderKeys
from hubkeep.errors import BadRequest, HubError, NotFound, Unauthorized
from hubkeep.limits import BROWSER_SESSIONS, PROVIDER_DOCUMENT, PROVIDER_WITHIN, SIGN_IN_WITHIN
from hubkeep.model import LinkInfo, Principal
from hubkeep.ports import Clock, Fetch, FetchFailed
from hubkeep.settings import People as PeopleSettings

from ..authentication import Authentication
from .exchange import Endpoint, Exchange

CALLBACK: Final = "/auth/callback"
PAGE: Final = "/auth"
_SESSION: Final = "__Host-hubkeep-session"
_BEGUN: Final = "__Host-hubkeep-sign-in"
_COOKIE: Final = "Path=/; Secure; HttpOnly; SameSite=Lax"
_FORM: Final = "application/x-www-form-urlencoded"


class _Begun(NamedTuple):
    """A sign-in under way. browser: what its cookie holds. until: monotonic seconds."""

    browser: str
    nonce: str
    verifier: str
    redirect: str
    until: float


class Provider(NamedTuple):
    """fetch: reaches the provider alone."""

    settings: PeopleSettings
    keys: ProviderKeys
    fetch: Fetch


class BrowserSurface:
    """provider: None where nobody signs in. dialled: the hub's name and port as the client knows them. told_of: what
    ``GET /api/self`` tells.
    """

    def __init__(
        self,
        provider: Provider | None,
        authentication: Authentication,
        told_of: Callable[[Principal], Mapping[str, Any]],
        dialled: Callable[[web.BaseRequest], str],
        clock: Clock,
    ) -> None:
        self._provider, self._authentication, self._clock = provider, authentication, clock
        self._told_of, self._dialled = told_of, dialled
        self._begun: OrderedDict[str, _Begun] = OrderedDict()  # by state
        self._sessions: OrderedDict[bytes, Principal] = OrderedDict()  # by the cookie's digest

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("people/page", self.page, "none", dated=False),
            Endpoint("people/login", self.login, "none", dated=False),
            Endpoint("people/callback", self.callback, "none", dated=False),
            Endpoint("people/logout", self.logout, "none", dated=False),
        )

    async def page(self, exchange: Exchange) -> web.StreamResponse:
        """GET /auth"""
        principal = self._signed_in(exchange)
        return _html(_WELCOME if principal is None else _page_of(self._told_of(principal)))

    async def login(self, exchange: Exchange) -> web.StreamResponse:
        """GET /auth/login: to the provider."""
        provider = self._known()
        where = await provider.keys.endpoint("authorization_endpoint")
        if not where:
            raise Unauthorized(cause="provider-away", reason=f"the provider cannot be asked: {provider.keys.failure}")
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        begun = _Begun(
            exchange.request.cookies.get(_BEGUN) or secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
            verifier,
            f"https://{self._dialled(exchange.request)}{CALLBACK}",
            self._clock.monotonic() + SIGN_IN_WITHIN.value,
        )
        self._begun[state] = begun
        if len(self._begun) > BROWSER_SESSIONS.value:
            self._begun.popitem(last=False)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        wanted = {
            "response_type": "code",
            "client_id": provider.settings.client_id,
            "redirect_uri": begun.redirect,
            "scope": " ".join(each for each in provider.settings.scopes if each != "offline_access"),
            "state": state,
            "nonce": begun.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **({"resource": provider.settings.resource} if provider.settings.resource else {}),
        }
        answer = _see(f"{where}{'&' if '?' in where else '?'}{urlencode(wanted)}")
        answer.headers.add("Set-Cookie", f"{_BEGUN}={begun.browser}; Max-Age={SIGN_IN_WITHIN.value}; {_COOKIE}")
        return answer

    async def callback(self, exchange: Exchange) -> web.StreamResponse:
        """GET /auth/callback: back from the provider."""
        provider, asked = self._known(), exchange.query
        begun = self._begun.pop(asked.get("state", ""), None)
        cookie = exchange.request.cookies.get(_BEGUN, "")
        if begun is None or self._clock.monotonic() > begun.until or not _same(cookie, begun.browser):
            raise BadRequest(
                "Begin the sign-in in this browser once more.",
                cause="sign-in-not-begun",
                reason="the answer is to no sign-in that this browser began",
            )
        if "code" not in asked or asked.get("iss", provider.settings.issuer) != provider.settings.issuer:
            told = asked.get("error", "no code, or of another issuer")[:128]
            raise Unauthorized(cause="sign-in-refused", reason=f"the provider lets nobody in: {told!r}")
        tokens = await self._tokens(provider, begun, asked["code"])
        principal = await self._proved(provider, begun, tokens, exchange.link)
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = principal
        if len(self._sessions) > BROWSER_SESSIONS.value:
            self._sessions.popitem(last=False)
        answer = _see(PAGE)
        answer.headers.add("Set-Cookie", f"{_SESSION}={session}; {_COOKIE}")
        answer.headers.add("Set-Cookie", f"{_BEGUN}=; Max-Age=0; {_COOKIE}")
        return answer

    async def logout(self, exchange: Exchange) -> web.StreamResponse:
        """POST /auth/logout: from the hub's own page alone."""
        own = f"https://{self._dialled(exchange.request)}"
        if exchange.request.headers.get("Origin", "") not in {own, own.removesuffix(":443")}:
            raise BadRequest("Sign out on the page of this hub.", reason="a sign-out that another site asked for")
        self._sessions.pop(_digest(exchange.request.cookies.get(_SESSION, "")), None)
        answer = _see(PAGE)
        answer.headers.add("Set-Cookie", f"{_SESSION}=; Max-Age=0; {_COOKIE}")
        return answer

    # -- inside ------------------------------------------------------------------------------------------------------

    def _known(self) -> Provider:
        """Raises NotFound."""
        if self._provider is None or not self._provider.settings.client_id:
            raise NotFound("Nobody signs in here.", reason="people.issuer or people.client_id is not set")
        return self._provider

    def _signed_in(self, exchange: Exchange) -> Principal | None:
        key = _digest(exchange.request.cookies.get(_SESSION, ""))
        principal = self._sessions.get(key)
        if principal is not None and self._authentication.expired(principal):
            del self._sessions[key]
            return None
        return principal

    async def _tokens(self, provider: Provider, begun: _Begun, code: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": begun.redirect,
            "client_id": provider.settings.client_id,
            "code_verifier": begun.verifier,
            **({"resource": provider.settings.resource} if provider.settings.resource else {}),
        }
        try:
            where = await provider.keys.endpoint("token_endpoint")
            content = await provider.fetch(
                where,
                at_most=PROVIDER_DOCUMENT.value,
                within=PROVIDER_WITHIN.value,
                body=urlencode(form).encode(),
                kind=_FORM,
            )
            return msgspec.json.decode(content, type=dict[str, Any])
        except (FetchFailed, msgspec.MsgspecError) as error:
            raise Unauthorized(cause="sign-in-refused", reason=f"the code was not exchanged: {error}") from None
        except HubError as error:  # egress
            raise Unauthorized(cause="provider-away", reason=error.reason) from None

    async def _proved(self, provider: Provider, begun: _Begun, tokens: Mapping[str, Any], link: LinkInfo) -> Principal:
        """Whom both tokens name: the identity token is for this sign-in, the access token for this hub."""
        subject = await self._authentication.signed_in(
            str(tokens.get("id_token", "")), provider.settings.client_id, begun.nonce, link
        )
        principal = await self._authentication.person(
            str(tokens.get("access_token", "")), link, operation="people/callback"
        )
        if principal.person is None or principal.person.subject != subject:
            raise Unauthorized(cause="sign-in-refused", reason="the two tokens of the provider name two people")
        return principal


def _see(where: str) -> web.Response:
    return web.Response(status=303, headers={"Location": where, "Cache-Control": "no-store"})


def _html(body: str) -> web.Response:
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>Hubkeep</title>{body}</html>"
    return web.Response(text=page, content_type="text/html", headers={"Cache-Control": "no-store"})


_WELCOME: Final = "<h1>Hubkeep</h1><p><a href=/auth/login>Sign in</a></p>"


def _page_of(me: Mapping[str, Any]) -> str:
    roles = "".join(
        f"<li>{escape(each['role'])}{' where ' + escape(each['devices']) if each['devices'] else ''}</li>"
        for each in me["roles"]
    )
    actions = "".join(f"<li>{escape(each)}</li>" for each in me["actions"])
    return (
        f"<h1>{escape(me['name'])}</h1><p>{escape(me['subject'] or '')} at {escape(me['issuer'] or '')}</p>"
        f"<h2>Roles</h2><ul>{roles or '<li>none: an administrator gives them</li>'}</ul>"
        f"<h2>What you may</h2><ul>{actions}</ul>"
        "<form method=post action=/auth/logout><button>Sign out</button></form>"
    )


def _digest(cookie: str) -> bytes:
    return sha256(cookie.encode(errors="surrogatepass")).digest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogatepass"), other.encode())
