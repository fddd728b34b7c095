"""Shared access policies: made, changed, rotated and deleted while back ends use them."""

import contextlib
import json
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from cli.processes import hub_process
from conversations.https_peer import VERSION, kept_alive
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

OPENED = contextlib.ExitStack()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    with OPENED:
        yield


class BackEnd:
    """One back end on a connection of its own. Each request is signed with the key that it has now."""

    def __init__(self, hub: HubInThread, policy: str, key: bytes) -> None:
        self.policy, self.key, self._host = policy, key, hub.host_name
        self._ask = OPENED.enter_context(kept_alive(hub))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        token = sas.make(self._host, self.key, int(time.time()) + 600, self.policy)
        answer = self._ask(method, f"{path}?{VERSION}", b"" if body is None else body, token)
        return answer.status, answer.body


def owner(hub: HubInThread) -> BackEnd:
    parsed = sas.parse_connection_string(hub.connection_string)
    return BackEnd(hub, "iothubowner", parsed.key)


def made(hub: HubInThread, by: BackEnd, name: str, rights: str) -> BackEnd:
    status, policy = by.ask("PUT", f"/api/policies/{name}", {"rights": rights})
    assert status == 200, policy
    return BackEnd(hub, name, b64decode(policy["primaryKey"]))


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        yield hub


def test_a_policy_holds_what_it_was_given_and_nothing_else(hub: HubInThread) -> None:
    operator = owner(hub)
    reader = made(hub, operator, "reader", "RegistryRead")
    assert reader.ask("GET", "/devices")[0] == 200
    assert reader.ask("PUT", "/devices/d1", {"deviceId": "d1"})[0] == 401
    assert reader.ask("GET", "/api/policies")[0] == 401
    assert operator.ask("PUT", "/api/policies/reader", {"rights": "RegistryReadWrite"})[1]["rights"] == "RegistryWrite"
    assert reader.ask("PUT", "/devices/d1", {"deviceId": "d1"})[0] == 200
    assert operator.ask("PUT", "/api/policies/reader", {"rights": "ServiceConnect"})[0] == 200
    assert reader.ask("GET", "/devices")[0] == 401, "what it could before it was changed counts no more"
    assert reader.ask("GET", "/twins/d1")[0] == 200


def test_both_keys_open_while_one_is_replaced(hub: HubInThread) -> None:
    operator = owner(hub)
    primary = made(hub, operator, "rotated", "RegistryRead")
    policy = operator.ask("GET", "/api/policies/rotated")[1]
    secondary = BackEnd(hub, "rotated", b64decode(policy["secondaryKey"]))
    assert [each.ask("GET", "/devices")[0] for each in (primary, secondary)] == [200, 200]
    status, after = operator.ask("POST", "/api/policies/rotated/regenerate", {"policyKeyType": "primary"})
    assert (status, after["secondaryKey"]) == (200, policy["secondaryKey"])
    assert primary.ask("GET", "/devices")[0] == 401
    assert secondary.ask("GET", "/devices")[0] == 200
    assert BackEnd(hub, "rotated", b64decode(after["primaryKey"])).ask("GET", "/devices")[0] == 200


def test_a_deleted_policy_opens_nothing_and_says_so_to_the_operator(hub: HubInThread) -> None:
    operator = owner(hub)
    gone = made(hub, operator, "gone", "RegistryRead")
    assert gone.ask("GET", "/devices")[0] == 200
    assert operator.ask("DELETE", "/api/policies/gone")[0] == 204
    assert gone.ask("GET", "/devices")[0] == 401
    assert operator.ask("GET", "/api/policies/gone")[0] == 404
    assert operator.ask("DELETE", "/api/policies/gone")[0] == 404


@pytest.mark.parametrize(
    ("name", "rights"),
    [("x" * 65, "RegistryRead"), ("with space", "RegistryRead"), ("empty", ""), ("wrong", "RegistryRead,Everything")],
)
def test_what_is_no_policy_changes_nothing(hub: HubInThread, name: str, rights: str) -> None:
    operator = owner(hub)
    before = operator.ask("GET", "/api/policies")[1]
    status, answer = operator.ask("PUT", f"/api/policies/{name.replace(' ', '%20')}", {"rights": rights})
    assert status == 400, answer
    assert operator.ask("GET", "/api/policies")[1] == before


def test_built_in_policies_stay_and_keep_their_rights(hub: HubInThread) -> None:
    operator = owner(hub)
    assert operator.ask("DELETE", "/api/policies/iothubowner")[0] == 400
    assert operator.ask("PUT", "/api/policies/service", {"rights": "RegistryRead"})[0] == 400
    assert operator.ask("PUT", "/api/policies/service", {"rights": "ServiceConnect"})[0] == 200


def test_policies_are_as_they_were_after_a_restart(tmp_path: Any) -> None:
    with HubInThread(data=tmp_path / "data") as hub:
        made(hub, owner(hub), "kept", "RegistryRead")
        kept = owner(hub).ask("GET", "/api/policies/kept")[1]
    with HubInThread(data=tmp_path / "data") as hub:
        assert owner(hub).ask("GET", "/api/policies/kept")[1] == kept


def test_the_operators_own_commands_go_on_when_their_key_is_replaced(tmp_path: Any) -> None:
    with hub_process(tmp_path / "data", mode="serve") as hub:
        assert hub.ok("policy", "rotate", "iothubowner", "--key", "primary").startswith("HostName=")
        created = hub.ok("policy", "create", "dashboards", "--rights", "RegistryRead,ServiceConnect")
        assert "SharedAccessKeyName=dashboards" in created
        assert json.loads(hub.run("policy", "show", "dashboards", "--json").out)["rights"] == (
            "RegistryRead, ServiceConnect"
        )
        assert "dashboards" in hub.ok("policy", "list")
        again = hub.run("policy", "create", "dashboards", "--rights", "RegistryRead")
        assert (again.status, "policy update" in again.err) == (1, True)
        hub.ok("policy", "delete", "dashboards")
        assert hub.run("policy", "show", "dashboards").status == 1
