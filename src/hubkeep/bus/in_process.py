"""The bus of a hub that is one process."""

import logging
from collections.abc import Awaitable, Callable

from hubkeep.ports import NobodyServes

Handler = Callable[[object], None]
Answer = Callable[[object], Awaitable[object]]

log = logging.getLogger(__name__)


class InProcessBus:
    """Publishes by calling every subscriber of the subject, in the order of their subscription."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}
        self._answers: dict[str, Answer] = {}

    def publish(self, subject: str, payload: object) -> None:
        """Call the subscribers. One that raises is logged and does not keep the rest from hearing."""
        for handler in tuple(self._handlers.get(subject, ())):
            try:
                handler(payload)
            except Exception:
                log.exception("a subscriber of %s failed", subject)

    def subscribe(self, subject: str, handler: Handler) -> Callable[[], None]:
        """Hear ``subject`` until the returned function is called."""
        handlers = self._handlers.setdefault(subject, [])
        handlers.append(handler)

        def unsubscribe() -> None:
            if handler in handlers:
                handlers.remove(handler)
            if not handlers and self._handlers.get(subject) is handlers:
                del self._handlers[subject]  # subjects come and go with devices

        return unsubscribe

    async def request(self, subject: str, payload: object) -> object:
        """What who serves ``subject`` answers. Raises NobodyServes, and what that raises."""
        answer = self._answers.get(subject)
        if answer is None:
            raise NobodyServes(subject)
        return await answer(payload)

    def serve(self, subject: str, answer: Answer) -> Callable[[], None]:
        """Answer ``subject`` until the returned function is called, or somebody newer serves it."""
        self._answers[subject] = answer

        def unserve() -> None:
            if self._answers.get(subject) is answer:
                del self._answers[subject]

        return unserve
