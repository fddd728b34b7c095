"""Import and export jobs from the command line, against a hub that may reach this machine."""

import json
import re

from cli.processes import Done, command
from conversations.container_peer import container_peer
from hubkeep.cli.client import CONNECTION_STRING_VARIABLE, TRUST_BUNDLE_VARIABLE
from hubkeep.testing import HubInThread


def test_transfers() -> None:
    with HubInThread(egress={"allow": ["127.0.0.1"]}) as hub, container_peer() as container:
        where = {
            CONNECTION_STRING_VARIABLE: hub.connection_string,
            TRUST_BUNDLE_VARIABLE: str(hub.trust_bundle),
            "HUBKEEP_CONTAINER": container.url,
        }

        def run(*arguments: str) -> Done:
            return command("transfer", *arguments, **where)

        assert "no import and export jobs" in run("list").out
        exported = run("export", "--no-keys", "--wait")
        assert exported.status == 0, exported
        assert re.search(r"^status +completed$", exported.out, re.MULTILINE)
        assert "secret" not in exported.out
        assert json.loads(container.blobs["devices.txt"])["id"] == "first-device"
        container.blobs["more.txt"] = b'{"id":"imported"}\n{"id":"bad id"}\n'
        imported = json.loads(run("import", "--blob", "more.txt", "--wait", "--json").out)
        assert (imported["status"], imported["progress"]) == ("completed", 100)
        assert b"ArgumentInvalid" in container.blobs["importErrors.log"]
        failed = run("import", "--blob", "absent.txt", "--wait")
        assert (failed.status, "404 BlobNotFound" in failed.err) == (1, True)
        assert "is cancelled" in run("cancel", imported["jobId"]).out
        assert run("show", imported["jobId"], "--json").json["status"] == "completed"
        assert [each["status"] for each in run("list", "--json").json] == ["failed", "completed", "completed"]
