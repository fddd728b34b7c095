"""Roots of the hub's own certificates: the signed bundle for devices, and a change of root that strands nobody.

Source: provisioning-and-pki 4.4 to 4.7.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from hubkeep.device.trust_proofs import TrustProofs
from hubkeep.errors import BadRequest, NotFound
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.ports import TrustProof

from ..root_rollover import RootRollover
from ..signed_bundle import SignedBundle
from ..timestamps import time_stamp
from .answers import json_answer
from .bodies import json_as
from .exchange import Endpoint, Exchange

BUNDLE: Final = "application/jose"
_LATEST: Final = "latest"
_NAMED: Final = 10


class SwitchBody(msgspec.Struct):
    """force: though devices have not proved that they trust the new root."""

    force: bool = False


class RootSurface:
    def __init__(self, rollover: RootRollover, bundle: SignedBundle, proofs: TrustProofs) -> None:
        self._rollover, self._bundle, self._proofs = rollover, bundle, proofs
        self._settle()

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("trust/bundle", self.bundle, "none", dated=False),
            Endpoint("admin/roots/get", self.get, "service", dated=False),
            Endpoint("admin/roots/prepare", self.prepare, "service", dated=False),
            Endpoint("admin/roots/rehearsal", self.rehearsal, "service", dated=False),
            Endpoint("admin/roots/switch", self.switch, "service", dated=False),
            Endpoint("admin/roots/roll-back", self.roll_back, "service", dated=False),
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
        self._settle()
        return json_answer(self._state())

    async def rehearsal(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/roots/rehearsal: every enabled device, by whether it has proved that it trusts the new root."""
        proved, missing = await self._standing()
        rows = [{"deviceId": each.device_id, "at": time_stamp(each.at), "peer": each.peer} for each in proved]
        return json_answer(self._state() | {"proved": rows, "missing": [each.device_id for each in missing]})

    async def switch(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/switch: refuses while any device has not proved it."""
        wanted = json_as(SwitchBody, await exchange.body(HTTP_SERVICE_BODY.value))
        _, missing = await self._standing()
        if missing and not wanted.force:
            names = ", ".join(each.device_id for each in missing[:_NAMED])
            raise BadRequest(
                f"{len(missing)} devices have not proved that they trust the new root.",
                reason=f"not proved: {names}{', ...' if len(missing) > _NAMED else ''}",
                remedy="hubkeep cert rehearse names them all; --force switches all the same",
            )
        self._rollover.switch()
        self._settle()
        return json_answer(self._state())

    async def roll_back(self, _exchange: Exchange) -> web.StreamResponse:
        """POST /api/roots/roll-back"""
        self._rollover.roll_back()
        self._settle()
        return json_answer(self._state())

    async def _standing(self) -> tuple[list[TrustProof], list[TrustProof]]:
        if not self._rollover.root:
            raise BadRequest("No new root is prepared.", remedy="hubkeep cert root prepare")
        everybody = await self._proofs.of_fleet()
        return [each for each in everybody if each.at], [each for each in everybody if not each.at]

    def _settle(self) -> None:
        self._proofs.root = self._rollover.root
        self._bundle.refresh(self._rollover.states())

    def _state(self) -> dict[str, Any]:
        state = self._rollover.state
        canary = self._rollover.canary_name if state.phase != "steady" else ""
        return {"phase": state.phase, "root": self._rollover.root, "canary": canary, "bundle": self._bundle.version}
