"""An example for the ``--help`` of every command; a test holds that each has one."""

from typing import Final

import typer

EXAMPLES: Final = {
    "dev": "hubkeep dev --ephemeral --listen 127.0.0.2 --host-name 127.0.0.2",
    "serve": "hubkeep serve --data /var/lib/hubkeep --host-name hub.example.net --listen 0.0.0.0",
    "demo": "hubkeep demo --seconds 20",
    "run": "hubkeep run --device press-07 -- python my_program.py",
    "monitor": "hubkeep monitor --device press-07 --property alarm=true --json",
    "query": 'hubkeep query "SELECT deviceId, tags.hall FROM devices WHERE tags.hall = 3"',
    "connection-string": "hubkeep connection-string --device press-07",
    "explain": "hubkeep explain press-07",
    "doctor": "hubkeep doctor --data /var/lib/hubkeep",
    "api": "hubkeep api --data /var/lib/hubkeep > openapi.json",
    "help": "hubkeep help differences",
    "export": "hubkeep export fleet.jsonl",
    "import": "hubkeep import fleet.jsonl --mode create",
    "backup": "hubkeep backup /backup/monday --keys-to /vault/monday --data /var/lib/hubkeep",
    "restore": "hubkeep restore /backup/monday --keys-from /vault/monday --data /var/lib/hubkeep",
    "device create": "hubkeep device create press-07",
    "device show": "hubkeep device show press-07 --json",
    "device list": "hubkeep device list --top 20",
    "device update": "hubkeep device update press-07 --secondary-thumbprint press-07-new.pem",
    "device delete": "hubkeep device delete press-07",
    "device rotate": "hubkeep device rotate press-07 press-08 --key secondary",
    "device block": "hubkeep device block press-07 --reason 'stolen from hall 3'",
    "device unblock": "hubkeep device unblock press-07",
    "device send": "hubkeep device send press-07 'open valve'",
    "device messages": "hubkeep device messages press-07",
    "device purge": "hubkeep device purge press-07",
    "device twin": "hubkeep device twin press-07 --set desired.interval=5 --tag site=hall-3",
    "device call": "hubkeep device call press-07 reboot --payload '{\"soft\": true}'",
    "module create": "hubkeep module create press-07 vision",
    "module show": "hubkeep module show press-07 vision",
    "module list": "hubkeep module list press-07",
    "module delete": "hubkeep module delete press-07 vision",
    "device files": "hubkeep device files press-07 --fetch logs/today.txt --output today.txt",
    "events show": "hubkeep events show",
    "events source list": "hubkeep events source list",
    "events source enable": "hubkeep events source enable twinChangeEvents deviceLifecycleEvents",
    "events source disable": "hubkeep events source disable twinChangeEvents",
    "events group create": "hubkeep events group create analytics",
    "events group list": "hubkeep events group list",
    "events group delete": "hubkeep events group delete analytics",
    "job create-method": "hubkeep job create-method night reboot --where 'tags.hall = 3' --start 2026-12-01T01:00:00Z",
    "job create-twin": "hubkeep job create-twin tune --where 'tags.hall = 3' --set desired.interval=5 --wait",
    "job list": "hubkeep job list --status running",
    "job show": "hubkeep job show tune --devices",
    "job cancel": "hubkeep job cancel night",
    "configuration create": "hubkeep configuration create tune --where 'tags.hall = 3' --set desired.interval=5",
    "configuration list": "hubkeep configuration list",
    "configuration show": "hubkeep configuration show tune --json",
    "configuration update": "hubkeep configuration update tune --priority 20",
    "configuration delete": "hubkeep configuration delete tune",
    "cert issue": "hubkeep cert issue press-07 --csr press-07.csr",
    "cert renew": "hubkeep cert renew press-07.pem --host hub.example.net --trust trust-bundle.pem",
    "cert list": "hubkeep cert list --device press-07",
    "cert revoke": "hubkeep cert revoke press-07.pem --reason keyCompromise",
    "cert deny": "hubkeep cert deny stolen-intermediate.pem",
    "cert allow": "hubkeep cert allow cert:0F3A...",
    "cert denied": "hubkeep cert denied",
    "cert verify": "hubkeep cert verify press-07.pem --ca plant-root.pem --device press-07",
    "cert ca create": "hubkeep cert ca create line-3 --days 30",
    "cert ca create-root": "hubkeep cert ca create-root 'Example Plant' --out /media/vault",
    "cert ca sign": "hubkeep cert ca sign line-3.csr --root root.pem --key root.key --out line-3.pem",
    "cert ca install": "hubkeep cert ca install line-3 line-3.pem",
    "cert ca crl": "hubkeep cert ca crl plant-root plant-root.crl",
    "cert ca update": "hubkeep cert ca update plant-root --allow 'press-*' --state retiring",
    "cert ca add": "hubkeep cert ca add plant-root plant-root.pem",
    "cert ca list": "hubkeep cert ca list",
    "cert ca show": "hubkeep cert ca show plant-root --json",
    "cert ca verify": "hubkeep cert ca verify plant-root --proof proof.pem",
    "cert ca delete": "hubkeep cert ca delete plant-root",
    "enroll create": "hubkeep enroll create presses --group --ca plant-root",
    "enroll list": "hubkeep enroll list --group",
    "enroll show": "hubkeep enroll show press-07 --keys",
    "enroll delete": "hubkeep enroll delete press-07",
    "enroll enable": "hubkeep enroll enable presses --group",
    "enroll disable": "hubkeep enroll disable press-07",
    "enroll records": "hubkeep enroll records presses",
    "enroll derive-key": "hubkeep enroll derive-key presses press-07",
    "enroll scope": "hubkeep enroll scope",
    "enroll hubs": "hubkeep enroll hubs",
    "token make": "hubkeep token make --device press-07 --seconds 600",
    "token inspect": "hubkeep token inspect 'SharedAccessSignature sr=...'",
}


def give_examples(app: typer.Typer, noun: str = "") -> None:
    """End the help of every command below ``app`` with its example."""
    for command in app.registered_commands:
        assert command.callback is not None, "commands are registered by their function"
        verb = command.name or command.callback.__name__
        if example := EXAMPLES.get(f"{noun} {verb}".strip()):
            command.epilog = f"Example:  {example}"
    for group in app.registered_groups:
        assert group.typer_instance is not None, "groups are registered by their app"
        give_examples(group.typer_instance, f"{noun} {group.name}".strip())
