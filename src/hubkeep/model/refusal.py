"""One refusal, as the operator reads it."""

import msgspec


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What was presented (never the secret), which check failed, and what would mend it.

    time: Unix seconds. code: the six digits of errors.ON_WIRE. cause: a name of causes.CAUSES; empty where a version
    before it wrote the record. identity: device, device/module or policy as claimed; claimed, so not proven.
    presented: safe facts of what came (user name, sr, se, topic), no secret in any.
    """

    tracking_id: str
    time: float
    surface: str
    peer: str
    identity: str
    operation: str
    code: int
    name: str
    cause: str = ""
    reason: str
    remedy: str
    presented: dict[str, str] = {}
