"""Certificates made to deceive, with the refusal of each: tricks of names, extensions, chains, keys and signatures.

Those that a careless issuer makes stand in test_authorities; here are those that somebody makes on purpose.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from conversations.certificates import SIGNS_CERTIFICATES, Certificate, register
from conversations.hostile_certificates import MD5_RSA, SHA1_RSA, SHA256_RSA, altered, file_of
from conversations.https_peer import request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect
from hubkeep.connection.certificate_paths import DevicePaths
from hubkeep.connection.client_certificates import prove
from hubkeep.errors import Unauthorized
from hubkeep.model import Authority, Identity
from hubkeep.testing import HubInThread
from security.test_thumbprints import ACCEPTED, REFUSED, by_mqtt, tls_socket_of_anything

RSA_KEY = rsa.generate_private_key(65537, 2048)
WEAK_KEY = rsa.generate_private_key(65537, 1024)
ROOT = Certificate.made("plant root", ca=True, extensions=[SIGNS_CERTIFICATES])
RSA_ROOT = Certificate.made("old root", ca=True, key=RSA_KEY, extensions=[SIGNS_CERTIFICATES])
SCOPED = Certificate.made("line root", ca=True)
STAGED = Certificate.made("staged root", ca=True)
REVOKED = Certificate.made("revoked root", ca=True)
RETIRING = Certificate.made("retiring root", ca=True)
TWIN = Certificate.made("plant root", ca=True)  # the root's name, and a key of its own
A_THING = ObjectIdentifier("1.3.6.1.4.1.99999.1")


class Shown(NamedTuple):
    """key: of the leaf. chain: DER, the leaf first."""

    key: Any
    chain: Sequence[bytes]

    @classmethod
    def of(cls, leaf: Certificate, *above: Certificate) -> "Shown":
        return cls(leaf.key, [leaf.der, *(each.der for each in above)])


class Case(NamedTuple):
    """make: from the device's id. reason: how the operator's begins."""

    make: Callable[[str], Shown]
    reason: str


def leaf(name: str | x509.Name | Sequence[str], issuer: Certificate = ROOT, **how: Any) -> Certificate:
    return Certificate.made(name, issuer=issuer, **how)


def under_root(make: Callable[[str], Any], **how: Any) -> Callable[[str], Shown]:
    """A good certificate but for its name."""
    return lambda name: Shown.of(leaf(make(name), **how))


def encoded(kind: _ASN1Type, value: Callable[[str], str] = str) -> Callable[[str], x509.Name]:
    return lambda name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value(name), _type=kind)])


def forged(make: Callable[[str], Certificate], issuer: Certificate = ROOT, **how: Any) -> Callable[[str], Shown]:
    """Bytes of a certificate exchanged, and signed anew by ``issuer``."""

    def shown(name: str) -> Shown:
        made = make(name)
        exchanged = how.get("exchanged", ())
        rest = {each: value for each, value in how.items() if each != "exchanged"}
        return Shown(made.key, [altered(made, issuer.key, *exchanged, **rest)])

    return shown


def between(name: str = "between", issuer: Certificate = ROOT, **how: Any) -> Certificate:
    return Certificate.made(name, issuer=issuer, **({"ca": True} | how))


def over(*above: Certificate) -> Callable[[str], Shown]:
    """A leaf below the first, which is presented with the others."""
    return lambda name: Shown.of(leaf(name, above[0]), *above)


def deep(levels: int) -> Callable[[str], Shown]:
    def shown(name: str) -> Shown:
        path = [between("level 0")]
        for level in range(1, levels):
            path.insert(0, between(f"level {level}", path[0]))
        return Shown.of(leaf(name, path[0]), *path)

    return shown


def in_a_loop(name: str) -> Shown:
    """Two authorities that vouch for each other, and nobody for them."""
    one, two = Certificate.made("one", ca=True), Certificate.made("two", ca=True)
    crossed = [Certificate.made("one", issuer=two, key=one.key, ca=True)]
    crossed.append(Certificate.made("two", issuer=one, key=two.key, ca=True))
    return Shown.of(leaf(name, one), *crossed)


def in_a_maze(name: str) -> Shown:
    """Seven authorities of one name that might each have issued each other: 5,040 ways to look for a path."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(7)]
    first = Certificate.made("maze", key=keys[0], ca=True)
    walls = [
        Certificate.made("maze", issuer=first, key=each, signer=keys[(number + 1) % 7], ca=True)
        for number, each in enumerate(keys)
    ]
    return Shown.of(leaf(name, first), *walls)


def with_extension_twice(issuer: Certificate, name: str, **how: Any) -> tuple[Certificate, bytes]:
    """A private extension renamed to a second BasicConstraints."""
    spare = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.99"), bytes.fromhex("3000"))
    made = Certificate.made(name, issuer=issuer, extensions=[spare], **({"ca": False} | how))
    return made, altered(made, issuer.key, (bytes.fromhex("0603551d63"), bytes.fromhex("0603551d13")))


