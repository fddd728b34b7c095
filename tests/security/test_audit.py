"""The audit: every change, disclosure, log-in and refusal is told, and what was tampered with is found."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, device_token
from conversations.https_peer import VERSION, Answer, kept_alive, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect
from hubkeep.cli.main import main
from hubkeep.connection.audited import AUDITED
from hubkeep.connection.operations import BY_NAME, OPERATIONS
from hubkeep.server.audit import ChainState, Expected, verify_audit, verify_exported
from hubkeep.testing import HubInThread

KEY = "c2l4dGVlbiBieXRlcyBhdCBsZWFzdCE="  # a canary: it must be in no entry
OTHER_KEY = "YW5vdGhlciBvZiB0aGlydHktdHdvIGJ5dGVz"


def audit(hub: HubInThread, **query: object) -> list[dict[str, Any]]:
    asked = "&".join(f"{name.rstrip('_')}={value}" for name, value in query.items())
    answer = request(hub, "GET", f"/api/audit?{asked}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.body
    return found


def put(hub: HubInThread, device_id: str, key: str = KEY, status: str = "enabled", etag: str = "") -> Answer:
    keys = {"primaryKey": key, "secondaryKey": OTHER_KEY}
    body = {"deviceId": device_id, "status": status, "authentication": {"type": "sas", "symmetricKey": keys}}
    headers = {"If-Match": etag} if etag else {}
    return request(hub, "PUT", f"/devices/{device_id}?{VERSION}", body, headers=headers)


# -- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("P-T12")
def test_a_change_tells_who_what_from_where_with_what_and_from_what_to_what(
    shared_hub: HubInThread, device_id: str
) -> None:
    assert put(shared_hub, device_id).status == 200
    assert put(shared_hub, device_id, OTHER_KEY, "disabled", '"*"').status == 200
    assert request(shared_hub, "DELETE", f"/devices/{device_id}?{VERSION}").status == 204
    deleted, changed, made = audit(shared_hub, target=device_id)
    for each in (deleted, changed, made):
        assert (each["chain"], each["actor"], each["credential"]) == ("changes", "policy iothubowner", "sas primary")
        assert (each["surface"], each["target"]) == ("https", device_id)
        assert each["peer"].startswith("127.")
    assert [each["operation"] for each in (made, changed, deleted)] == ["devices/put", "devices/put", "devices/delete"]
    assert [each["outcome"] for each in (made, changed, deleted)] == ["200", "200", "204"]
    assert made["detail"] == "status: enabled; authentication: sas; primary key: set; secondary key: set"
    assert changed["detail"] == "status: enabled to disabled; primary key: replaced"


def test_an_attempt_that_is_refused_is_told_with_its_tracking_id(shared_hub: HubInThread, device_id: str) -> None:
    refused = put(shared_hub, device_id, etag='"no such version"')
    assert refused.status == 404
    (attempt,) = audit(shared_hub, target=device_id)
    assert attempt["outcome"] == "404001 DeviceNotFound"
    (refusal,) = [each for each in audit(shared_hub, chain="refusals") if each["trackingId"] == attempt["trackingId"]]
    assert refusal["outcome"] == attempt["outcome"]
    assert refusal["trackingId"] in refused.body["ExceptionMessage"]


def test_a_refused_log_in_is_told_with_its_reason(shared_hub: HubInThread, device_id: str) -> None:
    token = shared_hub.token(f"devices/{device_id}", key=b"not the key of this device")
    with MqttPeer(shared_hub) as peer:
        peer.send(connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), token))
        assert peer.read() == (0x20, b"\0\5")
    (refusal,) = audit(shared_hub, chain="refusals", actor=device_id)
    assert (refusal["surface"], refusal["operation"]) == ("mqtt", "mqtt/connect")
    assert "not registered" in refusal["detail"]


def test_each_connection_that_logs_in_is_told_once(shared_hub: HubInThread, device_id: str) -> None:
    token = device_token(shared_hub, device_id)
    for _ in range(2):
        with MqttPeer(shared_hub) as peer:
            peer.send(connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), token))
            assert peer.read() == (0x20, b"\0\0")
    with AmqpPeer(shared_hub).opened() as amqp:
        amqp.authorised(token)
    with kept_alive(shared_hub) as ask:
        for _ in range(3):
            shared_hub.clock.move(2)  # the connection remembers nothing any more
            assert ask("POST", f"/devices/{device_id}/messages/events?{VERSION}", b"x", token).status == 204
    logins = audit(shared_hub, chain="logins", actor=device_id)
    assert [each["surface"] for each in logins] == ["https", "amqp", "mqtt", "mqtt"]
    assert {(each["operation"], each["credential"], each["target"], each["outcome"]) for each in logins} == {
        ("login", "sas primary", device_id, "accepted")
    }
    assert len({each["peer"] for each in logins}) == 4


def test_answers_that_hold_keys_are_told_and_hold_none_there(shared_hub: HubInThread, device_id: str) -> None:
    put(shared_hub, device_id)
    request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}")
    request(shared_hub, "GET", "/api/policies/service")
    told = audit(shared_hub, chain="disclosures", most=2)
    assert {(each["operation"], each["target"], each["outcome"]) for each in told} == {
        ("admin/policies/get", "service", "asked"),  # before anything is shown
        ("devices/get", device_id, "200"),
    }
    everything = json.dumps(audit(shared_hub, most=1000))
    assert KEY not in everything
    assert OTHER_KEY not in everything


def test_rights_that_a_policy_gains_are_told(shared_hub: HubInThread) -> None:
    for rights in ("RegistryRead", "RegistryRead, ServiceConnect"):
        assert request(shared_hub, "PUT", "/api/policies/widened", {"rights": rights}).status == 200
    changed, made = audit(shared_hub, target="widened", operation="admin/policies/put")
    assert made["detail"].startswith("rights: RegistryRead; primary key: set")
    assert changed["detail"] == "rights: RegistryRead to RegistryRead, ServiceConnect"


def test_messages_to_devices_and_method_calls_are_told_apart_from_changes(
    shared_hub: HubInThread, device_id: str
) -> None:
    put(shared_hub, device_id)
    assert request(shared_hub, "POST", f"/devices/{device_id}/messages/devicebound?{VERSION}", b"x").status == 204
    call = {"methodName": "reboot", "responseTimeoutInSeconds": 5}
    assert request(shared_hub, "POST", f"/twins/{device_id}/methods?{VERSION}", call).status == 404
    told = audit(shared_hub, chain="commands", target=device_id)
    assert [(each["operation"], each["outcome"]) for each in told] == [
        ("methods/invoke", "404103 DeviceNotOnline"),
        ("devicebound/send", "204"),
    ]


def test_pages_of_either_order_hold_every_entry_once(shared_hub: HubInThread, device_id: str) -> None:
    for number in range(5):
        put(shared_hub, f"{device_id}-{number}")
    for order in ("newest", "oldest"):
        found: list[dict[str, Any]] = []
        page = 0
        while more := audit(shared_hub, operation="devices/put", order=order, most=2, page=page):
            assert len(more) <= 2
            found += more
            page = more[-1]["number"]
        numbers = [each["number"] for each in found]
        assert numbers == sorted(numbers, reverse=order == "newest")
        assert len({each["target"] for each in found if each["target"].startswith(f"{device_id}-")}) == 5


def test_entries_of_a_time_are_found(shared_hub: HubInThread, device_id: str) -> None:
    put(shared_hub, device_id)
    (entry,) = audit(shared_hub, target=device_id)
    assert audit(shared_hub, target=device_id, from_=entry["time"]) == [entry]
    assert audit(shared_hub, target=device_id, to=entry["time"]) == []


@pytest.mark.parametrize("query", ["chain=x", "order=x", "most=0", "most=1001", "from=yesterday", "page=-1"])
def test_what_cannot_be_asked_is_refused(shared_hub: HubInThread, query: str) -> None:
    assert request(shared_hub, "GET", f"/api/audit?{query}").status == 400


def test_the_hash_is_what_the_documentation_says(shared_hub: HubInThread, device_id: str) -> None:
    put(shared_hub, device_id)
    (entry,) = audit(shared_hub, target=device_id)
    names = [
        "chain",
        "milliseconds",
        "actor",
        "credential",
        "surface",
        "peer",
        "operation",
        "target",
        "outcome",
        "detail",
        "trackingId",
    ]
    array = [entry["sequence"], *(entry[name] for name in names)]
    text = json.dumps(array, separators=(",", ":"), ensure_ascii=False)
    assert sha256(bytes.fromhex(entry["previous"]) + text.encode()).hexdigest() == entry["hash"]


def test_the_oldest_of_a_full_chain_go_and_the_others_stay_whole(tmp_path: Path) -> None:
    with HubInThread(tmp_path, limits={"audit_disclosures": 3}) as hub:
        hub.create_device("pump")
        for _ in range(8):
            request(hub, "GET", f"/devices/pump?{VERSION}")
            audit(hub)
        kept = audit(hub, chain="disclosures")
        assert [each["sequence"] for each in kept] == [8, 7, 6]
        (head,) = [each for each in request(hub, "GET", "/api/audit/heads").body if each["chain"] == "disclosures"]
        assert (head["sequence"], head["dropped"], head["hash"]) == (8, 5, kept[0]["hash"])
        assert not any(each.breaks for each in verify_audit(tmp_path))  # while the hub runs, too


def test_nothing_that_writes_is_left_out() -> None:
    """What the audit leaves out, said a second time: an operation that is added here or there wants a thought."""
    left_out = {each.name for each in OPERATIONS if each.surface == "https"} - AUDITED.keys()
    writing = {name for name in left_out if not BY_NAME[name].address.startswith("GET ")}
    of_devices = {"events/", "devicebound/settle", "devicebound/abandon", "files/"}
    of_readers = {"feedback/", "filenotifications/"}
    asking = {"devices/query", "enrolments/query", "groups/query", "registrations/query", "registrations/own"}
    asking |= {"configurations/test", "admin/access/preview", "revocation/ask"}
    never_done = {"est/serverkeygen", "est/fullcmc"}
    own_session = {"people/logout"}  # it ends a browser's session, and may only be sent by its own page
    prefixes = (*of_devices, *of_readers, *asking, *never_done, *own_session)
    assert [name for name in writing if not name.startswith(prefixes)] == []
    assert {name for name, each in AUDITED.items() if BY_NAME[name].address.startswith("GET ")} == {
        *("devices/list", "devices/get", "modules/list", "modules/get"),
        *("admin/identities", "admin/policies", "admin/policies/get"),
    }


# -- what is tampered with -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with ten changes after the start: sequences 1 to 12."""
    data = tmp_path_factory.mktemp("recorded")
    with HubInThread(data) as hub, kept_alive(hub) as ask:
        for number in range(10):
            ask("PUT", f"/devices/d{number}?{VERSION}", {"deviceId": f"d{number}"}, hub.token())
    return data


