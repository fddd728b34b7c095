"""Devices and back ends that talk in both directions over every wire, and keep in ledgers what they were told.

Back ends send to devices (REST, AMQP), read feedback, change desired properties and call methods; devices complete,
abandon and reject what they get (MQTT, AMQP, HTTPS), report (MQTT, AMQP; modules too), and answer. One makes, changes
and deletes identities. All of them connect
again whenever the hub is gone. Runs on a thread of its own: ``MixedLoad.stop`` ends the senders, waits until all queues
are empty, and checks.
"""

import asyncio
import threading
import time
from typing import NamedTuple

import aiohttp

from faults.ledger import Findings
from faults.mixed_parties import (
    AmqpTwin,
    BackEnd,
    MqttDevice,
    Party,
    Registrar,
    Sender,
    TwinOwner,
    amqp_device,
    https_device,
)
from faults.queue_ledger import QueueFindings
from faults.served import Served

ENVIRONMENT = {"HUBKEEP_LIMITS__FEEDBACK_WAIT": "1"}  # of a hub under this load: feedback comes in time


class MixedFindings(NamedTuple):
    """faults: what was wrong with twins and methods, in words."""

    queue: QueueFindings
    reports: int  # acknowledged
    desired: int  # acknowledged
    pushes: int
    calls: int  # answered
    unanswered: int  # messages, changes and calls: of a hub that was never gone, none
    faults: list[str]
    registry: Findings

    @property
    def is_faultless(self) -> bool:
        return not self.queue.faults and not self.faults and not self.registry.faults


class MixedLoad:
    """devices: how many of each of the three kinds; half as many more have a twin over AMQP, and as many of those
    and of the ones over MQTT a module. pace: seconds between two messages of a sender."""

    def __init__(self, hub: Served, *, devices: int = 4, pace: float = 0.03, seed: int = 0) -> None:
        self._party = Party(hub, seed)
        self.names = {kind: [f"{kind}-{each}" for each in range(devices)] for kind in ("mqtt", "amqp", "https")}
        self.all = [name for names in self.names.values() for name in names]
        others = [f"twin-{each}" for each in range(devices // 2)]
        over_mqtt = self.names["mqtt"] + [f"{name}/module" for name in self.names["mqtt"][: devices // 2]]
        over_amqp = others + [f"{name}/module" for name in others]
        hub.register([*self.names["mqtt"], *self.names["amqp"], *self.names["https"], *others])
        hub.register([each for each in over_mqtt + over_amqp if "/" in each])
        self._twins: dict[str, list[TwinOwner]] = {"MQTT": [], "MQTT, modules": [], "AMQP": [], "AMQP, modules": []}
        for wire, kind, names in (("MQTT", MqttDevice, over_mqtt), ("AMQP", AmqpTwin, over_amqp)):
            for name in names:
                self._twins[f"{wire}, modules" if "/" in name else wire].append(kind(self._party, name))
        self._owners = [each for owners in self._twins.values() for each in owners]
        self._back_end = BackEnd(self._party, self._owners)
        self._registrar = Registrar(self._party, devices)
        self._pace = pace
        self._findings: MixedFindings | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def progress(self) -> tuple[int, ...]:
        """How much was accepted, delivered, called, registered, and of each kind of twin reported and desired so far:
        all of them should grow."""
        ledger, kinds = self._party.ledger, self._twins.values()
        return (
            len(ledger.accepted),
            ledger.deliveries.total(),
            self._back_end.calls,
            self._registrar.ledger.acknowledged,
            *(sum(len(each.reported.versions) for each in owners) for owners in kinds),
            *(sum(len(each.desired.versions) for each in owners) for owners in kinds),
        )

    @property
    def connections(self) -> dict[str, int]:
        """How many each party needed; those of HTTPS are not counted."""
        return dict(self._party.connections)

    def stop(self, within: float = 90) -> MixedFindings:
        """End the senders, let everything come to its end, and check. Raises TimeoutError when it does not."""
        self._party.sending = False
        self._thread.join(within)
        self._party.is_over = True
        if self._failure is not None:
            raise self._failure
        if self._findings is None:
            raise TimeoutError(f"not everything came to its end within {within} s")
        return self._findings

    def _run(self) -> None:
        try:
            self._findings = asyncio.run(self._main())
        except BaseException as error:
            self._failure = error

    async def _main(self) -> MixedFindings:
        party, back_end = self._party, self._back_end
        connector = aiohttp.TCPConnector(ssl=party.context, limit=0)
        party.session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=15))
        async with party.session:
            senders = [Sender(party, f"back-end-{each}", self.all, self._pace) for each in range(4)]
            sending = [party.keep(each.rest, sends=True) for each in senders[:2]]
            sending += [party.keep(each.amqp, sends=True) for each in senders[2:]]
            sending += [
                party.keep(each, sends=True) for each in (back_end.write_desired, back_end.call, self._registrar.change)
            ]
            listening = [party.keep(back_end.read_feedback, sends=False)]
            listening += [party.keep(each.connection, sends=False) for each in self._owners]
            for kind, device in (("amqp", amqp_device), ("https", https_device)):
                listening += [
                    party.keep(lambda device=device, name=name: device(party, name), sends=False)  # type: ignore[misc]
                    for name in self.names[kind]
                ]
            tasks = [asyncio.ensure_future(each) for each in listening]
            try:
                await asyncio.gather(*sending)
                await self._come_to_an_end(tasks)
                return await self._check()
            finally:
                party.is_over = True
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await party.session.close()
                await asyncio.sleep(0.3)  # what was aborted, and aiohttp's TLS, ends behind the call that asks for it

    async def _come_to_an_end(self, tasks: "list[asyncio.Future[None]]") -> None:
        """Until no message waits and feedback has been silent for longer than records wait for each other."""
        began = time.monotonic()
        while not self._party.is_over:
            for each in tasks:
                if each.done():
                    await each  # a mistake of the load's own
            waiting = 0
            for name in self.all:
                waiting += (await self._party.request("GET", f"/devices/{name}"))[1]["cloudToDeviceMessageCount"]
            if not waiting and time.monotonic() > max(began, self._back_end.quiet_since) + 4:
                return
            await asyncio.sleep(0.2)
        raise TimeoutError

    async def _check(self) -> MixedFindings:
        faults = list(self._party.faults)
        for device in self._owners:
            name = device.name
            properties = (await self._party.request("GET", device.path))[1]["properties"]
            reported, desired = ({k: v for k, v in properties[part].items() if k != "$metadata"}
                                 for part in ("reported", "desired"))  # fmt: skip
            faults += [f"{name} reported: {each}" for each in device.reported.check(reported)]
            faults += [f"{name} desired: {each}" for each in device.desired.check(desired)]
            faults += [f"{name}: {each}" for each in device.view.faults]
            if device.view.properties != desired:
                faults.append(f"{name} sees {device.view.properties}, desired is {desired}")
        owners = self._owners
        return MixedFindings(
            self._party.ledger.check(),
            sum(len(each.reported.versions) for each in owners),
            sum(len(each.desired.versions) for each in owners),
            sum(each.view.pushes for each in owners),
            self._back_end.calls,
            self._unanswered(),
            faults,
            await self._registrar.check(),
        )

    def _unanswered(self) -> int:
        ledger, sections = self._party.ledger, []
        for device in self._owners:
            sections += [device.reported, device.desired]
        return (
            len(ledger.sent)
            - len(ledger.accepted | ledger.refused)
            + sum(len(each.attempted) - len(each.versions) for each in sections)
            + self._back_end.called
            - self._back_end.calls
        )
