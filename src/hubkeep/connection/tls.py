"""TLS for the listeners: versions, suites, both server chains, and client certificates that anybody may show.

A device with a self-signed certificate is registered by its thumbprint alone, so the handshake takes any client
certificate that proves possession of its key, and the hub judges afterwards. Python's ``ssl`` has no callback for that:
OpenSSL's own is set through ctypes on the context's pointer. It rests on CPython's object layout and a dynamically
linked OpenSSL, so a self-test with a real handshake runs first. Source: provisioning-and-pki 3.2, device-protocols 1.2.
"""

import ctypes
import functools
import logging
import ssl
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hubkeep.limits import CLIENT_CERTIFICATE_BYTES
from hubkeep.settings import Tls

from . import server_names

log = logging.getLogger(__name__)

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_COMPAT_SUITES: Final = ":ECDHE+AES+SHA256:ECDHE+AES+SHA384"
# TLS 1.0 and 1.1 know none of those, and sign with SHA-1 and MD5, which level 1 forbids
_OLD_SUITES: Final = ":ECDHE+AES+SHA1:@SECLEVEL=0"
_SIGNATURES: Final = (
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:"
    "RSA+SHA256:RSA+SHA384:RSA+SHA512"
)
# the hybrid one first, where OpenSSL knows it; P-521 because TLS 1.2 takes a client's key of these curves alone
_GROUPS: Final = ("X25519MLKEM768:X25519:P-256:P-384:P-521", "X25519:P-256:P-384:P-521")
_VERIFY_PEER: Final = 0x01
_SET_SESSION_CACHE_MODE: Final = 44
_SESSION_CACHE_OFF: Final = 0
_SET_MAX_CERT_LIST: Final = 51
_SET_GROUPS_LIST: Final = 92
_SET_SIGNATURES_LIST: Final = 98
# callbacks must live as long as any context that may call them
_ACCEPT_ALL: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(lambda _verdict, _store: 1)


class ListenerContexts:
    """A context for each listener. ``reload`` serves new chains to new handshakes; live connections go on."""

    def __init__(self, chains: Sequence[tuple[Path, Path]], settings: Tls) -> None:
        """chains: pairs of certificate chain and key files (PEM)."""
        self._chains = chains
        self.client_certificates = _client_certificates_work(*chains[0])
        self._usual = _context(settings, accept_any_client=self.client_certificates)
        self._old: Mapping[str, ssl.SSLContext] = {
            listener: _context(settings, accept_any_client=self.client_certificates, oldest=oldest)
            for listener, oldest in settings.old_versions.items()
        }
        self.reload()
        if not self.client_certificates:
            log.warning("client certificates are not asked for: OpenSSL's callback cannot be set on this Python")

    def of(self, listener: str) -> ssl.SSLContext:
        """listener: https, mqtt or amqp."""
        return self._old.get(listener, self._usual)

    def serve(self, chains: Sequence[tuple[Path, Path]]) -> None:
        """Others from now on, to new handshakes. Raises as ``reload``."""
        before, self._chains = self._chains, chains
        try:
            self.reload()
        except (ssl.SSLError, OSError):
            self._chains = before
            raise

    def answer_for(self, name: str, others: "ListenerContexts") -> None:
        """To clients that dial ``name`` (SNI), the chains of ``others``. See server_names."""
        for listener in ("https", "mqtt", "amqp"):
            server_names.answer_for(name, pointer(self.of(listener)), pointer(others.of(listener)), openssl())

    def reload(self) -> None:
        """Read the files again. Raises ssl.SSLError or OSError; then the old chains are served on."""
        for context in self._all():
            for chain, key in self._chains:
                context.load_cert_chain(chain, key)

    def _all(self) -> Iterable[ssl.SSLContext]:
        return (self._usual, *self._old.values())


class _Context(ssl.SSLContext):
    """Asks for client certificates, and does not say so.

    aiofastnet 1.2 decodes the certificate of whoever showed one, by way of a temporary file, unless the context says
    that it asks for none: a third of a login's time, on the loop, and a login that fails when the disk is full.
    """

    @property
    def verify_mode(self) -> ssl.VerifyMode:  # type: ignore[override]  # OpenSSL is told by the callback's setting
        return ssl.CERT_NONE


def _context(settings: Tls, *, accept_any_client: bool, oldest: str = "") -> ssl.SSLContext:
    """oldest: a version below 1.2 that is switched on by name."""
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    suites = _SUITES + (_COMPAT_SUITES if settings.compat_suites else "")
    if oldest:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the operator has asked for it by name
            context.minimum_version = _VERSIONS[oldest]
        context.set_ciphers(suites + _OLD_SUITES)
    else:
        context.minimum_version = _VERSIONS[settings.minimum]
        context.set_ciphers(suites)
    context.num_tickets = 0
    if accept_any_client:
        openssl().SSL_CTX_set_verify(pointer(context), _VERIFY_PEER, _ACCEPT_ALL)
        _set_what_python_cannot(context)
    return context


def _set_what_python_cannot(context: ssl.SSLContext) -> None:
    control, where = openssl().SSL_CTX_ctrl, pointer(context)
    # beyond it OpenSSL ends the handshake; each certificate has three bytes of length in the message
    control(where, _SET_MAX_CERT_LIST, CLIENT_CERTIFICATE_BYTES.value + 64, None)
    # without tickets, TLS 1.2 would still resume by session id
    control(where, _SET_SESSION_CACHE_MODE, _SESSION_CACHE_OFF, None)
    # else SECLEVEL=0 lets SHA-1 into TLS 1.2 as well
    control(where, _SET_SIGNATURES_LIST, 0, _SIGNATURES.encode())
    for groups in _GROUPS:
        if control(where, _SET_GROUPS_LIST, 0, groups.encode()) == 1:
            break


@functools.cache
def openssl() -> Any:
    """The libssl that Python's own module is linked with."""
    import _ssl  # noqa: PLC0415  # its file names the library

    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_CTX_set_verify.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    library.SSL_CTX_set_verify.restype = None
    library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    library.SSL_CTX_ctrl.restype = ctypes.c_long
    return library


def pointer(context: ssl.SSLContext) -> int:
    """The SSL_CTX of a context: the first member behind the object's head."""
    address = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    assert address is not None
    return address


def _client_certificates_work(chain: Path, key: Path) -> bool:
    """Self-test: a handshake in memory with a client certificate that the context has no root for."""
    try:
        server_context = _context(Tls(), accept_any_client=True)
        server_context.load_cert_chain(chain, key)
        client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_context.check_hostname = False
        client_context.verify_mode = ssl.CERT_NONE
        # the hub's own pair does for a client's: making another would double the time of the test
        client_context.load_cert_chain(chain, key)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_context.wrap_bio(to_server, to_client, server_side=True)
        client = client_context.wrap_bio(to_client, to_server)
        _shake_hands(client, server)
        return server.getpeercert(binary_form=True) is not None
    except (ssl.SSLError, OSError, AttributeError, AssertionError) as error:
        log.info("self-test of client certificates: %s", error)
        return False


def _shake_hands(client: ssl.SSLObject, server: ssl.SSLObject) -> None:
    waiting = [client, server]
    for _ in range(8):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return
    raise ssl.SSLError("the handshake does not end")
