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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hubkeep.limits import CLIENT_CERTIFICATE_BYTES
from hubkeep.settings import Tls

log = logging.getLogger(__name__)

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_COMPAT_SUITES: Final = ":ECDHE+SHA256:ECDHE+SHA384"
_VERIFY_PEER: Final = 0x01
_SET_SESSION_CACHE_MODE: Final = 44
_SESSION_CACHE_OFF: Final = 0
_SET_MAX_CERT_LIST: Final = 51
# callbacks must live as long as any context that may call them
_ACCEPT_ALL: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(lambda _verdict, _store: 1)


class ListenerContext:
    """One context for all listeners. ``reload`` serves new chains to new handshakes; live connections go on."""

    def __init__(self, chains: Sequence[tuple[Path, Path]], settings: Tls) -> None:
        """chains: pairs of certificate chain and key files (PEM)."""
        self._chains = chains
        self.client_certificates = _client_certificates_work(*chains[0])
        self.context = _context(settings, accept_any_client=self.client_certificates)
        self.reload()
        if not self.client_certificates:
            log.warning("client certificates are not asked for: OpenSSL's callback cannot be set on this Python")

    def reload(self) -> None:
        """Read the files again. Raises ssl.SSLError or OSError; then the old chains are served on."""
        for chain, key in self._chains:
            self.context.load_cert_chain(chain, key)


def _context(settings: Tls, *, accept_any_client: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.minimum]
    suites = _SUITES + (_COMPAT_SUITES if settings.compat_suites else "")
    context.set_ciphers(suites + ("" if settings.minimum in {"1.2", "1.3"} else ":ECDHE+SHA1:@SECLEVEL=0"))
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    context.num_tickets = 0
    if accept_any_client:
        context.verify_mode = ssl.CERT_OPTIONAL
        _openssl().SSL_CTX_set_verify(_pointer(context), _VERIFY_PEER, _ACCEPT_ALL)
        # beyond it OpenSSL ends the handshake; each certificate has three bytes of length in the message
        most = CLIENT_CERTIFICATE_BYTES.value + 64
        _openssl().SSL_CTX_ctrl(_pointer(context), _SET_MAX_CERT_LIST, most, None)
        # without tickets, TLS 1.2 would still resume by session id; `ssl` has no switch for that
        _openssl().SSL_CTX_ctrl(_pointer(context), _SET_SESSION_CACHE_MODE, _SESSION_CACHE_OFF, None)
    return context


@functools.cache
def _openssl() -> Any:
    """The libssl that Python's own module is linked with."""
    import _ssl  # noqa: PLC0415  # its file names the library

    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_CTX_set_verify.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    library.SSL_CTX_set_verify.restype = None
    library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    library.SSL_CTX_ctrl.restype = ctypes.c_long
    return library


def _pointer(context: ssl.SSLContext) -> int:
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
