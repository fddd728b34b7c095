"""One refusal, as the operator reads it."""

import msgspec


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What was presented (never the secret), which check failed, and what would mend it.

    time: Unix seconds. code: the six digits of errors.ON_WIRE. identity: device, device/module or policy as claimed;
    claimed, so not proven. presented: safe facts of what came (user name, sr, se, topic), no secret in any.
    """

    tracking_id: str
    time: float
    surface: str
    peer: str
    identity: str
    operation: str
    code: int
    name: str
    reason: str
    remedy: str
    presented: dict[str, str] = {}
