"""Keys in a PKCS#11 token (an HSM, a smart card, SoftHSM): they are made there, sign there, and never come out.

Needs the extra ``hubkeep[pkcs11]``. The token's own library is named by the setting certificates.pkcs11_module; its PIN
comes from a file. One session, one lock: tokens take one signature at a time. Source: provisioning-and-pki 4.14.
"""

import asyncio
import contextlib
import functools
import re
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hubkeep.errors import BadRequest, KeyUnavailable
from hubkeep.ports import PrivateKey

from .signing_keys import FILE, SealedKeys

_URI: Final = re.compile(r"pkcs11:token=([^;]{1,96})(?:;object=([^;]{1,200}))?")
_CURVES: Final = {"P-256": ("secp256r1", ec.SECP256R1), "P-384": ("secp384r1", ec.SECP384R1)}


class TokenKeys:
    """See ports.SigningKeys. The place ``file`` is left to ``files``. module: None where no token is set up."""

    def __init__(self, files: SealedKeys, module: Path | None, pin_file: Path | None) -> None:
        self._files, self._module, self._pin_file = files, module, pin_file
        self._tokens: dict[str, _Token] = {}

    async def make(self, name: str, algorithm: str, place: str) -> tuple[str, PrivateKey]:
        if place == FILE:
            return await self._files.make(name, algorithm, place)
        token, _ = _parsed(place)
        label = f"hubkeep {name}"
        key = await asyncio.to_thread(self._token(token).make, label, algorithm)
        return f"pkcs11:token={quote(token)};object={quote(label)}", key

    async def open(self, name: str, place: str) -> PrivateKey:
        if place == FILE:
            return await self._files.open(name, place)
        token, label = _parsed(place)
        return await asyncio.to_thread(self._token(token).open, label)

    async def remove(self, name: str, place: str) -> None:
        if place == FILE:
            await self._files.remove(name, place)

    def close(self) -> None:
        """Log out of every token."""
        for each in self._tokens.values():
            each.close()

    def _token(self, label: str) -> "_Token":
        if self._module is None or self._pin_file is None:
            raise BadRequest(
                "No PKCS#11 token is set up on this hub.",
                remedy="settings certificates.pkcs11_module and certificates.pkcs11_pin_file",
            )
        if label not in self._tokens:
            self._tokens[label] = _Token(self._module, label, self._pin_file)
        return self._tokens[label]


class _Token:
    """One token and the session open to it, anew after a failure. All of it blocks: call it on a thread."""

    def __init__(self, module: Path, label: str, pin_file: Path) -> None:
        self._module, self._label, self._pin_file = module, label, pin_file
        self._lock = threading.Lock()
        self._session: Any = None

    def make(self, label: str, algorithm: str) -> PrivateKey:
        """Raises KeyUnavailable, BadRequest."""
        pkcs11 = _library()

        def work(session: Any) -> None:
            if algorithm in _CURVES:
                curve = _library("util.ec").encode_named_curve_parameters(_CURVES[algorithm][0])
                given = {pkcs11.Attribute.EC_PARAMS: curve}
                made = session.create_domain_parameters(pkcs11.KeyType.EC, given, local=True)
                made.generate_keypair(store=True, label=label)
            elif algorithm == "RSA-3072":
                session.generate_keypair(pkcs11.KeyType.RSA, 3072, store=True, label=label)
            else:
                raise BadRequest("An authority's key is P-256, P-384 or RSA-3072.")

        with self._lock:
            self._run(work)
        return self.open(label)

    def open(self, label: str) -> PrivateKey:
        """Raises KeyUnavailable."""
        pkcs11 = _library()

        def work(session: Any) -> Any:
            public = session.get_key(label=label, object_class=pkcs11.ObjectClass.PUBLIC_KEY)
            if public.key_type is pkcs11.KeyType.RSA:
                modulus, exponent = (
                    int.from_bytes(public[each])
                    for each in (pkcs11.Attribute.MODULUS, pkcs11.Attribute.PUBLIC_EXPONENT)
                )
                return rsa.RSAPublicNumbers(exponent, modulus).public_key()
            # the point stands in an OCTET STRING of its own
            point = bytes(public[pkcs11.Attribute.EC_POINT])[2:]
            kind = ec.SECP256R1() if len(point) == 65 else ec.SECP384R1()
            return ec.EllipticCurvePublicKey.from_encoded_point(kind, point)

        with self._lock:
            public_key = self._run(work)
        sign = functools.partial(self._sign, label)
        return _RsaKey(public_key, sign) if isinstance(public_key, rsa.RSAPublicKey) else _EcKey(public_key, sign)

    def _sign(self, label: str, data: bytes, mechanism: str) -> bytes:
        pkcs11 = _library()

        def work(session: Any) -> bytes:
            key = session.get_key(label=label, object_class=pkcs11.ObjectClass.PRIVATE_KEY)
            return bytes(key.sign(data, mechanism=pkcs11.Mechanism[mechanism]))

        with self._lock:
            return self._run(work)  # type: ignore[no-any-return]

    def _run(self, work: Callable[[Any], Any]) -> Any:
        """Raises KeyUnavailable; the next one opens the token anew then."""
        pkcs11 = _library()
        try:
            if self._session is None:
                self._session = self._opened()
            return work(self._session)
        except (pkcs11.PKCS11Error, OSError, RuntimeError) as error:
            with contextlib.suppress(pkcs11.PKCS11Error, AttributeError):
                self._session.close()
            self._session = None
            raise KeyUnavailable(
                reason=f"the PKCS#11 token {self._label!r}: {type(error).__name__} {error}".strip(),
                remedy="is it plugged in, and the PIN in its file right?",
            ) from None

    def _opened(self) -> Any:
        pkcs11 = _library()
        library = pkcs11.lib(str(self._module))
        try:
            return self._login(library)
        except pkcs11.PKCS11Error:  # a token that came back is a new one to the library
            library.reinitialize()
            return self._login(library)

    def _login(self, library: Any) -> Any:
        pkcs11 = _library()
        token = library.get_token(token_label=self._label)
        try:
            return token.open(user_pin=self._pin_file.read_text().strip(), rw=True)
        except pkcs11.UserAlreadyLoggedIn:  # a login is the whole process's
            return token.open(rw=True)

    def close(self) -> None:
        with self._lock, contextlib.suppress(Exception):
            if self._session is not None:
                self._session.close()
            self._session = None


