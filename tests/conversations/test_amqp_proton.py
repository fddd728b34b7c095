"""The AMQP engine against Qpid Proton, an independent implementation."""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proton import ConnectionException, Message, Timeout, symbol
from proton.utils import BlockingConnection, LinkDetached

from conversations.amqp_engine import Server, serving
from hubkeep.wire.amqp import outcome_name
from hubkeep.wire.amqp.performatives import AMQP_HEADER, Open, encode_performative, frame


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def _connect(server: Server, **options: Any) -> BlockingConnection:
    return BlockingConnection(f"amqp://127.0.0.1:{server.port}", timeout=10, **options)


def test_messages_over_many_frames_both_ways(server: Server) -> None:
    server.plans["big"] = (3, 200_000)
    connection = _connect(server, max_frame_size=4096)
    sender = connection.create_sender("in")
    sender.send(Message(body=b"y" * 150_000))
    sender.send(Message(body=b"z"))
    assert [len(each.payload) > 150_000 for each in server.deliveries] == [True, False]
    receiver = connection.create_receiver("big", credit=10)
    for number in range(1, 4):
        received = receiver.receive()
        assert bytes(received.body).startswith(b"%08d" % number)
        assert len(received.body) == 200_008
        receiver.accept()
    connection.close()
    assert not server.errors


def test_a_thousand_links_on_one_connection(server: Server) -> None:
    connection = _connect(server)
    for number in range(1000):
        connection.create_sender(f"address-{number}", name=f"link-{number}")
    assert server.links == 1000
    connection.close()
    assert not server.errors


def test_drain_gives_the_credit_back(server: Server) -> None:
    server.plans["few"] = (2, 10)
    connection = _connect(server)
    receiver = connection.create_receiver("few", credit=10)
    receiver.receive()
    receiver.receive()
    receiver.link.drain(0)
    connection.wait(lambda: receiver.link.credit == 0, timeout=5)
    connection.close()


def test_outcomes_come_back(server: Server) -> None:
    server.plans["few"] = (3, 10)
    connection = _connect(server)
    receiver = connection.create_receiver("few", credit=3)
    receiver.receive()
    receiver.accept()
    receiver.receive()
    receiver.reject()
    receiver.receive()
    receiver.release(delivered=False)
    connection.close()
    outcomes = {number: outcome_name(each.state) for each in server.settled for number in each.delivery_ids}
    assert outcomes == {0: "accepted", 1: "rejected", 2: "released"}


def test_a_refused_link_tells_why(server: Server) -> None:
    connection = _connect(server)
    with pytest.raises(LinkDetached, match="nothing here"):
        connection.create_sender("refused")
    connection.close()


def test_two_sessions_use_equal_link_names(server: Server) -> None:
    connection = _connect(server)
    connection.create_sender("one", name="same")
    session = connection.conn.session()
    session.open()
    sender = session.sender("same")
    sender.target.address = "two"
    sender.open()
    connection.wait(lambda: sender.state & sender.REMOTE_ACTIVE, timeout=5)
    assert server.links == 2
    connection.close()
    assert not server.errors


@pytest.mark.parametrize("settled", [True, False])
def test_both_settle_modes(server: Server, settled: bool) -> None:
    from proton.reactor import AtLeastOnce, AtMostOnce

    connection = _connect(server)
    sender = connection.create_sender("in", options=AtMostOnce() if settled else AtLeastOnce())
    message = Message(body="text", properties={"a": 1}, annotations={symbol("b"): "c"}, id=7)
    sender.send(message)
    connection.create_receiver("in").close()  # a round trip, so that a presettled message has arrived
    assert [each.settled for each in server.deliveries] == [settled]
    connection.close()


# -- SASL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "options", "response"),
    [
        ("ANONYMOUS", {"allowed_mechs": "ANONYMOUS"}, None),
        ("PLAIN", {"allowed_mechs": "PLAIN", "user": "user", "password": "secret"}, b"\0user\0secret"),
        ("EXTERNAL", {"allowed_mechs": "EXTERNAL"}, b""),
    ],
)
def test_sasl_mechanisms(server: Server, mechanism: str, options: dict[str, Any], response: bytes | None) -> None:
    connection = _connect(server, allow_insecure_mechs=True, **options)
    connection.create_sender("in").send(Message(body=b"x"))
    connection.close()
    assert [name for name, _ in server.sasl] == [mechanism]
    assert response is None or server.sasl[0][1] == response
    assert not server.errors


def test_no_sasl_layer(server: Server) -> None:
    connection = _connect(server, sasl_enabled=False)
    connection.create_sender("in").send(Message(body=b"x"))
    connection.close()
    assert (server.sasl, server.errors) == ([], [])


def test_a_refused_login(server: Server) -> None:
    with pytest.raises(ConnectionException, match="Authentication failed"):
        _connect(server, allow_insecure_mechs=True, allowed_mechs="PLAIN", user="user", password="wrong")


# -- idle time-out ---------------------------------------------------------------------------------------------------


def test_the_engine_sends_heartbeats_to_an_impatient_peer(server: Server) -> None:
    connection = _connect(server, heartbeat=1)  # seconds
    began = time.monotonic()
    with contextlib.suppress(Timeout):
        connection.wait(lambda: False, timeout=2.5)
    assert time.monotonic() - began > 2
    connection.create_sender("in").send(Message(body=b"x"))
    connection.close()
    assert not server.errors


def test_a_peer_sends_heartbeats_to_an_impatient_engine(server: Server) -> None:
    server.idle_time_out = 3.0
    connection = _connect(server)
    with contextlib.suppress(Timeout):
        connection.wait(lambda: False, timeout=4)
    connection.create_sender("in").send(Message(body=b"x"))
    connection.close()
    assert server.timed_out == 0


def test_a_silent_peer_is_closed(server: Server) -> None:
    server.idle_time_out = 1.0
    with socket.create_connection(("127.0.0.1", server.port), 5) as silent:
        silent.sendall(AMQP_HEADER + frame(0, encode_performative(Open("silent"))))
        silent.settimeout(10)
        received = b""
        while got := silent.recv(4096):
            received += got
    assert b"amqp:resource-limit-exceeded" in received
    assert server.timed_out == 1


# -- resuming --------------------------------------------------------------------------------------------------------


def test_a_link_that_would_resume_begins_anew(server: Server) -> None:
    """An unsettled map in the peer's attach is answered with none: nothing is remembered, the peer sends again."""
    connection = _connect(server)
    for _ in range(2):
        sender = connection.create_sender("in", name="resumed")
        sender.send(Message(body=b"x"))
        sender.link.detach()  # without closing: the peer may come back
        with contextlib.suppress(LinkDetached):
            connection.wait(lambda link=sender.link: link.state & link.REMOTE_CLOSED, timeout=5)
    connection.close()
    assert len(server.deliveries) == 2
    assert not server.errors
