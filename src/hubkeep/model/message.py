"""A message as the rules see it, whatever wire it came on."""

import msgspec


class SystemProperties(msgspec.Struct, frozen=True, kw_only=True):
    """What IoT Hub clients may set beside the body (device-protocols 3.7). None: not sent. Times: Unix milliseconds."""

    message_id: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    to: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    absolute_expiry: int | None = None
    creation_time: str | None = None  # iothub-creation-time-utc, text as sent
    subject: str | None = None  # dt-subject: component name
    interface_id: str | None = None
    schema: str | None = None  # iothub-message-schema
    output_name: str | None = None
    operation: str | None = None  # iothub-operation
    ack: str | None = None  # iothub-ack
    diagnostic_id: str | None = None
    diagnostic_context: str | None = None


NO_SYSTEM_PROPERTIES = SystemProperties()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """body: the raw bytes. properties: application properties; a value of None is a key sent without ``=``."""

    body: bytes
    system: SystemProperties = NO_SYSTEM_PROPERTIES
    properties: dict[str, str | None] = {}

    def size(self) -> int:
        """Bytes that count towards the size limit: body, system values, property names and values (L-L9)."""
        count = len(self.body)
        if not self.properties and self.system == NO_SYSTEM_PROPERTIES:
            return count
        for value in msgspec.structs.astuple(self.system):
            if value is None:
                continue
            count += len(value.encode()) if isinstance(value, str) else 8
        for key, text in self.properties.items():
            count += len(key.encode()) + (len(text.encode()) if text else 0)
        return count