@pytest.fixture
def data(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "copy"))


def changes(data: Path, *expected: Expected) -> ChainState:
    (state,) = [each for each in verify_audit(data, expected) if each.chain == "changes"]
    return state


def tamper(data: Path, *statements: str) -> None:
    registry = sqlite3.connect(data / "registry.db")
    with registry:
        registry.execute("DROP TRIGGER IF EXISTS audit_stays")
        for each in statements:
            assert registry.execute(each).rowcount > 0
    registry.close()


def test_an_untouched_audit_is_whole(data: Path) -> None:
    states = verify_audit(data)
    assert [each.breaks for each in states] == [()] * len(states)
    assert {"changes", "logins"} <= {each.chain for each in states}
    assert (changes(data).first, changes(data).last) == (1, 12)


SWAP = (
    "UPDATE audit SET sequence = -6 WHERE chain = 'changes' AND sequence = 6",
    "UPDATE audit SET sequence = 6 WHERE chain = 'changes' AND sequence = 7",
    "UPDATE audit SET sequence = 7 WHERE chain = 'changes' AND sequence = -6",
)


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["UPDATE audit SET actor = 'policy service' WHERE sequence = 5"], ["entry 5 was changed or moved"]),
        (["UPDATE audit SET time = time + 1 WHERE sequence = 12"], ["entry 12 was changed or moved"]),
        (["DELETE FROM audit WHERE chain = 'changes' AND sequence = 5"], ["entry 5 is missing"]),
        (["DELETE FROM audit WHERE chain = 'changes' AND sequence = 1"], ["entry 1 is missing"]),
        (["DELETE FROM audit WHERE chain = 'changes' AND sequence > 10"], ["entries 11 to 12 are missing at the end"]),
        (["DELETE FROM audit WHERE chain = 'changes'"], ["entries 1 to 12 are missing at the end"]),
        (SWAP, ["entry 6 was changed or moved", "entry 7 was changed or moved"]),
        (
            ["DELETE FROM audit WHERE chain = 'changes'", "DELETE FROM audit_head WHERE chain = 'changes'"],
            ["its sealed end is gone, or it never began"],
        ),
        (
            ["UPDATE audit_head SET sealed = (SELECT sealed FROM audit_head WHERE chain = 'logins')"],
            ["its end was not sealed by this hub: the sealed audit/changes is damaged or was moved"],
        ),
    ],
    ids=[
        "changed",
        "last-changed",
        "removed",
        "first-removed",
        "truncated",
        "emptied",
        "reordered",
        "wiped",
        "resealed",
    ],
)
@pytest.mark.spec("P-T12", "P-T38")
def test_tampering_is_found_where_it_was_done(data: Path, statements: list[str], found: list[str]) -> None:
    tamper(data, *statements)
    assert list(changes(data).breaks)[: len(found)] == found


