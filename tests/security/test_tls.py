"""TLS as a stranger meets it: bad hellos, certificates of any kind, resumption, floods (limits-and-faults L-T)."""

import contextlib
import datetime as dt
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, connect, eventually, tls_socket
from hubkeep.testing import HubInThread

PORTS = (8883, 5671, 443)
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def tls_hub() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        yield hub


def serves(hub: HubInThread) -> bool:
    """Whether somebody else can still log in."""
    with MqttPeer.logged_in(hub, "bystander") as peer:
        return peer.is_open()


def openssl(hub: HubInThread, *arguments: str, send: str = "Q\n", port: int = 8883) -> str:
    """What ``openssl s_client`` says."""
    command = ["openssl", "s_client", "-connect", f"{hub.address}:{port}", "-CAfile", str(hub.trust_bundle), *arguments]
    done = subprocess.run(command, input=send, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


# -- versions, suites, chains ----------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.spec("D-1", "D-4", "L-T9")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(("kind", "sigalgs"), [("RSA-PSS", "RSA+SHA256:RSA-PSS+SHA256"), ("ECDSA", "ECDSA+SHA256")])
def test_both_versions_with_both_chains_on_every_port(
    tls_hub: HubInThread, port: int, version: str, kind: str, sigalgs: str
) -> None:
    said = openssl(tls_hub, version, "-sigalgs", sigalgs, "-verify_ip", tls_hub.address, "-tlsextdebug", port=port)
    assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said
    assert "heartbeat" not in said.lower()
    assert f"Peer signature type: {kind}" in said


@needs_openssl
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_a_client_of_an_old_version_is_told_so(tls_hub: HubInThread, version: str, port: int) -> None:
    said = openssl(tls_hub, version, "-cipher", "ALL:@SECLEVEL=0", port=port)
    assert "alert protocol version" in said
    assert "no peer certificate available" in said


@needs_openssl
@pytest.mark.parametrize("suites", ["kRSA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE+AES", "aNULL"])
def test_a_client_without_a_suite_in_common_is_told_so(tls_hub: HubInThread, suites: str) -> None:
    said = openssl(tls_hub, "-tls1_2", "-cipher", f"{suites}:@SECLEVEL=0")
    assert "alert handshake failure" in said
    assert "Cipher is (NONE)" in said


def plain_hello(version: int, *suites: int) -> bytes:
    """A ClientHello of TLS 1.2 or older as any client of its time would send it; SSL 3 has no extensions."""
    groups, points, algorithms = "000a 0004 0002 0017", "000b 0002 01 00", "000d 0006 0004 0401 0403"
    extensions = bytes.fromhex(groups + points + algorithms) if version > 0x0300 else b""
    offered = b"".join(suite.to_bytes(2) for suite in suites)
    body = version.to_bytes(2) + bytes(range(32)) + b"\0" + len(offered).to_bytes(2) + offered + b"\x01\0"
    body += len(extensions).to_bytes(2) + extensions if extensions else b""
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16" + min(version, 0x0301).to_bytes(2) + len(message).to_bytes(2) + message


MODERN = (0xC02F, 0xC02B)
PROTOCOL_VERSION, HANDSHAKE_FAILURE = 70, 40
OLD_HELLOS = {
    "SSL 2": bytes.fromhex("801f 01 0002 0006 0000 0010 010080 0700c0") + bytes(16),
    "TLS 1.0 in the form of SSL 2": bytes.fromhex("801f 01 0301 0006 0000 0010 00c02f 00c02b") + bytes(16),
    "SSL 3": plain_hello(0x0300, *MODERN),
    "TLS 1.0": plain_hello(0x0301, *MODERN),
    "TLS 1.1": plain_hello(0x0302, *MODERN),
}
WEAK_SUITES = {
    "NULL": (0x0001, 0x0002, 0x003B, 0xC010, 0xC006),
    "EXPORT": (0x0003, 0x0006, 0x0008, 0x0014, 0x0062),
    "RC4": (0x0004, 0x0005, 0xC011, 0xC007),
    "3DES": (0x000A, 0x0016, 0xC012, 0xC008),
    "static RSA": (0x002F, 0x0035, 0x003C, 0x009C, 0x009D),
    "anonymous": (0x0034, 0x006C, 0x00A6, 0xC018, 0xC019),
}


@pytest.mark.spec("L-T2")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", OLD_HELLOS)
def test_old_hellos_get_the_alert_that_says_so(tls_hub: HubInThread, kind: str, port: int) -> None:
    # SSL 3 has no alert of that name: its clients read this one so
    expected = HANDSHAKE_FAILURE if kind == "SSL 3" else PROTOCOL_VERSION
    assert alert(tls_hub, OLD_HELLOS[kind], port) == expected


@pytest.mark.spec("L-T3")
@pytest.mark.parametrize("kind", WEAK_SUITES)
def test_weak_suites_get_the_alert_that_says_so(tls_hub: HubInThread, kind: str) -> None:
    assert alert(tls_hub, plain_hello(0x0303, *WEAK_SUITES[kind]), 8883) == HANDSHAKE_FAILURE
    with socket.create_connection((tls_hub.address, 8883), 10) as peer:
        # with a strong one beside them the handshake goes on
        peer.sendall(plain_hello(0x0303, *WEAK_SUITES[kind], *MODERN))
        assert peer.recv(1) == b"\x16"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.spec("P-T18")
def test_a_broken_record_gets_its_alert_and_harms_nobody(tls_hub: HubInThread, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(tls_hub.trust_bundle))
    context.maximum_version = version
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, to_send, server_hostname=tls_hub.address)
    with socket.create_connection((tls_hub.address, 8883), 10) as peer:
        for _ in range(20):
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                peer.sendall(to_send.read())
                received.write(peer.recv(65_536))
        peer.sendall(to_send.read())
        received.write(everything_said(peer, b"\x17\x03\x03\x00\x40" + bytes(64)))
        with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
            tls.read()
    assert serves(tls_hub)


