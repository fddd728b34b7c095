"""A TPM 2.0 (swtpm) registers and then signs for the hub: driven by the unmodified Node client, and by tpm2-tools."""

import base64
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conversations.https_peer import VERSION, request
from conversations.provisioning_peer import enrol, outcome, register, service
from conversations.tpm_device import split
from hubkeep.testing import HubInThread

NODE_TPM = Path(__file__).parent / "node" / "node_modules" / "azure-iot-security-tpm"
EK, SRK, IDENTITY = "0x81010001", "0x81000001", "0x81000100"
_CREDENTIAL = bytes.fromhex("badcc0de00000001")  # how tpm2-tools begin a file that holds a credential


class Swtpm(NamedTuple):
    """port: of its commands; the next one is of its control channel, where tpm2-tools look for it."""

    port: int
    folder: Path

    def tool(self, command: str, *words: str) -> bytes:
        """One of tpm2-tools, in the folder."""
        tcti = {"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}"}
        environment = {**os.environ, **tcti}
        done = subprocess.run(
            ["tpm2", command, *words], cwd=self.folder, env=environment, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"tpm2 {command}: {done.stderr.decode()}"
        return done.stdout

    def file(self, name: str, content: bytes | None = None) -> bytes:
        """Written, or read."""
        if content is not None:
            (self.folder / name).write_bytes(content)
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """One that tells the outcome at once."""
    with HubInThread(provisioning={"answer_at_once": True}) as running, running.trusted():
        yield running


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[Swtpm]:
    """A TPM of its own, as it comes from the factory."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    port = _two_ports()
    state = tmp_path / "tpm"
    state.mkdir()
    channels = {"server": port, "ctrl": port + 1}
    words = [word for name, at in channels.items() for word in (f"--{name}", f"type=tcp,port={at},bindaddr=127.0.0.1")]
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"]
    process = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port + 1)
        yield Swtpm(port, tmp_path)
    finally:
        process.kill()
        process.wait()


def _two_ports() -> int:
    """The first of two free ones."""
    while True:
        with contextlib.suppress(OSError, OverflowError), socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            two.bind(("127.0.0.1", port + 1))
            return port


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"swtpm ended with {process.wait(0.05)}")
    pytest.fail("swtpm does not listen")


def tpm_attestation(endorsement_key: str) -> dict[str, Any]:
    return {"type": "tpm", "tpm": {"endorsementKey": endorsement_key}}


@pytest.mark.spec("P-20")
def test_the_node_client(hub: HubInThread, swtpm: Swtpm, node: Any) -> None:
    if not NODE_TPM.is_dir():
        pytest.skip("azure-iot-security-tpm is not installed")
    keys = node("tpm_device.js", str(swtpm.port))
    name, endorsement_key = keys["registrationId"], b64decode(keys["endorsementKey"])
    assert name == base64.b32encode(hashlib.sha256(endorsement_key).digest()).decode().lower().rstrip("=")
    enrol(hub, name, tpm_attestation(keys["endorsementKey"]), deviceId="node-with-a-tpm")
    wires = ("http", "amqp", "amqp-ws")
    results = node("tpm_device.js", str(swtpm.port), hub.host_name, hub.id_scope, *wires)
    assert results == [{"assignedHub": hub.host_name, "deviceId": "node-with-a-tpm"}] * len(wires)
    events = hub.wait_for_events(len(wires), device="node-with-a-tpm")
    assert [each["body"] for each in events] == [f"by {each}" for each in wires]
    service(hub, "DELETE", f"/enrollments/{name}")


def test_tpm2_tools(hub: HubInThread, swtpm: Swtpm, device_id: str) -> None:
    if shutil.which("tpm2") is None:
        pytest.skip("tpm2-tools are not installed")
    swtpm.tool("createek", "-G", "rsa", "-c", EK, "-u", "ek.pub")
    storage = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"
    swtpm.tool("createprimary", "-C", "o", "-g", "sha256", "-G", "rsa2048", "-a", storage, "-c", "srk.ctx")
    swtpm.tool("evictcontrol", "-C", "o", "-c", "srk.ctx", SRK)
    swtpm.tool("readpublic", "-c", SRK, "-o", "srk.pub", "-n", "srk.name")
    keys = {
        name: b64encode(swtpm.file(file)).decode()
        for name, file in (("endorsementKey", "ek.pub"), ("storageRootKey", "srk.pub"))
    }
    enrol(hub, device_id, tpm_attestation(keys["endorsementKey"]))
    body = {"registrationId": device_id, "tpm": keys}
    challenge = register(hub, device_id, body=body)
    assert challenge.status == 401
    imported(swtpm, b64decode(challenge.body["authenticationKey"]))
    shown = signed(swtpm, f"{hub.id_scope}/registrations/{device_id}")
    answer = register(hub, device_id, by=shown, body=body)
    state = outcome(answer)
    imported(swtpm, b64decode(state["tpm"]["authenticationKey"]))
    by_tpm = signed(swtpm, f"{hub.host_name}/devices/{device_id}")
    received = request(hub, "GET", f"/devices/{device_id}/messages/devicebound?{VERSION}", token=by_tpm)
    assert received.status == 204
    service(hub, "DELETE", f"/enrollments/{device_id}")


def imported(swtpm: Swtpm, blob: bytes) -> None:
    """The key of a blob becomes the TPM's identity key."""
    identity, seed1, private, seed2, public, _ = split(blob)
    swtpm.file("credential", _CREDENTIAL + sized(identity) + sized(seed1))
    swtpm.tool("flushcontext", "-t")  # there is no resource manager, and room for three
    swtpm.tool("startauthsession", "--policy-session", "-S", "session.ctx")
    swtpm.tool("policysecret", "-S", "session.ctx", "-c", "e")
    swtpm.tool(
        "activatecredential", "-c", SRK, "-C", EK, "-i", "credential", "-o", "inner", "-P", "session:session.ctx"
    )
    swtpm.tool("flushcontext", "session.ctx")
    for name, content in (("private", private), ("seed", seed2), ("public", public)):
        swtpm.file(name, sized(content))
    files = ("-i", "private", "-s", "seed", "-u", "public", "-k", "inner", "-r", "loadable")
    swtpm.tool("import", "-C", SRK, *files)
    swtpm.tool("flushcontext", "-t")
    swtpm.tool("load", "-C", SRK, "-u", "public", "-r", "loadable", "-c", "identity.ctx")
    swtpm.file("to-sign", b"")


def signed(swtpm: Swtpm, resource: str) -> str:
    """A token, its signature made in the TPM."""
    expiry = 4_000_000_000
    swtpm.file("to-sign", f"{resource}\n{expiry}".encode())
    swtpm.tool("hmac", "-c", "identity.ctx", "-g", "sha256", "-o", "signature", "to-sign")
    sig = base64.b64encode(swtpm.file("signature")).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"SharedAccessSignature sr={resource}&sig={sig}&se={expiry}"


def sized(content: bytes) -> bytes:
    return len(content).to_bytes(2) + content
