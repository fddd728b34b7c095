"""Logins that arrive together take turns: others are served between them, and who stalls holds nobody up."""

import asyncio
import contextlib

from hubkeep.connection.turns import Turns


def test_others_are_served_between_logins_that_came_together() -> None:
    async def scene() -> None:
        turns, loop, log = Turns(), asyncio.get_running_loop(), list[str]()
        others = 0

        def other() -> None:
            nonlocal others
            log.append("other")
            others += 1
            if others < 100:
                loop.call_soon(other)

        async def log_in() -> None:
            await turns.next()
            log.append("login")

        loop.call_soon(other)
        await asyncio.gather(*(log_in() for _ in range(20)))
        assert log.count("login") == 20
        assert "login login login login login" not in " ".join(log)
        assert log.count("other") >= 5

    asyncio.run(scene())


def test_who_asked_and_left_costs_the_next_one_nothing() -> None:
    async def scene() -> None:
        turns, done = Turns(), list[int]()

        async def log_in(number: int) -> None:
            await turns.next()
            done.append(number)

        tasks = [asyncio.create_task(log_in(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        for each in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await each
        assert done == [0, 2, 3]

    asyncio.run(scene())


def test_handshakes_that_stall_make_place_and_give_none_back_twice() -> None:
    async def scene() -> None:
        turns, never = Turns(), asyncio.Event()

        async def stall() -> None:
            async with turns.handshake():
                await never.wait()

        stalled = [asyncio.create_task(stall()) for _ in range(100)]
        async with asyncio.timeout(20), turns.handshake():
            pass
        never.set()
        await asyncio.gather(*stalled)
        places = turns._places  # one given back twice would let more in for ever
        assert places._value == 32

    asyncio.run(scene())
