"""``hubkeep token-service`` as a process: the worked example of its page, its commands, and what they print."""

import base64
import json
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.processes import COMMAND, HubProcess, clean_environment, first_line, hub_process, started
from hubkeep.cli.failure import CommandFailure
from hubkeep.cli.main import app

EXAMPLE = Path(__file__).parents[2] / "samples" / "token-service"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("tokens") / "hub", "--partitions", "1") as process:
        yield process


def test_the_worked_example(hub: HubProcess, tmp_path: Path) -> None:
    """A device with nothing but a web token is registered, sends with the unmodified SDK, renews, and sends again."""
    pytest.importorskip("azure.iot.device", reason="azure-iot-device is not installed")
    for each in EXAMPLE.iterdir():
        shutil.copy(each, tmp_path)
    company = [sys.executable, "company.py", "press-07"]
    subprocess.run(company, cwd=tmp_path, check=True, timeout=60, capture_output=True)
    serve = [*COMMAND, "token-service", "--config", "tokens.toml", "--port", "0", "--hub-data", str(hub.data), "--json"]
    environment = clean_environment()
    with subprocess.Popen(
        serve, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as service:
        try:
            ready = json.loads(first_line(service))
            assert (ready["ready"], ready["plugin"], ready["hub"]) == (True, "jwt", hub.address)
            trust = {"TOKEN_URL": ready["url"], "TOKEN_TRUST": ready["trust_bundle"]}
            run = [*COMMAND, "run", "--data", str(hub.data), "--", sys.executable, "device.py", "press-07.jwt"]
            device = subprocess.run(
                run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment | trust
            )
            assert device.returncode == 0, device.stderr
            assert device.stdout.count("a token for press-07") == 2
        finally:
            service.send_signal(signal.SIGTERM)
            out, err = service.communicate(timeout=30)
    assert service.returncode == 0, err
    assert "press-07 is registered at the hub" in err
    shown = (tmp_path / "press-07.jwt").read_text()
    assert shown not in out + err
    assert shown.rpartition(".")[2] not in out + err
    receive = EXAMPLE.parent / "python" / "receive.py"
    events = hub.ok("run", "--", sys.executable, str(receive), "2").splitlines()
    assert [line for line in events if line.startswith("press-07: ")] == [
        line for line in events if "temperature" in line
    ]
    assert "signed by policy device" in hub.ok("audit", "list", "--chain", "disclosures", "--target", "press-07")


def test_a_secret_of_the_table_and_what_was_refused(hub: HubProcess, tmp_path: Path) -> None:
    data = tmp_path / "tokens"

    def run(*arguments: str) -> Result:
        """In this process: starting one for each would take most of the time."""
        return CliRunner().invoke(app, [*arguments, "--data", str(data)])

    secret = json.loads(run("token-table", "add", "first-device", "--json").output)["secret"]
    again = run("token-table", "add", "first-device").exception
    assert isinstance(again, CommandFailure)
    assert "--replace" in again.cure
    listed = json.loads(run("token-table", "list", "--json").output)
    assert [each["id"] for each in listed] == ["first-device"]
    options = ("--data", str(data), "--plugin", "table", "--port", "0", "--hub-data", str(hub.data))
    with started("token-service", *options) as service:
        assert service.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("ready"):
            lines.append(service.stdout.readline())
            assert lines[-1], service.stderr and service.stderr.read()
        assert [line.partition(" ")[0] for line in lines[1:]] == ["Trust", "Devices", "Try", "Refused", "ready"]
        url = lines[-1].split()[1]
        context = ssl.create_default_context(cafile=data / "trust-bundle.pem")

        def ask(shown: str) -> int:
            header = {"Authorization": f"Basic {base64.b64encode(f'first-device:{shown}'.encode()).decode()}"}
            asked = urllib.request.Request(url, method="POST", headers=header)
            try:
                with urllib.request.urlopen(asked, context=context, timeout=30) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        assert [ask(secret), ask("another-secret-16")] == [200, 401]
        assert run("token-table", "remove", "first-device").exit_code == 0
        assert ask(secret) == 401
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    found = json.loads(run("token-refusals", "--json").output)
    assert ["no such id" in each["reason"] for each in found] == [True, False]
    assert secret not in (data / "refusals.jsonl").read_text()
    assert "hubkeep token-table add first-device" in run("token-refusals", found[0]["trackingId"]).output
    assert (data / "refusals.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_service_that_cannot_be_says_why(tmp_path: Path) -> None:
    arguments = ["token-service", "--data", str(tmp_path), "--port", "0", "--plugin", "table"]
    failure = CliRunner().invoke(app, arguments).exception
    assert isinstance(failure, CommandFailure)
    assert "hub.connection_string: is needed" in failure.cause