def twice_in_the_leaf(name: str) -> Shown:
    made, der = with_extension_twice(ROOT, name)
    return Shown(made.key, [der])


def twice_above(name: str) -> Shown:
    issuer, der = with_extension_twice(ROOT, "between", ca=True)
    below = leaf(name, issuer)
    return Shown(below.key, [below.der, der])


def weakly_signed(oid: bytes, digest: hashes.HashAlgorithm) -> Callable[[str], Shown]:
    return forged(lambda name: leaf(name, RSA_ROOT), RSA_ROOT, exchanged=[(SHA256_RSA, oid)], digest=digest)


def weakly_signed_above(name: str) -> Shown:
    issuer = between("between", RSA_ROOT)
    der = altered(issuer, RSA_KEY, (SHA256_RSA, SHA1_RSA), digest=hashes.SHA1())
    below = leaf(name, issuer)
    return Shown(below.key, [below.der, der])


def unreadable(name: str) -> Shown:
    """A name that is no UTF-8, which the parser finds only when it is asked for the subject."""
    made = leaf(name)
    return Shown(made.key, [altered(made, ROOT.key, (name.encode(), b"\xff" * len(name)))])


def unreadable_above(name: str) -> Shown:
    issuer = between("between")
    below = leaf(name, issuer)
    return Shown(below.key, [below.der, altered(issuer, ROOT.key, (b"between", b"\xffetween"))])


def with_another_octet_before_its_signature(name: str) -> Shown:
    """How many bits of the last octet do not count: outside of what is signed, and part of the fingerprint."""
    made = leaf(name)
    while made.der[-1] & 1:
        made = leaf(name)
    at = len(made.der) - len(made.certificate.signature) - 1
    return Shown(made.key, [made.der[:at] + b"\1" + made.der[at + 1 :]])


def without_version(name: str) -> Shown:
    made = leaf(name)
    return Shown(made.key, [altered(made, ROOT.key, (bytes.fromhex("a003020102"), bytes.fromhex("a003020100")))])


def numbered(number: str) -> Callable[[str], Shown]:
    """number: the content of the serial number, hexadecimal, of two octets."""

    def shown(name: str) -> Shown:
        made = leaf(name)
        serial = made.certificate.serial_number
        size = (serial.bit_length() + 8) // 8
        content = serial.to_bytes(size)
        wanted = bytes.fromhex(number).ljust(size, b"\0")[:size]
        return Shown(
            made.key, [altered(made, ROOT.key, (b"\x02" + bytes([size]) + content, b"\x02" + bytes([size]) + wanted))]
        )

    return shown


