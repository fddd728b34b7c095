"""Another root for the hub's server certificates, without anybody losing the hub (provisioning-and-pki 4.3 to 4.7).

``prepare`` makes it beside the one that serves: in the trust bundle both, the canary name serves the new chain alone.
``switch`` serves it to everybody, with its key vouched for by the old root as well, so that clients of either go on.
``retire`` takes the old root out of the trust bundle and out of the chain. ``roll_back`` undoes the one or the other.
``finish`` destroys the old root's keys, and another change may begin. Which root serves is one file, replaced in one
step; live connections notice nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest

from .server_certificates import ServerCertificates, WriteSecret, crossed, destroy_keys, ensure_server_certificates
from .tls import ListenerContexts

Phase = Literal["steady", "prepared", "switched", "retired"]
_STATE: Final = "rollover.json"
_BACK: Final[Mapping[Phase, Phase]] = {"switched": "prepared", "retired": "switched"}


class RolloverState(msgspec.Struct, frozen=True):
    """serving: the generation of root that new handshakes get. other: the incoming or the outgoing one; 0: none.

    crosses: whether the old root vouches for the new one in what is served after the switch. removed: roots that
    devices are to forget, by SHA-256, and from when (Unix seconds). announces: whether twins tell of the bundle.
    """

    phase: Phase = "steady"
    serving: int = 1
    other: int = 0
    crosses: bool = True
    removed: dict[str, float] = {}
    announces: bool = False


class RootRollover:
    """directory: the hub's. canary: contexts of the new chain alone are made by ``contexts``."""

    def __init__(
        self,
        directory: Path,
        host_names: Sequence[str],
        canary_name: str,
        write_secret: WriteSecret,
        now: Callable[[], float],
        *,
        kept: int,
        rsa_root: bool,
    ) -> None:
        """kept: seconds for which devices keep a root that was retired."""
        self._directory, self._names, self.canary_name = directory, host_names, canary_name
        self._write_secret, self._now, self._kept, self._rsa_root = write_secret, now, kept, rsa_root
        self._path = directory / "certificates" / _STATE
        (directory / "certificates").mkdir(exist_ok=True)
        self.state = (
            msgspec.json.decode(self._path.read_bytes(), type=RolloverState) if self._path.exists() else _STEADY
        )
        self.trust_bundle = directory / "trust-bundle.pem"
        self._old = self._made(min(self._generations))
        self._incoming = self._vouched_for(max(self._generations)) if self.state.phase != "steady" else None
        self._mend()
        self._tls: ListenerContexts | None = None
        self._contexts: Callable[[Sequence[tuple[Path, Path]]], ListenerContexts] | None = None
        self._canary: ListenerContexts | None = None

    @property
    def chains(self) -> Sequence[tuple[Path, Path]]:
        """What everybody is served."""
        return self._chains(self.state)

    @property
    def root(self) -> str:
        """The SHA-256 of the root that is coming, or that was switched to; empty while there is none."""
        if self._incoming is None:
            return ""
        return _digest(self._incoming.roots[0])

    def states(self) -> dict[str, str]:
        """What roots are, by the SHA-256 of their certificates; those that are not named are in use."""
        if self._incoming is None:
            return {}
        if self.state.phase == "prepared":
            return dict.fromkeys(map(_digest, self._incoming.roots), "incoming")
        return dict.fromkeys(map(_digest, self._old.roots), "outgoing")

    def serve(self, tls: ListenerContexts, contexts: Callable[[Sequence[tuple[Path, Path]]], ListenerContexts]) -> None:
        """Once, at the start. contexts: makes those of the canary name."""
        self._tls, self._contexts = tls, contexts
        self._serve_canary()

    def prepare(self) -> None:
        """Raises BadRequest: a rollover is under way, or the hub has no name that a client can dial with SNI."""
        if self.state.phase != "steady":
            raise BadRequest("A rollover is under way.", reason=f"the rollover is {self.state.phase}")
        if not self.canary_name:
            raise BadRequest("The hub has no canary name.", remedy="set tls.canary_name: a name, not an address")
        other = self.state.serving + 1
        self._incoming = self._vouched_for(other)
        self._trust(self._incoming)
        self._keep(phase="prepared", other=other, announces=True)
        self._serve_canary()

    def switch(self, *, crosses: bool = True) -> None:
        """To everybody. crosses: with the old root's word for the new one. Raises BadRequest, ssl.SSLError, OSError:
        then nothing changed."""
        if self.state.phase != "prepared":
            raise BadRequest("No new root is prepared.", reason=f"the rollover is {self.state.phase}")
        self._turn("switched", crosses=crosses)

    def retire(self) -> None:
        """Take the old root out of the trust bundle and out of the chain. Raises as ``switch``."""
        if self.state.phase != "switched":
            raise BadRequest("The hub was not switched to a new root.", reason=f"the rollover is {self.state.phase}")
        gone = dict.fromkeys(map(_digest, self._old.roots), self._now() + self._kept)
        self._turn("retired", removed=self.state.removed | gone)
        self._forget(self._old)

    def roll_back(self, *, force: bool = False) -> None:
        """One step. force: though devices were told to forget the root that would serve. Raises as ``switch``."""
        if (phase := _BACK.get(self.state.phase)) is None:
            raise BadRequest("Nothing was switched.", reason=f"the rollover is {self.state.phase}")
        if phase == "prepared" and not force and self._is_forgotten:
            raise BadRequest(
                "Devices were told to forget the old root.",
                reason="it was retired, and its time is over",
                remedy="stay with the new one; --force serves the old chain all the same",
            )
        if phase == "switched":
            self._trust(self._old)
        self._turn(phase)

    def finish(self, *, force: bool = False) -> None:
        """Destroy the old root's keys: there is no way back. force: before devices may forget it. Raises BadRequest."""
        if self.state.phase != "retired":
            raise BadRequest("No root is retired.", reason=f"the rollover is {self.state.phase}")
        if not force and not self._is_forgotten:
            raise BadRequest(
                "The old root may still be needed to roll back.",
                reason=f"devices keep it for {self._kept} seconds after it is retired (limits.root_kept)",
                remedy="wait, or --force",
            )
        assert self._incoming is not None
        # the canary's contexts stay: OpenSSL may call for them as long as the process lives
        self._keep(phase="steady", other=0)
        self._old, self._incoming = self._incoming, None
        self._mend()

    def announce(self, *, announces: bool) -> None:
        """Whether the twins of devices tell of the trust bundle, from now on."""
        self._keep(announces=announces)

    @property
    def removed(self) -> Mapping[str, float]:
        """Roots that devices are to forget, by SHA-256, and from when."""
        trusted = set(map(_digest, self._trusted()))
        return {each: at for each, at in self.state.removed.items() if each not in trusted}

    @property
    def _is_forgotten(self) -> bool:
        """Whether devices may have dropped the old root by now."""
        ends = (self.state.removed.get(_digest(each)) for each in self._old.roots)
        return any(end is not None and end <= self._now() for end in ends)

    def _turn(self, phase: Phase, **changed: object) -> None:
        """Between prepared and switched the two change places; between switched and retired they do not."""
        is_swap = "prepared" in {phase, self.state.phase}
        if is_swap:
            changed |= {"serving": self.state.other, "other": self.state.serving}
        after = msgspec.structs.replace(self.state, phase=phase, **changed)
        assert self._tls is not None, "serve() comes first"
        self._tls.serve(self._chains(after))
        self._keep(phase=phase, **changed)

    @property
    def _generations(self) -> Sequence[int]:
        return [each for each in (self.state.serving, self.state.other) if each]

    def _place(self, generation: int) -> Path:
        return self._directory if generation == 1 else self._directory / "roots" / str(generation)

    def _made(self, generation: int) -> ServerCertificates:
        place = self._place(generation)
        (place / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        names = self._names if generation == 1 or not self.canary_name else [*self._names, self.canary_name]
        return ensure_server_certificates(
            place, names, self._write_secret, rsa_root=self._rsa_root, generation=generation
        )

    def _vouched_for(self, generation: int) -> ServerCertificates:
        made = self._made(generation)
        for chain, _ in made.chains:
            crossed(chain, self._place(generation - 1), self._place(generation))
        return made

    def _mend(self) -> None:
        """What follows from the state, wherever the hub was stopped."""
        if self.state.phase == "retired":
            self._forget(self._old)
        for gone in range(1, min(self._generations)):
            destroy_keys(self._place(gone))

    def _trusted(self) -> Sequence[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.trust_bundle.read_bytes())

    def _trust(self, certificates: ServerCertificates) -> None:
        trusted = self._trusted()
        self._write_bundle([*trusted, *(each for each in certificates.roots if each not in trusted)])

    def _forget(self, certificates: ServerCertificates) -> None:
        """What an operator put into the bundle besides stays."""
        self._write_bundle([each for each in self._trusted() if each not in certificates.roots])

    def _write_bundle(self, roots: Sequence[x509.Certificate]) -> None:
        new = self.trust_bundle.with_name(f".{self.trust_bundle.name}.new")
        new.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in roots))
        new.replace(self.trust_bundle)

    def _chains(self, state: RolloverState) -> Sequence[tuple[Path, Path]]:
        if self._incoming is None or state.phase == "prepared":
            return self._old.chains
        if state.phase == "switched" and state.crosses:
            return [(chain.with_suffix(".crossed.pem"), key) for chain, key in self._incoming.chains]
        return self._incoming.chains

    def _serve_canary(self) -> None:
        if self._incoming is None or self._tls is None or self._contexts is None:
            return
        self._canary = self._contexts(self._incoming.chains)
        self._tls.answer_for(self.canary_name, self._canary)

    def _keep(self, **changed: object) -> None:
        state = msgspec.structs.replace(self.state, **changed)
        self._write_secret(self._path, msgspec.json.encode(state))
        self.state = state


_STEADY: Final = RolloverState()


def _digest(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