def alert(hub: HubInThread, data: bytes, port: int) -> int:
    """The fatal alert that is all the hub says to ``data``, before it closes."""
    with socket.create_connection((hub.address, port), 10) as stranger:
        answer = everything_said(stranger, data)
    assert len(answer) == 7, answer
    assert answer[0] == 0x15, answer
    assert answer[3:6] == b"\0\x02\x02", answer
    return answer[6]


@needs_openssl
def test_old_versions_come_in_where_they_were_turned_on_by_name() -> None:
    with HubInThread(tls={"old_versions": {"mqtt": "1.1"}}) as hub:
        said = openssl(hub, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert "Verify return code: 0 (ok)" in said
        said = openssl(hub, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", port=443)
        assert "no peer certificate available" in said
        said = openssl(hub, "-tls1_2", "-sigalgs", "RSA+SHA1:ECDSA+SHA1", "-cipher", "ALL:@SECLEVEL=0")
        assert "no peer certificate available" in said, "SHA-1 comes with the old versions alone"


# -- renegotiation, resumption, early data, floods -------------------------------------------------------------------


@needs_openssl
@pytest.mark.spec("L-T4")
def test_a_client_cannot_renegotiate(tls_hub: HubInThread) -> None:
    said = openssl(tls_hub, "-tls1_2", send="R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said or "unexpected" in said or "write:errno" in said or "wrong" in said.lower()
    assert serves(tls_hub)


@needs_openssl
@pytest.mark.spec("L-T8", "L-T10", "P-T07")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_nothing_is_resumed_and_no_early_data_is_taken(tls_hub: HubInThread, version: str, tmp_path: Path) -> None:
    session = tmp_path / "session.pem"
    first = openssl(tls_hub, version, "-sess_out", str(session))
    assert "Max Early Data: 0" in first or "Max Early Data" not in first
    assert "New Session Ticket arrived" not in first
    if session.exists():
        assert "Reused" not in openssl(tls_hub, version, "-sess_in", str(session))


@pytest.mark.spec("P-39", "L-T10")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_a_session_from_before_the_registration_changed_opens_nothing(
    tls_hub: HubInThread, tmp_path: Path, device_id: str, version: ssl.TLSVersion
) -> None:
    old, new = Certificate.made(device_id[:60]), Certificate.made(device_id[:60])
    register(tls_hub, device_id, old.sha256)
    context = ssl.create_default_context(cafile=str(tls_hub.trust_bundle))
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(old.file(tmp_path))
    user_name = f"{tls_hub.host_name}/{device_id}/?api-version=2021-04-12"

    def log_in(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        raw = socket.create_connection((tls_hub.address, 8883), 30)
        with context.wrap_socket(raw, server_hostname=tls_hub.host_name, session=session) as tls:
            assert not tls.session_reused
            with MqttPeer(tls_hub, tls) as peer:
                peer.send(connect(device_id, user_name, None))
                answer = peer.read()
                assert answer is not None
                return answer[1], tls.session

    accepted, session = log_in(None)
    assert accepted == b"\0\0"
    register(tls_hub, device_id, new.sha256, update=True)
    assert log_in(session)[0] == b"\0\5"


@needs_openssl
@pytest.mark.spec("L-T5")
def test_a_flood_of_key_updates_harms_nobody(tls_hub: HubInThread) -> None:
    openssl(tls_hub, "-tls1_3", send="K\n" * 300 + "Q\n")
    assert serves(tls_hub)


def everything_said(stranger: socket.socket, data: bytes) -> bytes:
    """What the hub says to these bytes until it closes. Raises TimeoutError when it does not."""
    stranger.settimeout(30)
    answer = b""
    with contextlib.suppress(OSError):  # it may have closed while they were sent
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while chunk := stranger.recv(65_536):
            answer += chunk
    return answer


def hello(extensions: bytes, padding: int = 0) -> bytes:
    """A ClientHello of TLS 1.2 in as many records as it needs."""
    all_extensions = extensions + (struct.pack(">HH", 21, padding) + b"\0" * padding if padding else b"")
    body = b"\x03\x03" + b"r" * 32 + b"\0" + b"\0\x02\xc0\x2f" + b"\x01\0"
    body += struct.pack(">H", len(all_extensions)) + all_extensions
    message = b"\x01" + len(body).to_bytes(3) + body
    pieces = [message[at : at + 16_000] for at in range(0, len(message), 16_000)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece for piece in pieces)


@pytest.mark.spec("L-T7", "L-R4")
@pytest.mark.parametrize(
    "data",
    [
        hello(b"", padding=60_000),
        hello(b"".join(struct.pack(">HH", 40_000 + number, 0) for number in range(1500))),
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * 16_379,
    ],
    ids=["a hello of 60 KB", "1,500 extensions", "a hello that promises 16 MB"],
)
@pytest.mark.parametrize("port", PORTS)
def test_hellos_out_of_measure(tls_hub: HubInThread, data: bytes, port: int) -> None:
    with socket.create_connection((tls_hub.address, port), 10) as stranger:
        everything_said(stranger, data)
    assert serves(tls_hub)


@pytest.mark.spec("L-T1", "D-2")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "data", [b"\0" * 100, b"\xff" * 70_000, b"\x80\x2e\x01\x03\x01" + b"s" * 60, b"\x15\x03\x01\0\x02\x01\0"]
)
def test_what_is_no_tls_gets_an_alert_at_most(tls_hub: HubInThread, port: int, data: bytes) -> None:
    with socket.create_connection((tls_hub.address, port), 10) as stranger:
        answer = everything_said(stranger, data)
    assert answer[:1] in {b"", b"\x15"}


# -- client certificates ---------------------------------------------------------------------------------------------


def certificate(
    tmp_path: Path,
    *,
    key: _Key | None = None,
    days: tuple[int, int] = (-1, 1),
    change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] = lambda builder: builder,
    issuer: tuple[x509.Name, _Key] | None = None,
    name: str = "press-07",
    others: bytes = b"",
) -> Path:
    """A client certificate with its key in one file."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
    )
    made = change(builder).sign(issuer[1] if issuer else key, hashes.SHA256())
    path = tmp_path / "client.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM) + others)
    return path


def _odd_extension(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    odd = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x04\x02hi")
    return builder.add_extension(odd, critical=True)


def _for_servers(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)


STRANGER = (
    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a stranger's CA")]),
    ec.generate_private_key(ec.SECP256R1()),
)
CERTIFICATES: dict[str, dict[str, object]] = {
    "self-signed": {},
    "RSA": {"key": rsa.generate_private_key(65537, 2048)},
    "P-384": {"key": ec.generate_private_key(ec.SECP384R1())},
    "P-521": {"key": ec.generate_private_key(ec.SECP521R1())},
    "expired": {"days": (-10, -5)},
    "not yet valid": {"days": (5, 10)},
    "of an unknown CA": {"issuer": STRANGER},
    "with an odd critical extension": {"change": _odd_extension},
    "for servers alone": {"change": _for_servers},
    "with another name": {"name": "gr\u00fcn"},
}


@pytest.mark.spec("D-3", "L-T12")
@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_any_client_certificate_passes_the_handshake_and_opens_nothing(
    tls_hub: HubInThread, tmp_path: Path, name: str, version: ssl.TLSVersion
) -> None:
    path = certificate(tmp_path, **CERTIFICATES[name])  # type: ignore[arg-type]
    for port in PORTS:
        context = ssl.create_default_context(cafile=str(tls_hub.trust_bundle))
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(path)
        with (
            socket.create_connection((tls_hub.address, port), 30) as raw,
            context.wrap_socket(raw, server_hostname=tls_hub.host_name) as tls,
        ):
            if port == 8883:
                tls_hub.create_device("press-07")
                with MqttPeer(tls_hub, tls) as peer:
                    peer.send(connect("press-07", f"{tls_hub.host_name}/press-07/?api-version=2021-04-12", None))
                    assert peer.read() == (0x20, b"\0\5"), "a certificate alone opens no identity with keys"
            elif port == 5671:
                tls.sendall(b"AMQP\0\1\0\0")
                assert tls.recv(8) == b"AMQP\0\1\0\0"
            else:
                tls.sendall(b"GET /api/trust-bundle HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert tls.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("length", [30, 300])
def test_a_chain_out_of_measure_harms_nobody(tls_hub: HubInThread, tmp_path: Path, length: int) -> None:
    one = certificate(tmp_path).read_bytes()
    public = one[one.index(b"-----BEGIN CERTIFICATE") :]
    context = ssl.create_default_context(cafile=str(tls_hub.trust_bundle))
    context.load_cert_chain(certificate(tmp_path, others=public * length))
    raw = socket.create_connection((tls_hub.address, 8883), 30)
    with (
        context.wrap_socket(raw, server_hostname=tls_hub.host_name, do_handshake_on_connect=False) as tls,
        contextlib.suppress(ssl.SSLError, OSError),
    ):
        tls.do_handshake()
        tls.sendall(b"\x30\x00")
        assert tls.recv(1) == b""
    assert serves(tls_hub)


# -- many who say nothing --------------------------------------------------------------------------------------------


@pytest.mark.spec("L-T14", "L-L2", "P-T41")
def test_two_thousand_silent_connections_leave_room_when_their_time_is_up() -> None:
    """Half of the limit here, so that the descriptors of both ends fit into one process."""
    with HubInThread(limits={"unauthenticated": 300}) as hub:
        strangers: list[ssl.SSLSocket] = []
        try:
            strangers += [tls_socket(hub) for _ in range(300)]
            assert is_turned_away(hub)
            hub.clock.move(31)
            assert eventually(lambda: all(_is_closed(each) for each in strangers))
            assert serves(hub)
        finally:
            for each in strangers:
                each.close()


def is_turned_away(hub: HubInThread) -> bool:
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    raw = socket.create_connection((hub.address, 8883), 30)
    with context.wrap_socket(raw, server_hostname=hub.host_name, do_handshake_on_connect=False) as tls:
        try:
            tls.do_handshake()
            return tls.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            return True


def _is_closed(sock: ssl.SSLSocket) -> bool:
    sock.settimeout(1)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.spec("L-T13")
def test_a_half_closed_connection_gets_its_answer_and_goes(tls_hub: HubInThread) -> None:
    tls_hub.create_device("half")
    with tls_socket(tls_hub, 443) as tls:
        tls.sendall(b"GET /api/trust-bundle HTTP/1.1\r\nHost: a\r\n\r\n")
        tls.settimeout(30)
        assert tls.recv(12) == b"HTTP/1.1 200"
        tls.shutdown(socket.SHUT_WR)
    assert eventually(lambda: request(tls_hub, "GET", f"/statistics/service?{VERSION}").status == 200)
