"""A fleet out of one hub and into another, as a file."""

import json
import stat
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.processes import HubProcess, hub_process

SCOPE = "ms-azure-iot-edge://gateway-638760000000000000"
KEYS = {"primaryKey": b64encode(b"p" * 32).decode(), "secondaryKey": b64encode(b"s" * 32).decode()}
SAS = {"type": "sas", "symmetricKey": KEYS}
FLEET: list[dict[str, Any]] = [
    {
        "id": "press-07",
        "authentication": SAS,
        "tags": {"hall": 3, "name": "große Presse"},
        "properties": {"desired": {"speed": {"rpm": 800}}, "reported": {"heat": 80.5}},
    },
    {"id": "press-07", "moduleId": "vision", "managedBy": "me", "authentication": SAS, "tags": {"of": "module"}},
    {"id": "lost", "status": "disabled", "statusReason": "stolen", "authentication": SAS},
    {"id": "x509", "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "ab" * 20}}},
    {"id": "ca", "authentication": {"type": "certificateAuthority"}},
    {"id": "gateway", "authentication": SAS, "capabilities": {"iotEdge": True}, "deviceScope": SCOPE},
    {"id": "leaf", "authentication": SAS, "deviceScope": SCOPE, "parentScopes": [SCOPE]},
]


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, HubProcess]]:
    folder = tmp_path_factory.mktemp("fleets")
    with hub_process(folder / "one") as one, hub_process(folder / "two") as two:
        yield one, two


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def without_etags(file: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name not in {"eTag", "twinETag"}} for each in lines(file)]


