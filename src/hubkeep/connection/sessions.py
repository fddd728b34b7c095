"""One live link per identity and feature: takeover, cut-off, connection state.

Rules reach live links only through the bus: an identity that is disabled, deleted or given other keys is published as
``identity.changed``, and its links are cut here, within the same turn of the event loop (L-I2, L-I3).
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from hubkeep.errors import DeviceDisabled, HubError, LinkStolen, Unauthorized
from hubkeep.limits import Limits
from hubkeep.model import IdentityChange, Principal
from hubkeep.ports import Activity, Bus, Clock

from .changes import Changes, concerns

Key = tuple[str, str]  # device id, module id
Access = Callable[[str, str], HubError | None]


class LiveLink(Protocol):
    """What a session can do to a link."""

    def cut(self, error: HubError) -> None:
        """End the link for ``error``; it calls Sessions.close from its own clean-up."""


class _Present(NamedTuple):
    feature: str
    principal: Principal


class Sessions:
    """Who is connected now. Connection state and last activity gather here until ``take_activity``."""

    def __init__(self, bus: Bus, changes: Changes, access: Access, clock: Clock, limits: Limits) -> None:
        """access: why a device may not be here though its credential is good, by its id and authority."""
        self._changes, self._access, self._clock, self._limits = changes, access, clock, limits
        self._links: dict[Key, dict[LiveLink, _Present]] = {}
        self._policies: dict[str, set[LiveLink]] = {}
        self._authorities: dict[str, set[LiveLink]] = {}
        self._activity: dict[Key, Activity] = {}
        self._takeovers: dict[Key, deque[float]] = {}
        self._watchers: list[Callable[[IdentityChange], None]] = []
        bus.subscribe("identity.changed", self._identity_changed)
        bus.subscribe("policy.changed", self._policy_changed)
        bus.subscribe("access.changed", self._access_changed)
        bus.subscribe("authority.removed", self._authority_removed)
        bus.subscribe("certificate.denied", self._certificate_denied)

    def watch(self, changed: Callable[[IdentityChange], None]) -> None:
        """``changed`` hears of every change of an identity, before its links are cut: for what holds proofs of it."""
        self._watchers.append(changed)

    @property
    def connected(self) -> int:
        """Identities with at least one live link."""
        return len(self._links)

    def principals(self) -> Iterator[Principal]:
        """Of all live links of devices."""
        for links in self._links.values():
            for present in links.values():
                yield present.principal

    def open(self, principal: Principal, link: LiveLink, feature: str) -> None:
        """Register a link that has authenticated. An older one of the same feature is cut first (D-28).

        Raises DeviceBlocked; Unauthorized, DeviceDisabled: what the credential stood on has changed since its proof.
        """
        if (changed := self._changes.since(principal)) is not None:
            raise changed
        if (blocked := self._access(principal.device_id, principal.authority)) is not None:
            raise blocked
        key = (principal.device_id, principal.module_id)
        links = self._links.get(key)
        if links is None:
            links = self._links[key] = {}
            self._record(key, connected=True)
        older = [each for each, of in links.items() if of.feature == feature and each is not link]
        links[link] = _Present(feature, principal)  # before the older one goes: the identity is connected all the time
        for each in older:
            self._note_takeover(key)
            each.cut(LinkStolen(cause="taken-over", reason="a newer connection of the same identity took over"))
        if principal.policy:
            self._policies.setdefault(principal.policy, set()).add(link)
        if principal.authority:
            self._authorities.setdefault(principal.authority, set()).add(link)

    def close(self, principal: Principal, link: LiveLink) -> None:
        """The link is gone. Harmless when it is not registered."""
        key = (principal.device_id, principal.module_id)
        links = self._links.get(key)
        if links is not None and links.pop(link, None) is not None and not links:
            del self._links[key]
            self._record(key, connected=False)
        if principal.policy and (of_policy := self._policies.get(principal.policy)):
            of_policy.discard(link)
        if principal.authority and (below := self._authorities.get(principal.authority)):
            below.discard(link)

    def touch(self, principal: Principal) -> None:
        """The identity was active now (last activity)."""
        key = (principal.device_id, principal.module_id)
        if key not in self._activity:
            self._record(key, connected=None)

    def takeover_delay(self, principal: Principal) -> float:
        """Seconds to wait before the next takeover: 1, 2, 4 ... 30 after ten within a minute (L-M24)."""
        key = (principal.device_id, principal.module_id)
        times = self._takeovers.get(key)
        if not times or key not in self._links:
            return 0.0
        since = self._clock.monotonic() - 60
        while times and times[0] < since:
            times.popleft()
        excess = len(times) - self._limits.takeovers
        return min(30.0, 2.0**excess) if excess >= 0 else 0.0

    def take_activity(self) -> list[Activity]:
        """What changed since the last call, for the registry."""
        taken, self._activity = list(self._activity.values()), {}
        self._changes.forget_old()
        now = self._clock.monotonic() - 60
        self._takeovers = {key: times for key, times in self._takeovers.items() if times[-1] > now}
        return taken

    def _policy_changed(self, name: object) -> None:
        """A policy's key was replaced, it is open to others now, or it was deleted: links that used it go."""
        assert isinstance(name, str)
        error = policy_changed(name)
        self._changes.policy(name, error)
        for link in tuple(self._policies.get(name, ())):
            link.cut(error.again())

    def _authority_removed(self, name: object) -> None:
        assert isinstance(name, str)
        error = Unauthorized(
            cause="authority-distrusted", reason=f"the certificate authority {name!r} is trusted no more, or for fewer"
        )
        self._changes.authority(name, error)
        for link in self._authorities.pop(name, set()).copy():
            link.cut(error.again())

    def _certificate_denied(self, marks: object) -> None:
        assert isinstance(marks, frozenset)
        error = Unauthorized(
            cause="certificate-denied", reason="denied: its certificate, or one above it, was put on the deny-list"
        )
        self._changes.denied(marks, error)
        # all are looked through: that something is denied is rare, an index would cost every connection
        for links in tuple(self._links.values()):
            for link in [link for link, of in links.items() if not marks.isdisjoint(of.principal.marks)]:
                link.cut(error.again())

    def _access_changed(self, device_id: object) -> None:
        """device_id: whom it concerns; None for anybody."""
        self._changes.access()
        for key in [each for each in self._links if device_id in {None, each[0]}]:
            for link, present in tuple(self._links.get(key, {}).items()):
                blocked = self._access(key[0], present.principal.authority)
                if blocked is not None:
                    link.cut(blocked)

    def _note_takeover(self, key: Key) -> None:
        self._takeovers.setdefault(key, deque(maxlen=64)).append(self._clock.monotonic())

    def _record(self, key: Key, *, connected: bool | None) -> None:
        change = Activity(*key, connected, self._clock.now())
        self._activity[key] = change.after(self._activity.get(key))

    def _identity_changed(self, payload: object) -> None:
        assert isinstance(payload, IdentityChange)
        error: HubError
        if payload.change == "disabled":
            error = DeviceDisabled(
                cause="device-disabled", reason="the identity was disabled", remedy="hubkeep device unblock"
            )
        elif payload.change == "deleted":
            error = Unauthorized(cause="identity-deleted", reason="the identity was deleted")
        else:
            error = Unauthorized(cause="credentials-replaced", reason="the identity's credentials were replaced")
        self._changes.identity(payload, error)
        for changed in self._watchers:
            changed(payload)
        for key in [each for each in self._links if each[0] == payload.device_id]:
            for link, present in tuple(self._links.get(key, {}).items()):
                if concerns(payload, present.principal):
                    link.cut(error.again())


def policy_changed(name: str) -> Unauthorized:
    """Why what a policy's credential held open goes."""
    return Unauthorized(
        cause="policy-changed", reason=f"policy {name!r} has other keys, rights or networks now, or was deleted"
    )