def rewritten(data: Path) -> None:
    """An entry of the middle and all hashes behind it, as somebody does who knows how they are made."""
    from hubkeep.model import AuditEntry, entry_hash

    registry = sqlite3.connect(data / "registry.db")
    registry.execute("DROP TRIGGER audit_stays")
    registry.execute("UPDATE audit SET actor = 'policy service' WHERE chain = 'changes' AND sequence = 5")
    names = AuditEntry.__struct_fields__
    query = f"SELECT sequence, previous, {', '.join(names)} FROM audit WHERE chain = 'changes' ORDER BY sequence"
    previous = b""
    for sequence, old, *members in registry.execute(query).fetchall():
        previous = previous or old
        digest = entry_hash(previous, sequence, AuditEntry(**dict(zip(names, members, strict=True))))
        place = (previous, digest, sequence)
        registry.execute("UPDATE audit SET previous = ?, hash = ? WHERE chain = 'changes' AND sequence = ?", place)
        previous = digest
    registry.commit()
    registry.close()


def test_a_chain_that_was_made_anew_does_not_meet_its_sealed_end(data: Path) -> None:
    rewritten(data)
    assert list(changes(data).breaks) == ["entry 12 is not the one at which the hub sealed the end"]


def test_an_older_state_put_back_does_not_meet_an_end_noted_before(recorded: Path, data: Path) -> None:
    with HubInThread(data) as hub:
        hub.create_device("later")
        (end,) = [each for each in request(hub, "GET", "/api/audit/heads").body if each["chain"] == "changes"]
    noted = Expected("changes", end["sequence"], bytes.fromhex(end["hash"]))
    assert changes(data, noted).breaks == ()
    assert changes(recorded).breaks == ()  # by itself, the older state is whole
    assert list(changes(recorded, noted).breaks) == [f"entry {end['sequence']}, expected from before, is not there"]


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM audit WHERE chain = 'changes' AND sequence > 10"],
        ["DELETE FROM audit_head WHERE chain = 'changes'"],
        ["UPDATE audit_head SET sealed = x'00' WHERE chain = 'changes'"],
    ],
    ids=["truncated", "without-end", "forged-end"],
)
def test_a_hub_that_goes_on_writing_does_not_mend_a_broken_chain(data: Path, statements: list[str]) -> None:
    tamper(data, *statements)
    with HubInThread(data) as hub:
        assert put(hub, "afterwards").status == 200
    state = changes(data)
    assert state.entries >= 12
    assert any("missing" in each for each in state.breaks)