ANY = ExtendedKeyUsageOID
USAGES = {"code": ANY.CODE_SIGNING, "OCSP": ANY.OCSP_SIGNING, "mail": ANY.EMAIL_PROTECTION, "time": ANY.TIME_STAMPING}
ENCIPHERS = x509.KeyUsage(False, False, True, *[False] * 6)
NO_NAMES_BUT = x509.NameConstraints(
    [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate")]))], None
)

CASES: dict[str, Case] = {
    # names
    "a letter of another alphabet": Case(under_root(lambda name: name.replace("p", "\u0440", 1)), "cn: "),
    "letters of full width": Case(under_root(lambda name: name.replace("p", "\uff50", 1)), "cn: "),
    "a mark that nobody sees": Case(under_root(lambda name: f"{name}\u200b"), "cn: "),
    "written from right to left": Case(under_root(lambda name: f"\u202e{name[::-1]}"), "cn: "),
    "a line behind the name": Case(under_root(lambda name: f"{name}\n"), "cn: "),
    "a path to the name": Case(under_root(lambda name: f"x/../{name}"), "cn: "),
    "the name of a module of it": Case(under_root(lambda name: f"{name}/camera"), "cn: "),
    "the name, percent-encoded": Case(under_root(lambda name: name.replace("-", "%2D")), "cn: "),
    "a pattern": Case(under_root(lambda name: "*"), "cn: "),
    "a dot behind the name": Case(under_root(lambda name: f"{name}."), "cn: "),
    "IA5String": Case(under_root(encoded(_ASN1Type.IA5String)), "cn: "),
    "T61String": Case(under_root(encoded(_ASN1Type.T61String)), "cn: "),
    "UniversalString": Case(under_root(encoded(_ASN1Type.UniversalString)), "cn: "),
    "two names in one part": Case(
        under_root(
            lambda name: x509.Name(
                [
                    x509.RelativeDistinguishedName(
                        [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in (name, "press-99")]
                    )
                ]
            )
        ),
        "cn: ",
    ),
    "the name as an organisation": Case(
        under_root(lambda name: x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])), "cn: "
    ),
    "the name as an alternative": Case(
        lambda name: Shown.of(leaf("press-99", extensions=[x509.SubjectAlternativeName([x509.DNSName(name)])])), "cn: "
    ),
    # extensions
    "a critical extension that nobody knows": Case(
        forged(
            lambda name: leaf(name, extensions=[x509.UnrecognizedExtension(A_THING, b"\x01\x01\xff" * 2)], ca=False),
            exchanged=[(b"\x04\x06\x01\x01\xff\x01\x01\xff", b"\x01\x01\xff\x04\x03\x01\x01\xff")],
        ),
        "chain: ",
    ),
    **{
        f"for {what} alone": Case(under_root(str, extensions=[x509.ExtendedKeyUsage([usage])]), "usage: ")
        for what, usage in USAGES.items()
    },
    "for enciphering alone": Case(under_root(str, extensions=[ENCIPHERS]), "usage: "),
    "the mark of a CA in the leaf": Case(under_root(str, ca=True, path_length=0), "is-ca: "),
    "above it, names are constrained": Case(over(between(extensions=[NO_NAMES_BUT])), "ca-constraint: "),
    # numbers and versions
    "version 1": Case(without_version, "malformed: "),
    "the serial number 0": Case(numbered("00"), "malformed: "),
    "a negative serial number": Case(numbered("ff"), "malformed: "),
    # signatures
    "a bit of the signature turned": Case(forged(leaf, break_signature=True), "chain: "),
    "signed with SHA-1": Case(weakly_signed(SHA1_RSA, hashes.SHA1()), "weak-signature: "),
    "signed with MD5": Case(weakly_signed(MD5_RSA, hashes.MD5()), "weak-signature: "),
    "signed with SHA-1, above": Case(weakly_signed_above, "chain: "),
    "another algorithm outside than inside": Case(
        forged(lambda name: leaf(name, RSA_ROOT), RSA_ROOT, outside=(SHA256_RSA, bytes.fromhex("2a864886f70d01010c"))),
        "",
    ),
    "signed by the leaf itself in the root's name": Case(
        lambda name: Shown.of(leaf(name, signer=(key := ec.generate_private_key(ec.SECP256R1())), key=key)), "chain: "
    ),
    "signed by a twin of the root that is presented": Case(over(TWIN), "chain: "),
    "the twin between the root and it": Case(over(between("between", TWIN), TWIN), "chain: "),
    # keys
    "RSA with the exponent 3": Case(under_root(str, key=rsa.generate_private_key(3, 2048)), "weak-key: "),
    "RSA of 1536 bits": Case(under_root(str, key=rsa.generate_private_key(65537, 1536)), "weak-key: "),
    "a weak key above": Case(over(between(key=WEAK_KEY)), "chain: "),
    "Ed25519 above": Case(over(between(key=ed25519.Ed25519PrivateKey.generate())), "chain: "),
    # chains
    "six levels": Case(deep(6), "chain: "),
    "a loop": Case(in_a_loop, "chain: "),
    "a maze": Case(in_a_maze, "chain: "),
    "an authority that has not begun": Case(over(between(days=(1, 9))), "chain: 'CN=between' is valid from"),
    "no mark of a CA above": Case(over(between(ca=None)), "ca-constraint: "),
    "a device that issues": Case(over(between("press-98", ca=False)), "ca-constraint: "),
    "an authority as a device": Case(lambda name: Shown.of(between(name)), "is-ca: "),
    "of a staged authority": Case(over(STAGED), "chain: "),
    "of a revoked authority": Case(over(REVOKED), "chain: "),
    "of one that retires, new to it": Case(over(RETIRING), "chain: 'retiring' retires"),
    "of one that speaks for others": Case(over(SCOPED), "ca-scope: "),
}


# no client's OpenSSL loads or sends these: the judgement is asked itself
UNSENT: dict[str, Case] = {
    "a name that cannot be read": Case(unreadable, "malformed: "),
    "a name above it that cannot be read": Case(unreadable_above, "malformed: "),
    "a signature whose last octet counts in part": Case(with_another_octet_before_its_signature, "malformed: "),
    "an extension twice": Case(twice_in_the_leaf, "malformed: "),
    "an extension twice, above": Case(twice_above, "malformed: "),
    "Ed448": Case(under_root(str, key=ed448.Ed448PrivateKey.generate()), "weak-key: "),
    "DSA": Case(under_root(str, key=dsa.generate_private_key(2048)), "weak-key: "),
    "bytes behind the end": Case(
        lambda name: Shown.of(made := leaf(name))._replace(chain=[made.der + b"\0"]), "malformed: "
    ),
    "cut short": Case(lambda name: Shown.of(made := leaf(name))._replace(chain=[made.der[:-5]]), "malformed: "),
    "nothing": Case(lambda name: Shown(leaf(name).key, [b""]), "malformed: "),
    "cut short, above": Case(
        lambda name: Shown.of(leaf(name))._replace(chain=[leaf(name).der, ROOT.der[:-5]]), "malformed: "
    ),
}


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        registered = {"root": ROOT, "old": RSA_ROOT, "line": SCOPED, "staged": STAGED, "revoked": REVOKED}
        for name, certificate in {**registered, "retiring": RETIRING}.items():
            body = {"certificate": certificate.pem, "isVerified": True}
            assert request(hub, "PUT", f"/api/cas/{name}", body).status == 200
        for state in ("staged", "revoked", "retiring"):
            assert request(hub, "POST", f"/api/cas/{state}/state", {"state": state}).status == 200
        assert request(hub, "PATCH", "/api/cas/line", {"allowedIds": ["gate-*"]}).status == 200
        yield hub


