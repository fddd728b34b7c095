"""``hubkeep run``: unmodified programs trust the hub and find it, the samples among them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.processes import COMMAND, HubProcess, hub_process

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "samples"
NODE_MODULES = ROOT / "tests" / "compatibility" / "node" / "node_modules"

# uamqp, under azure-iot-hub, reads no variable: it asks certifi
UAMQP_READS_EVENTS = """
import os, uamqp
from uamqp import authentication
parts = dict(part.split("=", 1) for part in os.environ["EVENT_HUB_CONN_STR"].split(";"))
host = parts["Endpoint"].removeprefix("sb://").rstrip("/")
entity = parts["EntityPath"]
auth = authentication.SASTokenAuth.from_shared_access_key(
    f"sb://{host}/{entity}", parts["SharedAccessKeyName"], parts["SharedAccessKey"])
source = f"amqps://{host}/{entity}/ConsumerGroups/$Default/Partitions/0"
client = uamqp.ReceiveClient(source, auth=auth, timeout=10000)
client.open()
while not client.client_ready():
    client.do_work()
print("attached")
client.close()
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("run") / "hub", "--partitions", "1") as process:
        yield process


def python(hub: HubProcess, *arguments: str) -> str:
    return hub.ok("run", "--", sys.executable, *arguments)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not installed")
    if not NODE_MODULES.is_dir():
        pytest.skip("the Node clients are not installed")
    monkeypatch.setenv("NODE_PATH", os.fspath(NODE_MODULES))
    return path


def test_python_samples(hub: HubProcess) -> None:
    sent = python(hub, str(SAMPLES / "python" / "send.py"))
    assert sent.count("sent ") == 3
    assert python(hub, str(SAMPLES / "python" / "send_https.py")).startswith("204 ")
    received = python(hub, str(SAMPLES / "python" / "receive.py"), "4").splitlines()
    assert [line.partition(":")[0] for line in received] == ["first-device"] * 4
    assert '{"temperature": 23}' in received[2]


def test_the_python_sample_that_listens(hub: HubProcess) -> None:
    program = [*COMMAND, "run", "--", sys.executable, str(SAMPLES / "python" / "device.py")]
    environment = {**os.environ, "HUBKEEP_DATA": str(hub.data)}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as device:
        assert device.stdout is not None
        assert device.stdout.readline() == "listening\n"
        assert "200 in" in hub.ok("device", "call", "first-device", "reboot", "--payload", '{"delay": 3}')
        assert device.stdout.readline() == "method: reboot {'delay': 3}\n"
        hub.ok("device", "send", "first-device", "open the valve", "--property", "a=b")
        assert device.stdout.readline() == "message: open the valve {'a': 'b'}\n"
        hub.ok("device", "twin", "first-device", "--set", "desired.interval=5")
        assert device.stdout.readline().startswith("desired: {'interval': 5")
        query = "SELECT deviceId FROM devices WHERE properties.desired.interval = 5"
        assert "first-device" in hub.ok("query", query)
        hub.ok("device", "call", "first-device", "stop")
        assert device.wait(30) == 0


def test_python_samples_that_create_devices(hub: HubProcess) -> None:
    pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
    created = python(hub, str(SAMPLES / "python" / "create_device.py"), "by-python")
    assert created.startswith("created by-python, enabled")
    assert "by-python" in created.splitlines()[1]


def test_uamqp_trusts_the_hub(hub: HubProcess) -> None:
    pytest.importorskip("uamqp", reason="uamqp is not installed")
    assert python(hub, "-W", "ignore", "-c", UAMQP_READS_EVENTS) == "attached\n"


def test_node_samples(hub: HubProcess, node: str) -> None:
    sent = hub.ok("run", "--", node, "--no-deprecation", str(SAMPLES / "node" / "send.js"))
    assert sent.count("sent ") == 3
    received = hub.ok("run", "--", node, str(SAMPLES / "node" / "receive.js"), "3").splitlines()
    assert len(received) >= 3
    assert all(line.startswith("first-device: ") for line in received)
    created = hub.ok("run", "--", node, "--no-deprecation", str(SAMPLES / "node" / "create_device.js"), "by-node")
    assert created.startswith("created by-node, enabled")


def test_curl_and_other_programs(hub: HubProcess) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    token = hub.ok("token", "make", "--policy", "registryRead").strip()
    url = f"https://{hub.address}/devices/first-device?api-version=2021-04-12"
    assert '"first-device"' in hub.ok("run", "--", "curl", "-sS", "--fail", "-H", f"Authorization: {token}", url)


def test_the_programs_exit_status_is_the_commands(hub: HubProcess) -> None:
    assert hub.run("run", "--", sys.executable, "-c", "raise SystemExit(7)").status == 7
    missing = hub.run("run", "--", "no-such-program")
    assert (missing.status, "there is no program no-such-program" in missing.err) == (127, True)
    nothing = hub.run("run")
    assert (nothing.status, "hubkeep run -- python my_program.py" in nothing.err) == (2, True)


def test_variables_to_source(hub: HubProcess) -> None:
    lines = hub.ok("run", "--show", "--device", "first-device").splitlines()
    names = {line.removeprefix("export ").partition("=")[0] for line in lines}
    assert {"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "IOTHUB_DEVICE_CONNECTION_STRING"} <= names
