"""What a socket tells of its other end: the address, the TLS version, the certificates that were shown."""

import asyncio
from typing import Any, Final

from hubkeep.limits import CLIENT_CERTIFICATE_BYTES, CLIENT_CERTIFICATES
from hubkeep.model import LinkInfo, Surface

from .server_names import took_other_chain

_ENCODING_DER: Final = 2


def link_info(surface: Surface, transport: asyncio.BaseTransport) -> LinkInfo:
    """Of a connection whose handshake is over; ``transport`` may be a tunnel's."""
    peer = transport.get_extra_info("peername") or ("", 0)
    tls = transport.get_extra_info("ssl_object")
    return LinkInfo(
        surface,
        f"{peer[0]}:{peer[1]}",
        (tls.version() or "") if tls is not None else "",
        websocket=bool(transport.get_extra_info("websocket")),
        certificates=_certificates(tls) if tls is not None else (),
        old_suite=_old_suite(transport),
        canary=took_other_chain(tls),
    )


def _old_suite(transport: asyncio.BaseTransport) -> str:
    """Its name, where it is none of an AEAD: CBC, which tls.compat_suites and tls.old_versions let in."""
    name = str((transport.get_extra_info("cipher") or ("",))[0])
    return "" if not name or any(each in name for each in ("GCM", "CHACHA20", "TLS_")) else name


def is_out_of_measure(certificates: tuple[bytes, ...]) -> bool:
    """Whether these are more certificates, or larger ones, than anybody needs (L-T12)."""
    too_many = len(certificates) > CLIENT_CERTIFICATES.value
    return too_many or sum(map(len, certificates)) > CLIENT_CERTIFICATE_BYTES.value


def _certificates(tls: Any) -> tuple[bytes, ...]:
    """DER, the leaf first. tls: an ssl.SSLObject, or what the fast transports have in its place."""
    leaf: bytes | None = tls.getpeercert(binary_form=True)
    if leaf is None:
        return ()
    unverified = getattr(tls, "get_unverified_chain", None)
    if unverified is not None:
        chain = list(unverified())
    else:  # public since Python 3.13 only
        chain = [each.public_bytes(_ENCODING_DER) for each in tls._sslobj.get_unverified_chain() or ()]  # noqa: SLF001
    return tuple(chain) if chain[:1] == [leaf] else (leaf, *chain)