def login(hub: HubInThread, device_id: str, file: Path) -> Any:
    with MqttPeer(hub, tls_socket_of_anything(hub, file)) as peer:
        peer.send(connect(device_id, USER_NAME.format(host=hub.host_name, client_id=device_id), None))
        return peer.read()


@pytest.mark.explains(
    "certificate-malformed",
    "certificate-weak-key",
    "certificate-usage",
    "certificate-ca-constraint",
    "certificate-ca-scope",
    "certificate-authority-retires",
)
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.filterwarnings("ignore:The parsed certificate contains a NULL")
@pytest.mark.parametrize("what", CASES)
@pytest.mark.spec("P-V1", "P-V3", "P-V8a", "P-V9b", "P-V11b", "P-T08", "P-T09")
def test_a_certificate_made_to_deceive(plant: HubInThread, tmp_path: Path, what: str) -> None:
    device_id = f"press-{list(CASES).index(what)}"
    register(plant, device_id)
    shown = CASES[what].make(device_id)
    began = time.monotonic()
    answer = login(plant, device_id, file_of(tmp_path, shown.key, *shown.chain))
    assert answer == REFUSED, what
    assert time.monotonic() - began < 10, "nobody keeps the hub busy"
    (refusal,) = plant.refusals(device_id, 1)
    assert refusal.reason.startswith(CASES[what].reason), refusal.reason
    word = {"cn": "name"}.get(refusal.reason.partition(":")[0], refusal.reason.partition(":")[0])
    assert refusal.cause == f"certificate-{'authority-retires' if 'retires' in refusal.reason else word}"
    assert refusal.remedy


@pytest.mark.parametrize("what", UNSENT)
def test_a_certificate_that_no_client_sends(what: str) -> None:
    shown = UNSENT[what].make("press-07")
    authority = Authority(name="root", certificate=ROOT.der, sha256="", state="active", etag="", created=0, updated=0)
    identity = Identity(device_id="press-07", authentication="certificateAuthority")
    with pytest.raises(Unauthorized) as refused:
        prove(identity, shown.chain, time.time(), DevicePaths(lambda: [authority]))
    assert refused.value.reason.startswith(UNSENT[what].reason), refused.value.reason


def test_there_are_enough_of_them() -> None:
    from security.test_authorities import BAD

    assert len(CASES) + len(UNSENT) + len(BAD) >= 80


def test_good_ones_beside_them(plant: HubInThread, tmp_path: Path) -> None:
    good = {
        "for anything": Shown.of(leaf("gate-01", extensions=[x509.ExtendedKeyUsage([ANY.ANY_EXTENDED_KEY_USAGE])])),
        "in scope": Shown.of(leaf("gate-02", SCOPED)),
        "four levels": deep(4)("gate-03"),
        "of RSA": Shown.of(leaf("gate-04", RSA_ROOT, key=RSA_KEY)),
    }
    for number, (what, shown) in enumerate(good.items(), 1):
        register(plant, f"gate-0{number}")
        assert login(plant, f"gate-0{number}", file_of(tmp_path, shown.key, *shown.chain)) == ACCEPTED, what


@pytest.mark.spec("P-36")
def test_an_authority_whose_own_time_is_over(tmp_path: Path) -> None:
    """The last of P-36: the others stand above and in test_authorities."""
    short = Certificate.made("short root", ca=True, days=(-1, 5))
    with HubInThread() as hub:
        request(hub, "PUT", "/api/cas/short", {"certificate": short.pem, "isVerified": True})
        register(hub, "press-07")
        file = Certificate.made("press-07", issuer=short).file(tmp_path)
        assert by_mqtt(hub, "press-07", file) == ACCEPTED
        hub.clock.move(6 * 86_400)
        assert by_mqtt(hub, "press-07", file) == REFUSED
        assert hub.refusals("press-07", 1)[0].reason.startswith("chain: 'CN=short root' is valid from")
