"""A device that registers over AMQP: requests on its sender, answers on its receiver, and nothing else.

Source: provisioning-and-pki 1.8. What kind of request it is stands in the application properties.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from hubkeep.errors import BadRequest, HubError, Unauthorized, on_wire
from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    AmqpMessage,
    Delivery,
    Int,
    Link,
    ReceivingLink,
    decode_message,
    message,
    rejected,
)
from hubkeep.wire.sas import percent_decoded

from ..device_registrations import RegistrantName, RegistrationAnswer, registrant_name
from .requests import RequestNode

if TYPE_CHECKING:
    from .link import AmqpLink

OPERATION: Final = "registrations/attach"
_KIND: Final = "iotdps-operation-type"
_OPERATION_ID: Final = "iotdps-operation-id"
_API_VERSION: Final = "com.microsoft:api-version"
_CLIENT: Final = "com.microsoft:client-version"


def registrant_address(path: tuple[str, ...]) -> RegistrantName | None:
    """``{scope}/registrations/{id}``; None for another. A device of the hub may be called registrations."""
    return None if path[:1] and path[0].lower() == "devices" else registrant_name("/".join(map(percent_decoded, path)))


async def attach_registrant(connection: "AmqpLink", link: Link, name: RegistrantName) -> None:
    """Raises Unauthorized: the link is another device's, or nobody has proved who it is."""
    principal = connection.rights.registrant
    if principal is None and not connection.rights and connection.info.certificates:
        if isinstance(client := link.properties.get(_CLIENT), str):
            connection.info = msgspec.structs.replace(connection.info, client=client[:256])
        registrations = connection.listener.registrations
        principal = await registrations.connect(name, None, connection.info, operation=OPERATION)
        connection.authorised(principal)
    if principal is None or connection.rights.holder(OPERATION, principal.scope) is None:
        raise Unauthorized(
            cause="registration-unproved",
            reason=f"no credential on this connection proves the registration {name.registration_id[:128]!r}",
            remedy="SASL PLAIN with a token for it, or its certificate in the TLS handshake",
        )
    if (principal.scope[0].lower(), principal.scope[2].lower()) != tuple(each.lower() for each in name):
        raise Unauthorized(
            cause="registration-of-another",
            reason=f"the credential is of {principal.name}, the link of {name.registration_id[:128]!r}",
        )
    node = connection.registration_node()
    connection.attach(link, node, OPERATION, principal.scope)
    node.accept(link)


class RegistrationNode(RequestNode):
    """What a device that registers may ask, one request after another; answers go to the session's receiver."""

    __slots__ = ()

    operation = OPERATION

    async def _request(self, link: ReceivingLink, delivery: Delivery) -> None:
        self._grant_more(link)
        request = AmqpMessage()
        try:
            if delivery.oversized:
                raise BadRequest("The request is too large.")
            request = decode_message(delivery.payload)
            answer = await self._answer_of(link, request)
        except AmqpError:
            answer = self._refusal(BadRequest("The request cannot be read."))
        except HubError as error:
            answer = self._refusal(error)
        if answer.error is not None:
            if not delivery.settled:
                link.settle(delivery.delivery_id, delivery.delivery_id, _rejection(answer, answer.error))
            return
        if not delivery.settled:
            link.settle(delivery.delivery_id, delivery.delivery_id, ACCEPTED)
            self._connection.flush()
        properties = {"correlation_id": request.properties.get("correlation_id")}
        told = message(properties=properties, application_properties=_retry(answer), data=answer.body)
        self._put(link, request.properties.get("reply_to"), told)

    async def _answer_of(self, link: ReceivingLink, request: AmqpMessage) -> RegistrationAnswer:
        """Raises BadRequest, AmqpError, Unauthorized."""
        connection, asked = self._connection, request.application_properties
        principal, desk = connection.rights.registrant, connection.listener.registrations
        if principal is None:
            raise Unauthorized(cause="authorisation-expired", reason="the token or certificate ended while connected")
        kind = asked.get(_KIND)
        if kind == "iotdps-register":
            version = link.properties.get(_API_VERSION)
            version = version[:64] if isinstance(version, str) else ""
            return await desk.register(principal, connection.info, request.body(), version, OPERATION)
        if kind == "iotdps-get-operationstatus":
            return await desk.status(principal, connection.info, str(asked.get(_OPERATION_ID, ""))[:256], OPERATION)
        if kind == "iotdps-get-registration":
            return await desk.record(principal, connection.info, OPERATION)
        raise BadRequest("The operation is not known.", reason=f"{_KIND} is {str(kind)[:64]!r}")

    def _refusal(self, error: HubError) -> RegistrationAnswer:
        connection = self._connection
        return connection.listener.registrations.refusal(error, connection.rights.name, connection.info, OPERATION)


def _retry(answer: RegistrationAnswer) -> dict[Any, Any]:
    """Both spellings: clients differ in which one they read."""
    if answer.retry_after is None:
        return {}
    return {"retry-after": Int(answer.retry_after), "Retry-After": Int(answer.retry_after)}


def _rejection(answer: RegistrationAnswer, error: HubError) -> Any:
    return rejected(on_wire(error).amqp, answer.body.decode(), _retry(answer))
