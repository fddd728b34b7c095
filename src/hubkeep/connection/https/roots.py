"""Roots of the hub's own certificates: the signed bundle for devices, and a change of root that strands nobody.

Source: provisioning-and-pki 4.4 to 4.7.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from hubkeep.device.trust_proofs import Standing, TrustProofs, probe_of
from hubkeep.errors import BadRequest, NotFound
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.trust_announcements import TrustAnnouncements
from hubkeep.model import Json

from ..root_rollover import RootRollover
from ..signed_bundle import SignedBundle
from ..timestamps import time_stamp
from .answers import json_answer
from .bodies import json_as
from .exchange import Endpoint, Exchange

BUNDLE: Final = "application/jose"
_LATEST: Final = "latest"
_NAMED: Final = 10


_Body = TypeVar("_Body", bound=msgspec.Struct)


class ForceBody(msgspec.Struct):
    """force: though something speaks against it."""

    force: bool = False


class RetireBody(msgspec.Struct):
    """force: though devices have not proved that they trust the new root. reports: their word in the twin does."""

    force: bool = False
    reports: bool = False


class SwitchBody(RetireBody):
    """crosses: the old root vouches for the new one in what is served. False where the old key is in other hands."""

    crosses: bool = True


class AnnounceBody(msgspec.Struct):
    """announce: False takes it out of the twins."""

    announce: bool


class RootSurface:
    """address: the hub's own name, with its port where it is not 443. mqtt_port: once it listens."""

    def __init__(
        self,
        rollover: RootRollover,
        bundle: SignedBundle,
        proofs: TrustProofs,
        announcements: TrustAnnouncements,
        address: Callable[[], str],
        mqtt_port: Callable[[], int],
    ) -> None:
        self._rollover, self._bundle, self._proofs = rollover, bundle, proofs
        self._announcements, self._address, self._mqtt_port = announcements, address, mqtt_port
        self._settle()

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("trust/bundle", self.bundle, "none", dated=False),
            Endpoint("admin/roots/get", self.get, "service", dated=False),
            Endpoint("admin/roots/prepare", self.prepare, "service", dated=False),
            Endpoint("admin/roots/rehearsal", self.rehearsal, "service", dated=False),
            Endpoint("admin/roots/switch", self.switch, "service", dated=False),
            Endpoint("admin/roots/roll-back", self.roll_back, "service", dated=False),
            Endpoint("admin/roots/retire", self.retire, "service", dated=False),
            Endpoint("admin/roots/finish", self.finish, "service", dated=False),
            Endpoint("admin/roots/announce", self.announce, "service", dated=False),
        )

    async def bundle(self, exchange: Exchange) -> web.StreamResponse:
        """GET /trust/{version}: a number, or ``latest``. The same bytes for everybody, for ever."""
        asked = exchange.values["version"]
        if asked != _LATEST and not (asked.isascii() and asked.isdigit() and len(asked) <= 9):
            raise NotFound(reason="a trust bundle is a number, or 'latest'")
        content = self._bundle.of(self._bundle.version if asked == _LATEST else int(asked))
        lasting = "no-cache" if asked == _LATEST else "max-age=31536000, immutable"
        return web.Response(body=content, headers={"Content-Type": BUNDLE, "Cache-Control": lasting})

    async def get(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/roots"""
        return json_answer(self._state())

    async def prepare(self, _exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/prepare"""
        self._rollover.prepare()
        return self._settled()

    async def rehearsal(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/roots/rehearsal: every enabled device, by whether it has proved that it trusts the new root."""
        everybody = await self._standing()
        proved = [each for each in everybody if each.is_ready(by_report=False)]
        told: dict[str, Any] = {
            "proved": [{"deviceId": each.device_id, "at": time_stamp(each.at), "peer": each.peer} for each in proved],
            "reported": [
                {"deviceId": each.device_id, "version": each.version, "holds": each.holds, "failure": each.failure}
                for each in everybody
                if each.version
            ],
            "missing": [each.device_id for each in everybody if not each.is_ready(by_report=False)],
        }
        return json_answer(self._state() | told)

    async def switch(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/switch: refuses while any device has not proved it."""
        wanted = await _asked(exchange, SwitchBody)
        await self._check_ready(wanted)
        self._rollover.switch(crosses=wanted.crosses)
        return self._settled()

    async def retire(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/retire: as ``switch``."""
        await self._check_ready(await _asked(exchange, RetireBody))
        self._rollover.retire()
        return self._settled()

    async def roll_back(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/roll-back"""
        self._rollover.roll_back(force=(await _asked(exchange, ForceBody)).force)
        return self._settled()

    async def finish(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/finish"""
        self._rollover.finish(force=(await _asked(exchange, ForceBody)).force)
        return self._settled()

    async def announce(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/announce"""
        self._rollover.announce(announces=(await _asked(exchange, AnnounceBody)).announce)
        self._announcements.announce(self._section)
        return self._settled()

    async def _check_ready(self, wanted: RetireBody) -> None:
        """Raises BadRequest."""
        missing = [each for each in await self._standing() if not each.is_ready(by_report=wanted.reports)]
        if missing and not wanted.force:
            names = ", ".join(each.device_id for each in missing[:_NAMED])
            raise BadRequest(
                f"{len(missing)} devices have not proved that they trust the new root.",
                reason=f"not proved: {names}{', ...' if len(missing) > _NAMED else ''}",
                remedy="hubkeep cert rehearse names them all; --force goes on all the same",
            )

    async def _standing(self) -> Sequence[Standing]:
        root = self._rollover.root
        if not root:
            raise BadRequest("No new root is prepared.", remedy="hubkeep cert root prepare")
        return await self._proofs.of_fleet(self._bundle.since(root))

    def _settled(self) -> web.StreamResponse:
        self._settle()
        return json_answer(self._state())

    def _settle(self) -> None:
        self._proofs.root = self._rollover.root
        self._bundle.refresh(self._rollover.states(), self._rollover.removed)
        if self._rollover.state.announces:
            self._announcements.announce(self._section)

    def _section(self) -> Json | None:
        """What twins tell devices of the newest bundle (4.5); None: nothing."""
        if not self._rollover.state.announces:
            return None
        version = self._bundle.version
        section: Json = {
            "version": version,
            "url": f"https://{self._address()}/trust/{version}",
            "sha256": hashlib.sha256(self._bundle.of(version)).hexdigest(),
            "retire": [each[:8] for each in self._rollover.removed],
        }
        if root := self._rollover.root:
            canary = self._rollover.canary_name
            section["probe"] = {"host": canary, "port": self._mqtt_port(), "id": probe_of(root)}
        return section

    def _state(self) -> dict[str, Any]:
        state = self._rollover.state
        canary = self._rollover.canary_name if state.phase != "steady" else ""
        return {
            "phase": state.phase,
            "root": self._rollover.root,
            "canary": canary,
            "bundle": self._bundle.version,
            "announced": state.announces,
        }


async def _asked(exchange: Exchange, shape: type[_Body]) -> _Body:
    body = await exchange.body(HTTP_SERVICE_BODY.value)
    return json_as(shape, body or (b"{}" if shape is ForceBody else b""))
