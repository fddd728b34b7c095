"""What strangers do within a TLS handshake costs no line of the log; what is our own fault does."""

import asyncio
import logging

import pytest

from hubkeep.connection.transports import keep_quiet_about_handshakes


async def test_a_failed_handshake_is_not_logged_and_any_other_fault_is(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    keep_quiet_about_handshakes(loop)
    with caplog.at_level(logging.INFO):
        loop.call_exception_handler({"message": "SSL handshake failed", "exception": ConnectionResetError})
        loop.call_exception_handler({"message": "a call back failed"})
    assert [record.getMessage() for record in caplog.records] == ["a call back failed"]
