"""Schemathesis over the HTTPS API of a real hub: ``python fuzz/api.py --seconds N --seed S``.

What is found is printed with a curl command: a fault of the hub, or an answer that is not as its description says.
"""

import argparse
import functools
import operator
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "tests"))

from conversations.https_peer import VERSION, request
from hubkeep.model import Permission, Policy
from hubkeep.testing import HubInThread

# A request may be as its schema wants it and still be refused for what no schema tells: an id of the body that is not
# the address's, a query that cannot be read. And an address like /configurations/testqueries is a configuration's too.
EXCLUDED = "positive_data_acceptance,allow_header_conformance"
# Without end, or always answered with 501.
LEFT_OUT = r"admin\.events|est\.(serverkeygen|fullcmc).*"


def prepare(hub: HubInThread, seconds: int) -> str:
    """What api_hooks.THERE names, and a policy that may do everything: its token."""
    every = functools.reduce(operator.or_, Permission.__members__.values())
    policy = Policy(name="everything", permissions=every, primary_key=b"p" * 32, secondary_key=b"s" * 32)
    hub.ask(hub.hub._policies.put(policy))  # there is no operation that makes one
    token = hub.token(policy=policy.name, seconds=seconds + 3600)
    hub.create_device("press-07")
    there = {
        f"/devices/press-07/modules/vision?{VERSION}": {"deviceId": "press-07", "moduleId": "vision"},
        f"/configurations/tune?{VERSION}": {"content": {"deviceContent": {"properties.desired.pace": 1}}},
        f"/jobs/v2/night?{VERSION}": {
            "type": "scheduleUpdateTwin",
            "updateTwin": {"tags": {"night": True}},
            "startTime": "2100-01-01T00:00:00Z",
        },
        "/api/events/groups/readers": {},
        f"/enrollments/press-09?{VERSION}": {"registrationId": "press-09", "attestation": {"type": "symmetricKey"}},
        f"/enrollmentGroups/line-1?{VERSION}": {"enrollmentGroupId": "line-1", "attestation": {"type": "symmetricKey"}},
    }
    for path, body in there.items():
        answer = request(hub, "PUT", path, body, token=token)
        assert answer.status == 200, answer
    return token


def run(hub: HubInThread, token: str, seconds: int, seed: int) -> int:
    """Schemathesis's exit status."""
    command = [
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"https://{hub.host_name}:{hub.hub.ports['https']}/openapi.json",
        ),
        *("--tls-verify", str(hub.trust_bundle), "--header", f"Authorization: {token}"),
        *("--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--request-timeout", "30"),
        *("--exclude-checks", EXCLUDED, "--exclude-operation-id-regex", LEFT_OUT),
        *("--max-time", str(seconds), "--seed", str(seed), "--generation-database", "none"),
        *("--warnings", "off", "--no-color", "--suppress-health-check", "all"),
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "api_hooks",
        "PYTHONPATH": os.pathsep.join((str(FOLDER), os.environ.get("PYTHONPATH", ""))),
        "HUB": f"{hub.host_name}:{hub.hub.ports['https']}",
        "HUB_TOKEN": token,
        "HUB_TRUST": str(hub.trust_bundle),
    }
    with tempfile.TemporaryDirectory() as folder:  # it leaves files where it runs
        return subprocess.run(command, env=environment, cwd=folder, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    with HubInThread() as hub:
        token = prepare(hub, arguments.seconds)
        return run(hub, token, arguments.seconds, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
