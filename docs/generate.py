"""Write docs/reference from the code: ``python docs/generate.py``. With --check: status 1 if a page is not current."""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pydantic
import typer

from hubkeep import limits
from hubkeep.causes import GROUPS
from hubkeep.cli.main import app
from hubkeep.cloud.posture.check import Outcome
from hubkeep.cloud.posture.checks import CHECKS
from hubkeep.cloud.posture.commands import commands_of
from hubkeep.connection.actions import ACTIONS
from hubkeep.connection.https.api import openapi_document
from hubkeep.connection.mqtt import topics
from hubkeep.connection.operations import OPERATIONS
from hubkeep.errors import (
    BUG,
    ON_WIRE,
    BadApiVersion,
    BadRequest,
    Forbidden,
    FormatError,
    HubError,
    MessageTooLarge,
    NotFound,
    RequestTimeout,
    StoreUnavailable,
    Unauthorized,
    UnsupportedEncoding,
    on_wire,
)
from hubkeep.limits import Limit, Limits
from hubkeep.model import Permission
from hubkeep.query import JOB_ROOTS, TWIN_ROOTS
from hubkeep.query.functions import QUERY_FUNCTIONS, ROUTING_FUNCTIONS
from hubkeep.query.parser import NESTING
from hubkeep.query.tree import Source
from hubkeep.settings import Settings
from hubkeep.token_service.settings import TokenServiceSettings

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/generate.py. Change the code, not this page. -->"
ALL = Permission.REGISTRY_WRITE | Permission.SERVICE_CONNECT | Permission.DEVICE_CONNECT
SURFACES = {"https": "HTTPS", "blobs": "HTTPS, as a storage account", "mqtt": "MQTT", "amqp": "AMQP"}


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(heads)]
    lines += [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    text = [f"| {' | '.join(line)} |" for line in lines]
    text.insert(1, "|" + " --- |" * len(lines[0]))
    return "\n".join(text)


def first_line(text: str | None) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


# Candidates: the page lists those that the code grants.
FILTERS = (
    "devices/{device}/messages/devicebound/#",
    "devices/{device}/modules/{module}/messages/devicebound/#",
    "devices/{device}/modules/{module}/inputs/#",
    "devices/{device}/modules/{module}/#",
    "$iothub/methods/POST/#",
    "$iothub/methods/POST/{method}/#",
    "$iothub/twin/res/#",
    "$iothub/twin/PATCH/properties/desired/#",
)


# -- the pages -------------------------------------------------------------------------------------------------------


def errors() -> Iterator[str]:
    yield (
        "# Errors\n\n"
        "What a peer gets when the hub refuses something, on each surface. It never learns more: the reason and what would\n"
        "mend it are kept for the operator, `hubkeep explain TRACKING-ID` shows them, and `hubkeep explain CODE` this entry.\n\n"
        'HTTPS answers carry a JSON body `{"Message": "ErrorCode:NAME;text", "ExceptionMessage": "Tracking ID:..."}` and the\n'
        "header `iothub-errorcode`. AMQP refusals carry the condition, the text and the tracking id. MQTT 3.1.1 has the return\n"
        "code of CONNACK alone; after it the connection is closed. MQTT 5 has the reason in CONNACK and DISCONNECT."
    )
    rows = sorted(ON_WIRE.items(), key=lambda item: (item[1].number, item[0].__name__))
    yield table(
        ("Number", "Name", "HTTP", "AMQP condition", "CONNACK", "MQTT 5", "Text", "When"),
        [
            (
                row.number,
                row.name,
                row.http,
                f"`{row.amqp}`",
                row.connack,
                f"0x{row.mqtt5:02X}",
                kind.text,
                meaning(kind),
            )
            for kind, row in rows
        ],
    )
    yield (
        f"Anything else is a fault of the hub: HTTP {BUG.http}, number {BUG.number} {BUG.name}, `{BUG.amqp}`, "
        "without any detail. The hub's log has it."
    )


def causes() -> Iterator[str]:
    yield (
        "# Causes\n\n"
        "Why something was refused, by name. The peer never learns it; each recorded refusal has it for the operator, with the\n"
        "words for that one case and what would mend it: `hubkeep explain` (`cause` with `--json`). `hubkeep explain NAME`\n"
        "prints the entry. Names stay what they are from version to version."
    )
    for group, rows in GROUPS.items():
        yield f"## {group}"
        yield table(
            ("Cause", "Means", "Mended by"), [(f"`{name}`", each.means, each.cure) for name, each in rows.items()]
        )


def meaning(kind: type[HubError]) -> str:
    """The class's own docstring, without what is for readers of the code; inherited ones say nothing of it."""
    own = first_line(kind.__dict__.get("__doc__"))
    return own.split(" ``")[0] if own.startswith("A rate") else own.replace("``", "`")


def limits_page() -> Iterator[str]:
    yield (
        "# Limits\n\n"
        "Each has a default, a unit and a source. Those with a name in the last column can be changed in the settings, for\n"
        "example `[limits]` `connect_within = 20` in the file that `--config` names, or `HUBKEEP_LIMITS__CONNECT_WITHIN=20`.\n"
        'Sources like L-L4 are rows of the project\'s specification; "ours" is our own choice.'
    )
    settable = {each.upper() for each in Limits.__slots__}
    rows = [(name, value) for name, value in vars(limits).items() if isinstance(value, Limit)]
    yield table(
        ("Limit", "Default", "Unit", "Source", "Setting"),
        [
            (
                name,
                f"{limit.value:,}",
                limit.unit,
                limit.source,
                f"`limits.{name.lower()}`" if name in settable else "",
            )
            for name, limit in rows
        ],
    )


def settings() -> Iterator[str]:
    yield (
        "# Settings\n\n"
        "From the strongest to the weakest: options of the command, environment variables, the TOML file that `--config` names,\n"
        "the defaults. They are checked once at the start; every fault is named. An unknown name is a fault.\n\n"
        "```toml\n"
        "# hubkeep.toml\n"
        'host_names = ["hub.example.com"]\n\n'
        "[listeners]\n"
        'address = "0.0.0.0"\n\n'
        "[events]\n"
        "retention_hours = 72\n"
        "```\n\n"
        "As a variable, `events.retention_hours` is `HUBKEEP_EVENTS__RETENTION_HOURS`."
    )
    rows = [(f"`{name}`", *rest) for name, *rest in _settings(Settings, "")]
    yield table(("Setting", "Values", "Default", "Meaning"), rows)
    yield "`limits.NAME` changes a limit: [limits.md](limits.md)."
    yield "## Of the token service"
    yield (
        "`hubkeep token-service` is another process with a file of its own. As a variable, `hub.connection_string` is\n"
        "`HUBKEEP_TOKENS_HUB__CONNECTION_STRING`. How it is used: [token-service.md](../operating/token-service.md)."
    )
    rows = [(f"`{name}`", *rest) for name, *rest in _settings(TokenServiceSettings, "")]
    yield table(("Setting", "Values", "Default", "Meaning"), rows)


def _settings(model: type[pydantic.BaseModel], before: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            yield from _settings(inner, f"{before}{name}.")
            continue
        kind = _kind(inner)
        bounds = [str(each).replace("Ge(ge=", "at least ").replace("Le(le=", "at most ") for each in field.metadata]
        bounds = [each.replace("Gt(gt=", "over ").rstrip(")") for each in bounds]
        default = field.default
        shown = ", ".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
        yield before + name, ", ".join((kind, *bounds)), f"`{shown}`" if shown else "none", field.description or ""


def _kind(annotation: Any) -> str:
    """A type as people write it: ``tuple[str, ...]`` is a list of text."""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Literal:
        return f"list of {_kind(get_args(annotation)[0])}"
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false", "Path": "path"}
    names = [words.get(getattr(each, "__name__", ""), "none") for each in get_args(annotation) or (annotation,)]
    if get_origin(annotation) is tuple:
        return f"list of {names[0]}"
    return " or ".join(names)


def operations() -> Iterator[str]:
    yield (
        "# Operations and permissions\n\n"
        "Everything that anybody may ask of the hub, and the permission that it needs. What is not in this table is refused.\n"
        "Where a cell lists several permissions, one of them is enough. `{device}`, `{module}`: the credential must open that\n"
        "identity. People: the data action that a [role](../operating/people.md) must hold; what has none is closed to them.\n\n"
        "The five built-in policies: `iothubowner` (all four permissions), `service` (SERVICE_CONNECT), `device`\n"
        "(DEVICE_CONNECT), `registryRead` (REGISTRY_READ), `registryReadWrite` (REGISTRY_WRITE, which implies reading)."
    )
    for surface, title in SURFACES.items():
        yield f"## {title}"
        yield table(
            ("Operation", "Address", "Permission", "People", "Note"),
            [
                (
                    row.name,
                    f"`{row.address}`",
                    " or ".join(map(permission, row.any_of)) or "none",
                    actions_of(row.name) if row.any_of else "",
                    row.note,
                )
                for row in OPERATIONS
                if row.surface == surface
            ],
        )


def actions_of(operation: str) -> str:
    """What a role must hold; empty for what is closed to people."""
    actions = ACTIONS.get(operation)
    return "" if actions is None else " and ".join(f"`{each}`" for each in actions) or "anybody"


def permission(needed: Permission) -> str:
    if needed == ALL:
        return "all four"
    return str(needed.name)


def mqtt() -> Iterator[str]:
    yield (
        "# MQTT\n\n"
        "MQTT 3.1.1 over TLS on port 8883, and in WebSockets on port 443 at `/$iothub/websocket` (subprotocol `mqtt`). The hub is\n"
        "no broker: a device speaks with the hub alone, and nothing is retained.\n\n"
        "| CONNECT | |\n| --- | --- |\n"
        "| Client id | `{device}` or `{device}/{module}` |\n"
        "| User name | `{host}/{client id}/?api-version=2021-04-12`; older and shorter forms are taken too |\n"
        "| Password | a shared access signature for `{host}/devices/{device}`, signed with one of the device's two keys |\n"
        "| Will | to the device's own telemetry topic, QoS 0 or 1; it becomes telemetry with `iothub-MessageType` = `Will` |\n"
        "| Clean session | 0 keeps the subscriptions for the next connection |"
    )
    yield "## Topics to publish to"
    yield table(
        ("Topic", "What for"),
        [
            (f"`{topics.telemetry_topic('{device}', '').decode()}/{{properties}}`", "telemetry; QoS 0 or 1"),
            (f"`{topics.telemetry_topic('{device}', '{module}').decode()}/{{properties}}`", "telemetry of a module"),
        ],
    )
    yield "Any other topic, another identity's topic, and QoS 2 end the connection without an acknowledgement."
    yield "## Filters to subscribe to"
    yield "\n".join(
        f"- `{each}`" for each in FILTERS if topics.may_subscribe(each.encode(), "{device}", _module_in(each))
    )
    yield (
        "Compared letter by letter: `#` and `+` may be part of a device's id. Another filter ends the connection, or is answered\n"
        "with 0x80 where `lenient_subscriptions` is on."
    )
    yield "## A device that registers"
    yield (
        "The provisioning service is on the same ports. CONNECT names it: client id `{registration}`, user name\n"
        "`{id scope}/registrations/{registration}/api-version=2019-03-31`, as password a token for\n"
        "`{id scope}/registrations/{registration}` or none beside a client certificate. No will, no session that lasts, ten\n"
        "minutes at most."
    )
    yield table(
        ("Topic", "What for"),
        [
            ("`$dps/registrations/res/#`", "the one filter to subscribe to; others are answered with 0x80"),
            ("`$dps/registrations/PUT/iotdps-register/?$rid={rid}`", "publish to it to register"),
            (
                "`$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={id}`",
                "publish to it to ask how that ended",
            ),
            ("`$dps/registrations/res/{status}/?$rid={rid}&retry-after={seconds}`", "the answer, behind the PUBACK"),
        ],
    )
    yield "## Properties in the topic"
    yield (
        "`name=value` joined by `&`, each percent-encoded; `+` is a plus. A name without `=` has no value. These names are\n"
        "system properties, all others application properties:"
    )
    system = {**topics._SYSTEM, "$.exp": "absolute_expiry"}
    yield table(
        ("Name", "Property"), [(f"`{name}`", field.replace("_", " ")) for name, field in sorted(system.items())]
    )
    yield "RETAIN shows as the application property `mqtt-retain` = `true`, DUP as `mqtt-dup` = `true`."
    yield "## Return codes of CONNACK"
    yield table(
        ("Code", "When"),
        [
            (0, "accepted"),
            (1, "a protocol level older than 3.1.1"),
            (2, "no client id, or one that cannot be an identity's"),
            (3, "the hub cannot now; or a disabled identity with a good credential. Clients try again"),
            (
                5,
                "no credential, or one that proves nothing: unknown identity, wrong key, expired. One code for all of them",
            ),
        ],
    )


def _module_in(topic_filter: str) -> str:
    return "{module}" if "{module}" in topic_filter else ""


def queries() -> Iterator[str]:
    yield (
        "# Queries and conditions\n\n"
        "Two languages with the same expressions: queries over devices, modules and jobs, and conditions over messages. A fault is\n"
        "told with its place. Which operations take them in this version: [operations.md](operations.md)."
    )
    yield (
        "## Queries\n\n"
        "```sql\n"
        "SELECT [TOP n] * | path [AS name], COUNT() | AVG(path) | SUM(path) | MIN(path) | MAX(path) [AS name], ...\n"
        f"FROM {' | '.join(get_args(Source))}\n"
        "[WHERE expression] [GROUP BY path, ...]\n"
        "```\n\n"
        "From `devices.jobs` only `*` can be selected. Built-in names are found in any case, names of your own as they are\n"
        "written. Built-in names of devices and modules: "
        + ", ".join(f"`{each}`" for each in TWIN_ROOTS.values())
        + ". Of jobs: "
        + ", ".join(f"`{each}`" for each in JOB_ROOTS.values())
        + "."
    )
    yield (
        "## Expressions\n\n"
        "Literals (`'text'`, numbers, `true`, `false`, `null`, `undefined`), paths (`tags.site`, `list[0]`, `name.[[any key]]`),\n"
        "`= != <> < <= > >=`, `+ - * / %`, `||`, `AND`, `OR`, `NOT`, `IN [...]`, `NIN [...]`, and functions. What is not there\n"
        f"is undefined, and a comparison with it does not hold. Nesting: at most {NESTING} levels."
    )
    yield "Functions of queries: " + ", ".join(f"`{each}`" for each in sorted(QUERY_FUNCTIONS)) + "."
    yield "Functions of conditions: " + ", ".join(f"`{each}`" for each in sorted(ROUTING_FUNCTIONS)) + "."


# Refusals that a credential, an address or a body brings with it: not repeated at each operation.
EVERYWHERE = {
    str(on_wire(kind()).number)
    for kind in (
        *(BadRequest, BadApiVersion, FormatError, Unauthorized, Forbidden, NotFound, RequestTimeout, MessageTooLarge),
        *(UnsupportedEncoding, StoreUnavailable),
    )
}


def api() -> Iterator[str]:
    """From the same document that the hub serves."""
    document = openapi_document()
    yield (
        "# The HTTPS API\n\n"
        "Made from the OpenAPI 3.1 document that every hub serves at `GET /openapi.json` (`hubkeep api` prints it); tests hold\n"
        "the hub against it.\n\n" + document["info"]["description"].strip() + "\n\n"
        "Not repeated below: what every credential, address and body may be refused for: "
        + ", ".join(sorted(EVERYWHERE))
        + ". The numbers: [errors.md](errors.md)."
    )
    for tag in document["tags"]:
        yield f"## {tag['name']}"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _api_operation(f"{method.upper()} {path}", operation)
    yield "## Shapes"
    yield "A member with a question mark may be left out."
    for name, schema in document["components"]["schemas"].items():
        yield f"### {name}"
        if text := schema.get("description"):
            yield text
        required = set(schema.get("required", ()))
        rows = [
            (f"`{member}`" + ("" if member in required else "?"), _shape(inner), inner.get("description", ""))
            for member, inner in schema.get("properties", {}).items()
        ]
        yield table(("Member", "Values", "Meaning"), rows)


def _api_operation(address: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {address}"
    rights = [
        " and ".join(words) or "the device's certificate" for each in operation["security"] for words in each.values()
    ]
    needs = f"Needs {' or '.join(rights)}." if rights else "Open to anybody."
    yield f"{operation['summary']}. {operation.get('description', '')} {needs}".replace("  ", " ")
    rows = [
        (
            f"`{each['name']}`" + ("" if each.get("required") else "?"),
            each["in"],
            _shape(each["schema"]),
            each["description"],
        )
        for each in operation.get("parameters", ())
    ]
    if (body := operation.get("requestBody")) is not None:
        for media, content in body["content"].items():
            name = "body" if body["required"] else "body?"
            rows.append((name, f"`{media}`", _shape(content.get("schema", {})), body["description"]))
    if rows:
        yield table(("Parameter", "In", "Values", "Meaning"), rows)
    yield "\n".join(_api_answers(operation["responses"]))


def _api_answers(responses: dict[str, Any]) -> Iterator[str]:
    document = openapi_document()
    refused: list[str] = []
    for status, given in responses.items():
        name = given.get("$ref", "").rpartition("/")[2]
        response = document["components"]["responses"][name] if name else given
        text, _, refusals = response["description"].partition("- ")
        refused += re.findall(r"\d{6} `\w+`", f"- {refusals}")
        if text:
            shapes = [_shape(content.get("schema", {})) for content in response.get("content", {}).values()]
            shapes = [each.removesuffix(" or Refusal") for each in shapes]
            yield f"- {status}: {' '.join(text.split())} {', '.join(each for each in shapes if each != 'anything')}".rstrip()
    if own := [each for each in dict.fromkeys(refused) if each.partition(" ")[0] not in EVERYWHERE]:
        yield f"- refused: {', '.join(own)}"


def _shape(schema: dict[str, Any]) -> str:
    """A JSON Schema as people write it."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_shape(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"] if each != "")
    kind = {"string": "text", "integer": "whole number", "boolean": "`true`, `false`", "object": "object"}.get(
        schema.get("type", ""), schema.get("type", "anything")
    )
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        return f"{kind}, at most {schema['maxLength']} characters"
    return kind


def cli() -> Iterator[str]:
    yield (
        "# Commands\n\n"
        "Commands find the hub by the data directory (`--data`, default `.hubkeep`), or by `--connection-string` or\n"
        "`HUBKEEP_CONNECTION_STRING` anywhere else. Errors go to standard error with cause and cure. Exit status: 0 it worked,\n"
        "1 it failed, 2 it was misused, 3 the hub cannot be reached."
    )
    root = typer.main.get_command(app)
    yield from _commands(root, ["hubkeep"])


def _commands(command: Any, path: list[str]) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is not None:
        if command.invoke_without_command and len(path) > 1:
            yield from _command(command, path)
        for name, each in inner.items():
            yield from _commands(each, [*path, name])
        return
    yield from _command(command, path)


def _command(command: Any, path: list[str]) -> Iterator[str]:
    context = typer.Context(command, info_name=path[-1])
    yield f"## {' '.join(path)}"
    yield first_line(command.help)
    rows = []
    usage = [*path]
    for each in command.get_params(context):
        if each.param_type_name == "argument":
            name = (each.metavar or each.name.upper()).strip("[]")
            usage.append(name if each.required else f"[{name}]")
            rows.append((f"`{name}`", getattr(each, "help", "") or ""))
        elif "--help" not in each.opts:
            names = ", ".join(f"`{option}`" for option in (*each.opts, *each.secondary_opts))
            default = each.default
            text = (getattr(each, "help", "") or "").strip()
            has_default = default not in (None, False, (), []) and not callable(default)
            rows.append((names, f"{text} Default: `{default}`." if has_default else text))
    yield f"`{' '.join(usage)}`"
    if rows:
        yield table(("Option", "Meaning"), rows)


def posture() -> Iterator[str]:
    yield (
        "# Checks of the posture report\n\n"
        "`hubkeep posture` looks at these, each over the hub's own state. What a check cannot tell is *unknown*, never good.\n"
        "Severity rises one step where misuse was seen. Cost of the remedy: S below an hour, M below a day, L a project, F firmware\n"
        "or a visit. [operating/posture.md](../operating/posture.md) walks through them, and tells how findings are weighed."
    )
    for area, title in (("device", "Device"), ("connection", "Connection"), ("cloud", "Cloud")):
        rows = [each for each in CHECKS if each.area == area]
        yield f"## {title} security"
        yield table(
            ("Check", "Finds", "Severity", "Risk", "Remedy", "Cost", "Commands"),
            [
                (
                    each.id,
                    each.title,
                    each.severity,
                    each.rationale,
                    "; ".join(each.remedy),
                    each.cost,
                    "<br>".join(f"`{command}`" for command in commands_of(each, Outcome("fail"))),
                )
                for each in rows
            ],
        )
    yield "## Which requirements a check contributes to"
    yield table(("Check", "Requirements"), [(each.id, ", ".join(each.standards)) for each in CHECKS])


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "errors": errors, "causes": causes, "limits": limits_page, "settings": settings, "operations": operations, "mqtt": mqtt, "queries": queries, "api": api, "cli": cli, "posture": posture,
}  # fmt: skip


def page(name: str) -> str:
    """The whole text of one page."""
    title, *rest = PAGES[name]()
    heading, _, body = title.partition("\n")
    return "\n\n".join((heading, MADE, body.strip(), *rest)) + "\n"


def main() -> int:
    stale = []
    for name in PAGES:
        path, text = FOLDER / f"{name}.md", page(name)
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    print("current" if not stale else f"{'not current' if '--check' in sys.argv else 'written'}: {', '.join(stale)}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