def test_a_fleet_moves_with_its_keys_twins_and_scopes(hubs: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    one, two = hubs
    source = tmp_path / "fleet.jsonl"
    source.write_text("\n".join(json.dumps(each) for each in FLEET))  # no line end at its end
    assert json.loads(one.ok("import", str(source), "--json")) == {"records": 7, "refused": 0}
    exported = tmp_path / "exported.jsonl"
    count = json.loads(one.ok("export", str(exported), "--json"))
    assert (count["devices"], count["modules"]) == (7, 3)  # with the first device of a dev hub, and an edge's modules
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    first = {(each["id"], each.get("moduleId")): each for each in lines(exported)}
    for wanted in FLEET:
        assert (
            first[wanted["id"], wanted.get("moduleId")].items()
            >= {name: value for name, value in wanted.items() if name not in {"authentication", "properties"}}.items()
        )
    assert first["press-07", None]["properties"] == FLEET[0]["properties"]
    assert first["press-07", "vision"]["authentication"]["symmetricKey"] == KEYS

    assert "10 of 10 records are carried out" in two.ok("import", str(exported))
    again = tmp_path / "again.jsonl"
    two.ok("export", str(again))
    assert without_etags(again) == without_etags(exported)
    assert two.ok("connection-string", "--device", "leaf").strip().endswith(f"SharedAccessKey={KEYS['primaryKey']}")

    bare = tmp_path / "bare.jsonl"
    one.ok("export", str(bare), "--no-keys")
    assert KEYS["primaryKey"] not in bare.read_text()


def test_refused_records_are_written_beside_the_file(hubs: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    one, _ = hubs
    source = tmp_path / "fleet.jsonl"
    records = [{"id": "new"}, {"id": "new", "importMode": "create"}, {"id": "bad id"}, {"id": "newer"}]
    source.write_text("".join(json.dumps(each) + "\n" for each in records))
    done = one.run("import", str(source), "--mode", "create")
    assert (done.status, "2 of 4 records were refused" in done.err) == (1, True)
    errors = lines(tmp_path / "fleet.jsonl.errors")
    assert [(each["deviceId"], each["errorCode"]) for each in errors] == [
        ("new", "DeviceAlreadyExists"),
        ("bad id", "ArgumentInvalid"),
    ]
    assert not (tmp_path / "fleet.jsonl.progress").exists()
    assert one.run("import", str(source), "--mode", "delete").status == 1  # "bad id"
    assert one.run("device", "show", "newer").status == 1

    source.write_text("[]\n")
    done = one.run("import", str(source))
    assert (done.status, "line 1: not a JSON object" in done.err) == (1, True)


def test_what_was_cut_short_goes_on(hubs: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    one, _ = hubs
    source, out = tmp_path / "many.jsonl", tmp_path / "out.jsonl"
    records = [{"id": f"many-{number:03}"} for number in range(250)]
    source.write_text("".join(json.dumps(each) + "\n" for each in records) + "no record\n")
    done = one.run("import", str(source))
    assert (done.status, "line 251" in done.err) == (1, True)
    progress = json.loads((tmp_path / "many.jsonl.progress").read_text())
    assert (progress["lines"], progress["records"]) == (200, 200)
    one.ok("device", "delete", "many-000")
    again = one.run("import", str(source))  # stops at the same line, and does not begin anew
    assert "going on behind line 200" in again.out
    assert one.run("device", "show", "many-000").status == 1
    source.write_text("".join(json.dumps(each) + "\n" for each in records))
    assert json.loads(one.ok("import", str(source), "--json"))["records"] == 250  # another file
    assert one.run("device", "show", "many-000").status == 0

    one.ok("export", str(out))
    whole = out.read_bytes()
    cut = whole.index(b"many-100") + 20
    (tmp_path / "out.jsonl.part").write_bytes(whole[:cut])
    assert "going on behind many-099" in one.ok("export", str(out))
    assert out.read_bytes() == whole
    (tmp_path / "out.jsonl.part").write_text("something else\n")
    done = one.run("export", str(out))
    assert (done.status, "not the beginning of an export" in done.err) == (1, True)
    assert out.read_bytes() == whole


# as ``az iot hub state export`` writes it
THUMBPRINTS = {"primaryThumbprint": None, "secondaryThumbprint": None}
STATE: dict[str, Any] = {
    "arm": {"resources": []},
    "configurations": {
        "admConfigurations": {
            "tune": {
                "id": "tune",
                "content": {"deviceContent": {"properties.desired.rpm": 800}},
                "contentType": "assignment",
                "labels": {"team": "ops"},
                "metrics": {"queries": {"all": "SELECT deviceId FROM devices"}, "results": {}},
                "priority": 7,
                "systemMetrics": {"queries": {}, "results": {}},
                "targetCondition": "tags.none = 1",
            }
        },
        "edgeDeployments": {
            "layer": {
                "id": "layer",
                "content": {"modulesContent": {"sensor": {"properties.desired.rate": 5}}},
                "etag": "MQ==",
                "labels": {},
                "metrics": {"queries": {}, "results": {}},
                "priority": 1,
                "schemaVersion": "2.0",
                "targetCondition": "",
            }
        },
    },
    "devices": {
        "st-leaf": {
            "identity": {
                "authentication": {"symmetricKey": KEYS, "type": "sas", "x509Thumbprint": THUMBPRINTS},
                "capabilities": {"iotEdge": False},
                "connectionState": "Disconnected",
                "deviceId": "st-leaf",
                "status": "disabled",
                "statusReason": "spare",
            },
            "parent": "st-edge",
            "twin": {"properties": {"desired": {"a": {"b": 1}}}, "tags": {"hall": 3}},
        },
        "st-edge": {
            "identity": {
                "authentication": {"symmetricKey": KEYS, "type": "sas", "x509Thumbprint": THUMBPRINTS},
                "capabilities": {"iotEdge": True},
                "deviceId": "st-edge",
                "status": "enabled",
            },
            "modules": {
                "$edgeAgent": {
                    "identity": {"authentication": {"type": "none"}, "moduleId": "$edgeAgent"},
                    "twin": {"properties": {"desired": {"schemaVersion": "1.1"}}},
                },
                "vision": {
                    "identity": {
                        "authentication": {"symmetricKey": KEYS, "type": "sas", "x509Thumbprint": THUMBPRINTS},
                        "managedBy": "me",
                        "moduleId": "vision",
                    },
                    "twin": {"properties": {"desired": {"zoom": 2}}, "tags": {"of": "module"}},
                },
            },
            "twin": {"properties": {"desired": {}}},
        },
    },
}


def test_a_state_file_moves_in(hubs: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    one, _ = hubs
    file = tmp_path / "state.json"
    file.write_text(json.dumps(STATE, indent=2))
    assert json.loads(one.ok("import", str(file), "--json")) == {"records": 6, "refused": 0}
    leaf = json.loads(one.ok("device", "show", "st-leaf", "--json"))
    edge = json.loads(one.ok("device", "show", "st-edge", "--json"))
    assert (leaf["status"], leaf["statusReason"]) == ("disabled", "spare")
    assert leaf["authentication"]["symmetricKey"] == KEYS
    assert leaf["deviceScope"] == edge["deviceScope"] != ""
    records = exported(one, tmp_path)
    assert records["st-leaf", None]["properties"]["desired"] == {"a": {"b": 1}}
    assert records["st-edge", "$edgeAgent"]["properties"]["desired"] == {"schemaVersion": "1.1"}
    assert records["st-edge", "vision"]["tags"] == {"of": "module"}
    assert (
        json.loads(one.ok("configuration", "show", "layer", "--json"))["content"]
        == (STATE["configurations"]["edgeDeployments"]["layer"]["content"])
    )


def exported(hub: HubProcess, folder: Path) -> dict[tuple[str, str | None], dict[str, Any]]:
    file = folder / "records.jsonl"
    hub.ok("export", str(file))
    return {(each["id"], each.get("moduleId")): each for each in lines(file)}


def test_a_state_file_moves_out_and_into_another_hub(hubs: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    one, two = hubs
    source, state, again = tmp_path / "state.json", tmp_path / "out.json", tmp_path / "again.json"
    source.write_text(json.dumps(STATE))
    one.ok("import", str(source))
    told = json.loads(one.ok("export", str(state), "--state", "--json"))
    assert (told["configurations"], stat.S_IMODE(state.stat().st_mode)) == (2, 0o600)
    found = json.loads(state.read_text())
    for name in ("st-leaf", "st-edge"):
        wanted, device = STATE["devices"][name], found["devices"][name]
        assert (device["twin"], device.get("parent")) == (wanted["twin"], wanted.get("parent"))
        assert device["identity"]["authentication"] == wanted["identity"]["authentication"]
    modules = found["devices"]["st-edge"]["modules"]
    assert modules["vision"] == STATE["devices"]["st-edge"]["modules"]["vision"]
    assert modules["$edgeAgent"]["identity"]["authentication"]["type"] == "none"
    tune, wanted_tune = (each["configurations"]["admConfigurations"]["tune"] for each in (found, STATE))
    assert {name: tune[name] for name in ("content", "labels", "priority", "targetCondition")} == {
        name: wanted_tune[name] for name in ("content", "labels", "priority", "targetCondition")
    }
    two.ok("import", str(state))
    two.ok("import", str(state), "--mode", "update")  # twice is as once
    two.ok("export", str(again), "--state")
    assert json.loads(again.read_text())["configurations"] == found["configurations"]
    second = json.loads(again.read_text())["devices"]
    assert {name: second[name] for name in found["devices"]} == found["devices"]


def test_what_a_state_file_holds_and_is_refused_is_told(hubs: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    one, _ = hubs
    file = tmp_path / "state.json"
    wrong = json.loads(json.dumps(STATE))
    wrong["devices"]["bad id"] = wrong["devices"].pop("st-leaf")
    wrong["configurations"]["admConfigurations"]["tune"]["content"] = {"deviceContent": {}}
    file.write_text(json.dumps(wrong))
    done = one.run("import", str(file))
    assert (done.status, "2 of 6 records were refused" in done.err) == (1, True)
    errors = lines(tmp_path / "state.json.errors")
    assert [each.get("deviceId") or each["configurationId"] for each in errors] == ["bad id", "tune"]
    done = one.run("import", str(file), "--mode", "delete")
    assert (done.status, "not imported in the mode delete" in done.err) == (1, True)
    wrong["devices"] = {"a": {"parent": "b", "identity": {}}, "b": {"parent": "a", "identity": {}}}
    file.write_text(json.dumps(wrong))
    assert "parents of each other: a, b" in one.run("import", str(file)).err
    file.write_text(json.dumps({"devices": {"a": {}}}))
    assert "not as such files are" in one.run("import", str(file)).err
