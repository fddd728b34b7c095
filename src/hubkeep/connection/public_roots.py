"""The certificates that web browsers trust: nobody may register one of them for devices (P-44)."""

import functools
import re
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Final

_ONE: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@functools.cache
def public_roots() -> Collection[bytes]:
    """In DER: the system's list, and certifi's where it is installed. Empty on a machine that has neither."""
    paths = ssl.get_default_verify_paths()
    files = {paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", _certifi()}
    found: set[bytes] = set()
    for each in files:
        if each and Path(each).is_file():
            text = Path(each).read_text(encoding="ascii", errors="replace")
            found |= {ssl.PEM_cert_to_DER_cert(pem) for pem in _ONE.findall(text)}
    return frozenset(found)


def _certifi() -> str:
    try:
        import certifi  # noqa: PLC0415  # optional
    except ImportError:
        return ""
    return str(certifi.where())
