"""What the command line makes of a certificate that a device is registered by."""

import re
import ssl
from hashlib import sha256
from pathlib import Path
from typing import Final

from .failure import MISUSED, CommandFailure

_DIGITS: Final = re.compile(r"(?:[0-9A-Fa-f][: ]?){40}|(?:[0-9A-Fa-f][: ]?){64}")
_ONE: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def certificates_in(content: bytes) -> list[str]:
    """The certificates (PEM) of a file that may hold more."""
    return _ONE.findall(content.decode("ascii", errors="replace"))


def thumbprint_from(given: str) -> str:
    """A thumbprint as it was typed, or the SHA-256 of the first certificate in the file of this name (PEM or DER).

    Raises CommandFailure.
    """
    if _DIGITS.fullmatch(given):
        return given
    try:
        content = Path(given).read_bytes()
    except OSError:
        raise CommandFailure(
            f"{given!r} is neither a thumbprint nor a file that can be read",
            "a thumbprint has 40 (SHA-1) or 64 (SHA-256) hexadecimal digits",
            MISUSED,
        ) from None
    found = certificates_in(content)
    if found:
        try:
            content = ssl.PEM_cert_to_DER_cert(found[0])
        except ValueError:
            content = b""
    if content[:1] != b"\x30":
        raise CommandFailure(f"there is no certificate in {given}", "it must be PEM or DER", MISUSED)
    return sha256(content).hexdigest().upper()
