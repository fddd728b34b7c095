"""For tests of IoT software: ``from hubkeep.testing import hub`` gives a test its own hub.

::

    from hubkeep.testing import hub

    def test_my_device(hub):
        my_program.run(connection_string=hub.create_device("press-07"))
        assert hub.wait_for_events(1)[0]["body"] == "hello"
"""

from .hub_in_thread import HubInThread, MovableClock
from .plugin import hub

__all__ = ["HubInThread", "MovableClock", "hub"]
