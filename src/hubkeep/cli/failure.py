"""What ends a command without success: the cause, the cure, and an exit status that scripts can use."""

from typing import Final

FAILED: Final = 1  # the hub refused, or a check did not pass
MISUSED: Final = 2  # arguments or settings that cannot be
UNREACHABLE: Final = 3  # no hub answers
NOT_SERVABLE: Final = 78  # EX_CONFIG: permissions, another process, a newer schema (L-S7); a restart changes nothing


class CommandFailure(Exception):
    """Printed by ``main`` on standard error. cause: what happened. cure: what to do about it, may be empty.

    answered: the HTTP status of the hub that refused; 0 if it was not the hub.
    """

    def __init__(self, cause: str, cure: str = "", status: int = FAILED, *, answered: int = 0) -> None:
        super().__init__(cause)
        self.cause, self.cure, self.status, self.answered = cause, cure, status, answered
