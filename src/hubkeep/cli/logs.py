"""Structured logs on standard error: text on a terminal, one JSON object a line elsewhere (L-L30)."""

import json
import logging
import sys
from typing import Any, Final, Protocol

import structlog

from hubkeep.limits import LOG_LINE

# they log every statement, or every step, of their own
_QUIET: Final = ("aiosqlite", "alembic", "sqlalchemy", "asyncio", "aiohttp", "azure", "paho", "uamqp")


class LogSettings(Protocol):
    """Of the hub, or of another process."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...


def configure(settings: LogSettings) -> None:
    """Set up the process's logging once."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        *(() if as_text else (structlog.stdlib.add_logger_name,)),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=not as_text),
    ]
    last = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if as_text
        else [structlog.processors.format_exc_info, _json]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(settings.log_level)


def set_level(level: str) -> None:
    logging.getLogger().setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _json(_logger: Any, _method: str, event: dict[str, Any]) -> str:
    line = json.dumps(event, default=str)
    if len(line) <= LOG_LINE.value:
        return line
    event = {name: str(value)[: LOG_LINE.value // 8] for name, value in event.items()}
    return json.dumps({**event, "shortened": True})[: LOG_LINE.value]
