"""``hubkeep dev`` and ``hubkeep serve`` as processes: the first start, the ready line, signals, refusals to start."""

import json
import signal
import socket
import ssl
import stat
from pathlib import Path

import pytest

from cli.processes import command, hub_process, wait_until
from hubkeep.testing.hub_in_thread import free_address

# stands in people's repositories: it never changes
PUBLISHED_OWNER_KEY = ";SharedAccessKey=tv2Gd7GcxMaNhPMMe+u/Jn6gPSvAPIuM+B/oVlCnjZc="


def test_dev_says_when_it_is_ready_and_stops_cleanly(tmp_path: Path) -> None:
    with hub_process(tmp_path / "hub") as hub:
        ready = hub.ready
        assert ready["ready"] is True
        assert ready["https"] == f"https://{hub.address}:443"
        assert ready["mqtt"] == f"mqtts://{hub.address}:8883"
        assert ready["amqp"] == f"amqps://{hub.address}:5671"
        assert ready["data"] == str(hub.data.resolve())
        done = hub.stop()
        assert (done.status, done.out) == (0, "")
        assert "Traceback" not in done.err
    assert stat.S_IMODE((tmp_path / "hub" / "admin").stat().st_mode) == 0o600


def test_serve_makes_all_that_it_needs_and_names_what_it_was_told(tmp_path: Path) -> None:
    names = ("hub.hubkeep.test", "other.hubkeep.test")
    with hub_process(tmp_path / "hub", mode="serve", names=names) as hub:
        assert "BEGIN CERTIFICATE" in (hub.data / "trust-bundle.pem").read_text()
        context = ssl.create_default_context(cafile=str(hub.data / "trust-bundle.pem"))
        for name in (*names, "localhost", "127.0.0.1"):
            with (
                socket.create_connection((hub.address, 8883), 10) as raw,
                context.wrap_socket(raw, server_hostname=name) as tls,
            ):
                assert tls.getpeercert()
        text = hub.ok("connection-string").strip()
        assert text.startswith("HostName=hub.hubkeep.test;SharedAccessKeyName=iothubowner;SharedAccessKey=")
        assert hub.run("device", "list", "--json").json == []
        hub.stop()


def test_published_keys_are_for_dev_alone_and_neither_takes_the_others_directory(tmp_path: Path) -> None:
    for made_by, refused_by in (("dev", "serve"), ("serve", "dev")):
        data = tmp_path / made_by
        with hub_process(data, mode=made_by) as hub:
            admin = json.loads((data / "admin").read_text())
            assert admin["connection_string"].endswith(PUBLISHED_OWNER_KEY) == (made_by == "dev")
            hub.stop()
        done = command(refused_by, "--data", str(data), "--listen", hub.address)
        assert done.status == 1
        assert f"was made by 'hubkeep {made_by}' and is not for 'hubkeep {refused_by}'" in done.err
        assert "--data" in done.err
        assert "Traceback" not in done.err


def test_a_port_in_use_is_named_with_the_ways_out(tmp_path: Path) -> None:
    with hub_process(tmp_path / "first") as first:
        done = command("serve", "--data", str(tmp_path / "second"), "--listen", first.address)
        assert done.status == 1
        assert "port 443: Address already in use" in done.err
        assert "--listen 127.0.0.2" in done.err
        assert "Traceback" not in done.err
        in_use = command("dev", "--data", str(first.data), "--listen", free_address())
        assert in_use.status == 78
        assert "is served by another process" in in_use.err


def test_dev_goes_on_without_a_port_and_says_so(tmp_path: Path) -> None:
    with hub_process(tmp_path / "first") as first, hub_process(tmp_path / "second", address=first.address) as second:
        assert "port 443: Address already in use" in second.ready["missing"]["https"]
        assert second.run("device", "list", "--json").json[0]["deviceId"] == "first-device"


def test_any_free_ports(tmp_path: Path) -> None:
    options = ("--https-port", "0", "--mqtt-port", "0", "--amqp-port", "0")
    with hub_process(tmp_path / "hub", *options) as hub:
        ports = [int(hub.ready[kind].rpartition(":")[2]) for kind in ("https", "mqtt", "amqp")]
        assert len(set(ports)) == 3
        assert not set(ports) & {443, 8883, 5671}
        assert hub.run("device", "list", "--json").json[0]["deviceId"] == "first-device"


def test_hangup_reloads_certificates_and_log_level(tmp_path: Path) -> None:
    config = tmp_path / "hubkeep.toml"
    config.write_text('log_level = "warning"\n')
    with hub_process(tmp_path / "hub", "--config", str(config)) as hub:
        config.write_text('log_level = "debug"\n')
        hub.process.send_signal(signal.SIGHUP)
        assert hub.process.stderr is not None
        lines: list[str] = []
        wait_until(lambda: lines.append(hub.process.stderr.readline()) or "reloaded" in lines[-1])
        assert hub.ok("device", "list")
        assert hub.stop().status == 0


def test_nothing_is_kept_of_an_ephemeral_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with hub_process(tmp_path / "unused", "--ephemeral") as hub:
        data = Path(hub.ready["data"])
        assert data.is_dir()
        assert hub.stop(signal.SIGINT).status == 0
    assert not data.exists()
    assert not (tmp_path / "unused").exists()
    assert not list(temporary.iterdir())


def test_a_hub_with_a_directory_of_its_own_uses_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is killed can take nothing away, so there must be nothing."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with hub_process(tmp_path / "hub") as hub:
        hub.process.kill()
        hub.process.wait()
    assert not list(temporary.iterdir())


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    config = tmp_path / "hubkeep.toml"
    config.write_text("log_levle = 1\n")
    done = command("serve", "--data", str(tmp_path / "hub"), "--config", str(config))
    assert done.status == 2
    assert "log_levle" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--listen", "192.0.2.1"), "192.0.2.1"),
        (("--listen", "no-such-name.invalid"), "no-such-name.invalid is no address of this machine"),
        (("--data", "/proc/version"), "/proc/version cannot be made"),
    ],
)
def test_where_no_hub_can_be(tmp_path: Path, options: tuple[str, str], said: str) -> None:
    where = options if "--data" in options else (*options, "--data", str(tmp_path / "hub"))
    done = command("dev", *where)
    assert done.status in {1, 2}
    assert said in done.err
    assert "Traceback" not in done.err
