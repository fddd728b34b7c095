"""Whether all of a certificate can be read. The library takes most parts of one apart only when they are asked for."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# what the library raises for what it cannot make sense of; strictness is the point: such a thing is refused
UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)


def whole(certificate: x509.Certificate) -> x509.Certificate:
    """The same, all of whose parts can be asked for afterwards. Raises one of UNREADABLE."""
    certificate.public_key()
    _ = certificate.subject, certificate.issuer, certificate.serial_number, certificate.extensions
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate
