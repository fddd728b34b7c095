"""The AMQP engine against rhea, an independent implementation (and the one inside the Node clients)."""

from typing import Any

from conversations.amqp_engine import serving
from hubkeep.wire.amqp import outcome_name


def test_rhea(node: Any) -> None:
    """Many frames both ways, drain, two sessions, 1,000 links, settle modes, refusals, idle time-outs, SASL."""
    with serving() as server:
        server.plans.update(big=(3, 200_000), few=(2, 10), outcomes=(4, 10))
        server.idle_time_out = 2.0
        results = node("rhea_engine.js", str(server.port))
    assert results == {
        "manyFramesOut": True,
        "manyFramesIn": [200_008] * 3,
        "drain": 2,
        "twoSessions": ["one", "two"],
        "thousandLinks": 1000,
        "settleModes": [2, True],
        "outcomes": 4,
        "refusedLink": "amqp:not-found",
        "refusedResume": True,
        "heartbeats": True,
        "sasl": ["none", "ANONYMOUS", "PLAIN", "EXTERNAL", "MSSBCBS"],
    }
    assert not server.errors
    assert server.timed_out == 0
    assert [len(each.payload) > 150_000 for each in server.deliveries[:2]] == [True, False]
    assert [each.settled for each in server.deliveries[4:6]] == [True, False]
    outcomes = [outcome_name(each.state) for each in server.settled if each.link.source.address == "outcomes"]
    assert outcomes == ["accepted", "rejected", "released", "modified"]
    offered = {"ANONYMOUS": b"\0policy", "PLAIN": b"\0user\0password", "EXTERNAL": b"", "MSSBCBS": b""}
    assert dict(server.sasl) == offered