class _EcKey(ec.EllipticCurvePrivateKey):
    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign: Callable[[bytes, str], bytes]) -> None:
        self._public_key, self._sign = public_key, sign

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Only with SHA-256, which is what authorities sign with."""
        assert isinstance(signature_algorithm.algorithm, hashes.SHA256)
        raw = self._sign(sha256(data).digest(), "ECDSA")
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        _stays()

    def private_numbers(self) -> NoReturn:
        _stays()

    def private_bytes(self, *_: object) -> NoReturn:
        _stays()

    def __copy__(self) -> "_EcKey":
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> "_EcKey":
        return self


class _RsaKey(rsa.RSAPrivateKey):
    def __init__(self, public_key: rsa.RSAPublicKey, sign: Callable[[bytes, str], bytes]) -> None:
        self._public_key, self._sign = public_key, sign

    def sign(self, data: Any, padding_: Any, algorithm: Any) -> bytes:
        """Only PKCS #1 1.5 with SHA-256, which is what authorities sign with."""
        assert isinstance(padding_, padding.PKCS1v15)
        assert isinstance(algorithm, hashes.SHA256)
        return self._sign(bytes(data), "SHA256_RSA_PKCS")

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def decrypt(self, ciphertext: bytes, padding_: Any) -> NoReturn:
        _stays()

    def private_numbers(self) -> NoReturn:
        _stays()

    def private_bytes(self, *_: object) -> NoReturn:
        _stays()

    def __copy__(self) -> "_RsaKey":
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> "_RsaKey":
        return self


def _stays() -> NoReturn:
    raise NotImplementedError("the key stays in its token")


def _parsed(place: str) -> tuple[str, str]:
    """Token and object of a PKCS#11 URI (RFC 7512). Raises BadRequest."""
    found = _URI.fullmatch(place)
    if found is None:
        raise BadRequest("A place for a key is file, or pkcs11:token=LABEL.")
    return unquote(found[1]), unquote(found[2] or "")


def _library(part: str = "") -> Any:
    """Raises KeyUnavailable where the extra is not installed."""
    try:
        import pkcs11  # noqa: PLC0415  # optional
        import pkcs11.util.ec  # noqa: PLC0415  # optional
    except ImportError:
        raise KeyUnavailable(reason="python-pkcs11 is not installed", remedy="pip install 'hubkeep[pkcs11]'") from None
    return pkcs11.util.ec if part else pkcs11
