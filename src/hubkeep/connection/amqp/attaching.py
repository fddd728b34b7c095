"""Which address leads where. A new link address is one row of ``DEVICE_LINKS`` or ``SERVICE_LINKS``.

A row needs an operation of ``connection/operations.py`` (the permission) and a ``LinkEndpoint``, whose class is called
with the connection, the link, and the principal that acts (for device links: the identity itself, also when a policy's
token stands for it). Roles are the client's own, as in the table of operations.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from hubkeep.errors import Forbidden, HubError, NotFound, Unauthorized, on_wire
from hubkeep.model import Principal
from hubkeep.wire.amqp import Link, SendingLink, UInt

from .addresses import DeviceAddress, device_address, position, reader_address, segments
from .endpoint import LinkEndpoint
from .methods import MethodAnswers, MethodRequests
from .queues import InputsLink, device_bound, feedback, file_notifications
from .readers import Reader
from .registering import attach_registrant, registrant_address
from .sending import DeviceSender
from .telemetry import TelemetryLink
from .twin import TwinAnswers, TwinRequests

if TYPE_CHECKING:
    from .link import AmqpLink

Role = Literal["sender", "receiver"]


class LinkKind(NamedTuple):
    """operation: its row in operations.py. endpoint: makes what the link leads to, of connection, link, principal."""

    operation: str
    endpoint: Callable[["AmqpLink", Any, Principal], LinkEndpoint]


# by role and by what follows the identity, in lower case (device-protocols 4.5)
DEVICE_LINKS: Final[dict[tuple[Role, str], LinkKind]] = {
    ("sender", "messages/events"): LinkKind("events/send", TelemetryLink),
    ("receiver", "messages/devicebound"): LinkKind("devicebound/attach", device_bound),
    ("receiver", "messages/events"): LinkKind("inputs/attach", InputsLink),
    ("sender", "twin"): LinkKind("twin/attach", TwinRequests),
    ("receiver", "twin"): LinkKind("twin/attach", TwinAnswers),
    ("sender", "methods/devicebound"): LinkKind("methods/attach", MethodAnswers),
    ("receiver", "methods/devicebound"): LinkKind("methods/attach", MethodRequests),
}
# by role and whole address, in lower case (service-protocols 4.3 to 4.5)
SERVICE_LINKS: Final[dict[tuple[Role, str], LinkKind]] = {
    ("sender", "messages/devicebound"): LinkKind("devicebound/transfer", DeviceSender),
    ("receiver", "messages/servicebound/feedback"): LinkKind("feedback/attach", feedback),
    ("receiver", "messages/servicebound/filenotifications"): LinkKind("filenotifications/attach", file_notifications),
    ("receiver", "messages/servicebound/fileuploadnotifications"): LinkKind(
        "filenotifications/attach", file_notifications
    ),
}

_RUNTIME: Final = "com.microsoft:enable-receiver-runtime-metric"
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")
_MODEL_ID: Final = "com.microsoft:model-id"
_EPOCH: Final = "com.microsoft:epoch"


async def attach(connection: "AmqpLink", link: Link) -> None:
    """Answer one attach: the link is accepted, or refused with the reason's condition (service-protocols 4.6)."""
    try:
        await _attach(connection, link)
    except HubError as error:
        connection.forget(link)
        connection.refused(error, "attach")
        row = on_wire(error)
        info = {"com.microsoft:tracking-id": error.tracking_id, "com.microsoft:error-code": row.number}
        link.refuse(row.amqp, f"{error} Tracking id {error.tracking_id}", info)


async def _attach(connection: "AmqpLink", link: Link) -> None:
    listener = connection.listener
    path = segments(link.source.address if link.is_sender else link.target.address)
    role: Role = "receiver" if link.is_sender else "sender"
    words = tuple(each.lower() for each in path)
    if (registrant := registrant_address(path)) is not None:
        await attach_registrant(connection, link, registrant)
    elif connection.rights.registrant is not None:
        raise Unauthorized(
            cause="registering-only", reason=f"a device that registers has no link to {'/'.join(path)[:128]!r}"
        )
    elif words in {("$cbs",), ("$management",)}:
        connection.attach_node(link, words[0])
    elif (device := device_address(path)) is not None:
        await _attach_device(connection, link, role, device)
    elif (kind := SERVICE_LINKS.get((role, "/".join(words)))) is not None:
        await _attach_service(connection, link, kind, words)
    elif words[:3] == ("messages", "events", "$management") and role == "receiver":
        _redirect(connection, link, "$management")
    elif (entity := listener.entity_of(path)) is None:
        raise _unknown_or_unauthorised(connection)
    elif words[entity:] == ("$management",):
        connection.attach_node(link, "$management")
    elif (reader := reader_address(path[entity:])) is not None and isinstance(link, SendingLink):
        await _attach_reader(connection, link, reader.consumer_group, reader.partition)
    elif role == "sender":
        raise Forbidden(cause="events-read-only", reason="a producer on the event endpoint: it is for reading only")
    else:
        raise _unknown_or_unauthorised(connection)