def test_the_file_refuses_to_change_an_entry(data: Path) -> None:
    registry = sqlite3.connect(data / "registry.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        registry.execute("UPDATE audit SET actor = 'somebody else'")
    registry.close()


# -- commands --------------------------------------------------------------------------------------------------------


class Commands:
    """Runs the command in this process: a dozen new ones would take longer than all other tests here."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[object, str, str]:
        """Exit status, output, errors."""
        with pytest.raises(SystemExit) as ended:
            main(["audit", *arguments])
        return (ended.value.code or 0, *self._capsys.readouterr())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


def test_the_commands_list_export_and_verify(tmp_path: Path, data: Path, run: Commands) -> None:
    exported, at = tmp_path / "audit.jsonl", f"--data={data}"
    with HubInThread(data):
        _, out, _ = run("list", "--operation", "devices/put", "--most", "3", "--json", at)
        assert [each["target"] for each in json.loads(out)] == ["d9", "d8", "d7"]
        assert "devices/put d3: 200" in run("list", "--target", "d3", at)[1]
        assert run("export", str(exported), "--chain", "changes", at)[0] == 0
        assert run("verify", at)[0] == 0
    status, out, _ = run("verify", str(exported))
    assert status == 0
    end = next(line.split()[1] for line in out.splitlines() if line.startswith("  end"))
    assert run("verify", at, "--expect", end)[0] == 0
    exported.write_text(exported.read_text().replace('"target": "d4"', '"target": "d5"'))
    assert [each.breaks for each in verify_exported(exported.read_text().splitlines())] == [
        ("entry 6 was changed or moved",)
    ]
    tamper(data, "DELETE FROM audit WHERE chain = 'changes' AND sequence = 4")
    status, out, err = run("verify", at)
    assert status == 1
    assert "entry 4 is missing" in out
    assert "the audit is broken: changes" in err


def test_a_directory_without_audit_is_told_apart_from_a_whole_one(tmp_path: Path, run: Commands) -> None:
    assert run("verify", f"--data={tmp_path}")[0] == 1
