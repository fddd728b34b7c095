"""A browser that reads no script: it follows redirects, keeps cookies, and submits forms."""

import urllib.parse
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple


class Form(NamedTuple):
    action: str
    method: str
    fields: dict[str, str]


class Page(NamedTuple):
    url: str
    text: str
    forms: list[Form]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get"), {}))
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")


class Browser:
    def __init__(self, *handlers: urllib.request.BaseHandler) -> None:
        self.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=None))
        self._stops = _Stops()
        cookies = urllib.request.HTTPCookieProcessor(self.cookies)
        self._opener = urllib.request.build_opener(cookies, self._stops, *handlers)

    def open(self, url: str, form: dict[str, str] | None = None) -> Page:
        data = None if form is None else urllib.parse.urlencode(form).encode()
        with self._opener.open(url, data, timeout=30) as answer:
            text = answer.read().decode()
            found = _Forms()
            found.feed(text)
            return Page(answer.url, text, found.forms)

    def submit(self, page: Page, **fields: str) -> Page:
        """The page's first form."""
        form = page.forms[0]
        return self.open(urllib.parse.urljoin(page.url, form.action), {**form.fields, **fields})

    def add_header(self, name: str, value: str) -> None:
        """With every request from now on."""
        self._opener.addheaders = [each for each in self._opener.addheaders if each[0] != name] + [(name, value)]

    def signed_in(self, url: str, name: str, stops_at: str = "") -> Page:
        """Through all pages of the provider: who it is, and that the program may."""
        page = self.open(url)
        for _ in range(8):
            if not page.forms or page.url == stops_at:
                break
            known = page.forms[0].fields
            given = {"login": name, "password": "x"}
            page = self.submit(page, **{key: value for key, value in given.items() if key in known})
        return page

    def last_step(self, url: str, name: str, prefix: str) -> str:
        """The address that the provider sends the browser back to, which it does not open."""
        self._stops.prefix = prefix
        try:
            self.signed_in(url, name)
        except _Stopped as stopped:
            return stopped.url
        finally:
            self._stops.prefix = ""
        raise AssertionError("it never came back")


class _Stopped(Exception):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class _Stops(urllib.request.HTTPRedirectHandler):
    prefix = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if self.prefix and newurl.startswith(self.prefix):
            fp.close()
            raise _Stopped(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