def _unknown_or_unauthorised(connection: "AmqpLink") -> HubError:
    """What exists is told only to those who have proved who they are (L-A15)."""
    return (
        NotFound()
        if connection.rights
        else Unauthorized(cause="link-unauthorised", reason="a link before any authorisation")
    )


async def _attach_device(connection: "AmqpLink", link: Link, role: Role, device: DeviceAddress) -> None:
    kind = DEVICE_LINKS.get((role, device.feature))
    operation = kind.operation if kind else "events/send"
    principal = connection.rights.holder(operation, device.path)
    if principal is None and (again := device.decoded_again()) != device:
        principal = connection.rights.holder(operation, again.path)
        device = again if principal is not None else device
    path = device.path
    if principal is None and connection.info.certificates:
        principal = await _by_certificate(connection, device)
    if principal is None:
        raise Unauthorized(
            cause="link-unauthorised",
            reason=f"no token on this connection allows {'/'.join(path)}",
            remedy="put a token for this identity on $cbs first",
        )
    if kind is None:
        raise NotFound(reason=f"{device.feature} is not offered over AMQP to a {role}")
    if not principal.device_id:
        authentication = connection.listener.authentication
        principal = await authentication.acting_as(principal, device.device_id, device.module_id)
        authentication.used(principal, connection.info)
    if isinstance(model_id := link.properties.get(_MODEL_ID), str) and model_id:
        await connection.listener.twins.note_model(principal, connection.info, model_id)
    endpoint = kind.endpoint(connection, link, principal)
    connection.attach(link, endpoint, kind.operation, path, connection.presence_of(principal))
    await endpoint.start()


async def _by_certificate(connection: "AmqpLink", device: DeviceAddress) -> Principal:
    """No token was put: the certificate of the handshake must prove the identity (device-protocols 6)."""
    principal = await connection.listener.authentication.device(
        device.device_id, device.module_id, None, connection.info, operation="attach"
    )
    connection.authorised(principal)
    return principal


async def _attach_service(connection: "AmqpLink", link: Link, kind: LinkKind, path: tuple[str, ...]) -> None:
    principal = connection.rights.holder(kind.operation, path)
    if principal is None:
        raise Unauthorized(
            cause="link-unauthorised",
            reason=f"no token on this connection allows {kind.operation}",
            remedy="put a token of a policy that holds the permission on $cbs first",
        )
    endpoint = kind.endpoint(connection, link, principal)
    connection.attach(link, endpoint, kind.operation, path)
    await endpoint.start()


async def _attach_reader(connection: "AmqpLink", link: SendingLink, group: str, partition_id: str) -> None:
    listener = connection.listener
    path = listener.reader_path(group, partition_id)
    if connection.rights.holder("events/read", path) is None:
        raise Unauthorized(
            cause="link-unauthorised",
            reason=f"no token on this connection allows reading {'/'.join(path)}",
            remedy="sign for the event endpoint with a policy that holds ServiceConnect",
        )
    epoch, desired = link.properties.get(_EPOCH), link.desired_capabilities
    reader = Reader(
        connection,
        link,
        group=listener.consumer_group(group),
        partition=listener.partition(partition_id),
        position=position(link.source.filters),
        epoch=int(epoch) if isinstance(epoch, int) else None,
        tell_runtime=desired == _RUNTIME or (isinstance(desired, list) and _RUNTIME in desired),
    )
    listener.readers.admit(reader)
    connection.attach(link, reader, "events/read", path)
    await reader.start()


def _redirect(connection: "AmqpLink", link: Link, rest: str) -> None:
    """Clients that hold only a hub's connection string learn here where its events are (5.8)."""
    listener = connection.listener
    if connection.rights.holder("events/manage", ("messages", "events")) is None:
        raise Unauthorized(cause="link-unauthorised", reason="no authorisation for messages/events")
    # the name that the client dialled, as its open tells it: the hub may be known by another one outside
    dialled = connection.hostname.partition(":")[0]
    host, port = dialled if _HOST_NAME.fullmatch(dialled) else listener.host_name, 5671
    info = {
        "hostname": host,
        "network-host": host,
        "port": UInt(port),
        "address": f"amqps://{host}:{port}/{listener.events_name}/{rest}",
    }
    link.refuse("amqp:link:redirect", "the events are at another address", info)
