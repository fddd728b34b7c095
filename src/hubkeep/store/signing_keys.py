"""The private keys of the hub's own authorities: in sealed files, or in PKCS#11 tokens that they never leave."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hubkeep.errors import BadRequest, KeyUnavailable
from hubkeep.ports import PrivateKey, Seal

FILE: Final = "file"
WriteSecret = Callable[[Path, bytes], None]


class SealedKeys:
    """See ports.SigningKeys. One file (mode 0600) for each key, sealed: the file alone signs nothing."""

    def __init__(self, directory: Path, seal: Seal, write_secret: WriteSecret) -> None:
        self._directory, self._seal, self._write_secret = directory, seal, write_secret

    async def make(self, name: str, algorithm: str, place: str) -> tuple[str, PrivateKey]:
        key = new_key(algorithm)
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            self._write_secret(self._path(name), self._seal.seal(der, _context(name)))
        except OSError as error:
            raise KeyUnavailable(reason=f"the key of {name!r} cannot be written: {error.strerror}") from None
        return FILE, key

    async def open(self, name: str, place: str) -> PrivateKey:
        path = self._path(name)
        try:
            der = self._seal.unseal(path.read_bytes(), _context(name))
        except OSError as error:
            raise KeyUnavailable(
                reason=f"{path} cannot be read: {error.strerror}", remedy="put it back, or make another authority"
            ) from None
        key = serialization.load_der_private_key(der, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        return key

    async def remove(self, name: str, place: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()

    async def reseal(self, prefix: bytes) -> int:
        """See ports.SealedRecords."""
        count = 0
        for path, name in self._files():
            sealed = path.read_bytes()
            if not sealed.startswith(prefix):
                der = self._seal.unseal(sealed, _context(name))
                self._write_secret(path, self._seal.seal(der, _context(name)))
                count += 1
        return count

    async def holds(self, prefix: bytes) -> bool:
        """See ports.SealedRecords."""
        return any(path.read_bytes().startswith(prefix) for path, _ in self._files())

    def _files(self) -> Sequence[tuple[Path, str]]:
        return [(path, path.stem) for path in sorted(self._directory.glob("*.key")) if not path.name.startswith(".")]

    def _path(self, name: str) -> Path:
        """Names are checked where authorities are made: no separator, no dot in front."""
        return self._directory / f"{name}.key"


def new_key(algorithm: str) -> PrivateKey:
    """Raises BadRequest for one that is not of ports.KEY_ALGORITHMS."""
    if algorithm == "P-256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "P-384":
        return ec.generate_private_key(ec.SECP384R1())
    if algorithm == "RSA-3072":
        return rsa.generate_private_key(65537, 3072)
    raise BadRequest("An authority's key is P-256, P-384 or RSA-3072.")


def _context(name: str) -> str:
    return f"authority/{name}"
