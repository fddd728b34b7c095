"""A running hub's backup, and a hub made of it."""

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.processes import HubProcess, command, hub_process
from hubkeep.server.backup import BackupFailure, restore


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("backup") / "data", mode="serve") as hub:
        hub.ok("device", "create", "press-07")
        hub.ok("device", "twin", "press-07", "--tag", "hall=3")
        yield hub


@pytest.fixture(scope="module")
def backup(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("backups")
    data, keys = folder / "monday", folder / "vault" / "monday"
    said = hub.ok("backup", str(data), "--keys-to", str(keys))
    assert f"hubkeep restore {data} --keys-from {keys}" in said
    return data, keys


def identity(hub: HubProcess, device: str) -> Any:
    return json.loads(hub.ok("device", "show", device, "--json"))


def test_a_restored_hub_knows_its_devices_their_keys_and_its_own_certificates(
    hub: HubProcess, backup: tuple[Path, Path], tmp_path: Path
) -> None:
    hub.ok("device", "create", "came-later")
    data = tmp_path / "restored"
    done = command("restore", str(backup[0]), "--keys-from", str(backup[1]), "--data", str(data))
    assert done.status == 0, done
    assert f"hubkeep serve --data {data}" in done.out
    assert not (data / "admin").exists()
    assert (data / "trust-bundle.pem").read_bytes() == (hub.data / "trust-bundle.pem").read_bytes()
    before = identity(hub, "press-07")
    with hub_process(data, mode="serve") as restored:
        after = identity(restored, "press-07")
        assert after["authentication"] == before["authentication"]
        twin = json.loads(restored.ok("device", "twin", "press-07", "--json"))
        assert twin["tags"] == {"hall": 3}
        assert restored.run("device", "show", "came-later").status == 1
        said = restored.stop()
    assert "damaged" not in said.err
    assert "events.mark" not in said.err


def test_the_backup_is_for_its_owner_alone_and_holds_no_key_in_clear(
    hub: HubProcess, backup: tuple[Path, Path]
) -> None:
    data, keys = backup
    for folder in backup:
        for path in (folder, *folder.rglob("*")):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert (keys / "keys" / "sealing.key").is_file()
    secrets = [(keys / "keys" / "sealing.key").read_bytes()]
    secrets += [key.encode() for key in identity(hub, "press-07")["authentication"]["symmetricKey"].values()]
    for path in data.rglob("*"):
        assert not path.is_file() or not [each for each in secrets if each in path.read_bytes()], path
        assert not path.is_file() or b"PRIVATE KEY" not in path.read_bytes(), path


def refused(source: Path, keys: Path, data: Path) -> str:
    """Why a backup cannot be restored; nothing is left of the attempt."""
    with pytest.raises(BackupFailure) as failure:
        restore(source, keys, data, lambda _size: None, lambda _size: None)
    assert not list(data.parent.glob(f"*{data.name}*"))
    return failure.value.cause


def test_every_changed_or_missing_file_is_found(backup: tuple[Path, Path], tmp_path: Path) -> None:
    data, keys = backup
    for folder in backup:
        for part in json.loads((folder / "manifest.json").read_text())["parts"]:
            path = folder / part["path"]
            whole = path.read_bytes()
            for changed in (bytes((whole[0] ^ 1,)) + whole[1:], whole[:-1]):
                path.write_bytes(changed)
                assert str(path) in refused(data, keys, tmp_path / "no")
            path.unlink()
            assert str(path) in refused(data, keys, tmp_path / "no")
            path.write_bytes(whole)


def test_keys_of_another_hub_do_not_open_it(backup: tuple[Path, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    shutil.copytree(backup[1], keys)
    sealing = keys / "keys" / "sealing.key"
    sealing.write_bytes(bytes(32))
    manifest = json.loads((keys / "manifest.json").read_text())
    for part in manifest["parts"]:
        part["sha256"] = hashlib.sha256((keys / part["path"]).read_bytes()).hexdigest()
    (keys / "manifest.json").write_text(json.dumps(manifest))
    assert "sealed under another key" in refused(backup[0], keys, tmp_path / "no")


def test_a_manifest_reads_nothing_outside_its_folder(backup: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "forged"
    folder.mkdir()
    manifest = json.loads((backup[0] / "manifest.json").read_text())
    for name in ("../secret", str(tmp_path / "secret")):
        manifest["parts"] = [{"path": name, "size": 1, "sha256": "0"}]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        assert "lies outside" in refused(folder, backup[1], tmp_path / "no")


def test_a_backup_says_where_its_keys_go_and_never_overwrites(hub: HubProcess, tmp_path: Path) -> None:
    done = hub.run("backup", str(tmp_path / "b"))
    assert (done.status, "--keys-to" in done.err) == (2, True)
    done = hub.run("backup", str(tmp_path), "--without-keys")
    assert done.status == 0, done
    done = hub.run("backup", str(tmp_path), "--without-keys")
    assert (done.status, "not empty" in done.err) == (1, True)
    done = command("backup", str(tmp_path / "c"), "--without-keys", "--data", str(tmp_path / "nowhere"))
    assert (done.status, "no data directory" in done.err) == (1, True)
