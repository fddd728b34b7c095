"""What lets clients of this process trust hubs made for a test: variables that they read, and certifi's file."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_bundles: list[Path] = []  # of the hubs that are trusted now


@contextlib.contextmanager
def trusted(bundle: Path) -> Iterator[None]:
    """Clients of this process, and programs that it starts, trust ``bundle`` (PEM) beside those of other hubs."""
    _bundles.append(bundle)
    try:
        with _pointed_at(b"".join(each.read_bytes() for each in _bundles)):
            yield
    finally:
        _bundles.remove(bundle)


@contextlib.contextmanager
def _pointed_at(content: bytes) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _VARIABLES}
    with tempfile.NamedTemporaryFile(prefix="hubkeep-trust-", suffix=".pem") as file:
        file.write(content)
        file.flush()
        os.environ.update(dict.fromkeys(_VARIABLES, file.name))
        try:
            with _certifi_says(file.name):
                yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@contextlib.contextmanager
def _certifi_says(bundle: str) -> Iterator[None]:
    """Some clients read no variable and no system store, only certifi's file."""
    try:
        import certifi  # noqa: PLC0415  # only if the clients of this process have it
    except ImportError:
        yield
        return
    before: Callable[[], str] = certifi.where
    certifi.where = certifi.core.where = lambda: bundle
    try:
        yield
    finally:
        certifi.where = certifi.core.where = before
