"""Another root for the hub's server certificates, without anybody losing the hub (provisioning-and-pki 4.3 to 4.7).

``prepare`` makes it beside the one that serves: in the trust bundle both, the canary name serves the new chain alone.
``switch`` serves it to everybody, with its key vouched for by the old root as well, so that clients of either go on.
``roll_back`` undoes that. Which root serves is one file, replaced in one step; live connections notice nothing.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest

from .server_certificates import ServerCertificates, WriteSecret, crossed, ensure_server_certificates
from .tls import ListenerContexts

Phase = Literal["steady", "prepared", "switched"]
_STATE: Final = "rollover.json"


class RolloverState(msgspec.Struct, frozen=True):
    """serving: the generation of root that new handshakes get. other: the incoming or the outgoing one; 0: none."""

    phase: Phase = "steady"
    serving: int = 1
    other: int = 0


class RootRollover:
    """directory: the hub's. canary: contexts of the new chain alone are made by ``contexts``."""

    def __init__(
        self,
        directory: Path,
        host_names: Sequence[str],
        canary_name: str,
        write_secret: WriteSecret,
        *,
        rsa_root: bool,
    ) -> None:
        self._directory, self._names, self.canary_name = directory, host_names, canary_name
        self._write_secret, self._rsa_root = write_secret, rsa_root
        self._path = directory / "certificates" / _STATE
        self.state = (
            msgspec.json.decode(self._path.read_bytes(), type=RolloverState) if self._path.exists() else _STEADY
        )
        self._first = ensure_server_certificates(directory, host_names, write_secret, rsa_root=rsa_root)
        self.trust_bundle = self._first.trust_bundle
        self._incoming = self._made(self._new) if self._new else None
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
        return _digests(self._root_file.read_bytes())[0]

    def states(self) -> dict[str, str]:
        """What roots are, by the SHA-256 of their certificates; those that are not named are in use."""
        if self._incoming is None:
            return {}
        old, new = self._first.trust_bundle, self._incoming.trust_bundle
        if self.state.phase == "prepared":
            return dict.fromkeys(_digests(new.read_bytes()), "incoming")
        gone = set(_digests(old.read_bytes())) - set(_digests(new.read_bytes()))
        return dict.fromkeys(gone, "outgoing")

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
        self._incoming = self._made(other)
        known = self.trust_bundle.read_bytes()
        new = self._incoming.trust_bundle.read_bytes()
        if new not in known:
            _replace(self.trust_bundle, known.rstrip() + b"\n" + new)
        self._keep(RolloverState("prepared", self.state.serving, other))
        self._serve_canary()

    def switch(self) -> None:
        """To everybody. Raises BadRequest, ssl.SSLError, OSError: then nothing changed."""
        if self.state.phase != "prepared":
            raise BadRequest("No new root is prepared.", reason=f"the rollover is {self.state.phase}")
        self._turn("switched")

    def roll_back(self) -> None:
        """Raises as ``switch``."""
        if self.state.phase != "switched":
            raise BadRequest("Nothing was switched.", reason=f"the rollover is {self.state.phase}")
        self._turn("prepared")

    def _turn(self, phase: Phase) -> None:
        after = RolloverState(phase, self.state.other, self.state.serving)
        assert self._tls is not None, "serve() comes first"
        self._tls.serve(self._chains(after))
        self._keep(after)

    @property
    def _new(self) -> int:
        return max(self.state.serving, self.state.other) if self.state.phase != "steady" else 0

    @property
    def _root_file(self) -> Path:
        return self._place(self._new) / "certificates" / "root.pem"

    def _place(self, generation: int) -> Path:
        return self._directory if generation == 1 else self._directory / "roots" / str(generation)

    def _made(self, generation: int) -> ServerCertificates:
        place = self._place(generation)
        (place / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        made = ensure_server_certificates(
            place,
            [*self._names, self.canary_name],
            self._write_secret,
            rsa_root=self._rsa_root,
            generation=generation,
        )
        for chain, _ in made.chains:
            crossed(chain, self._place(generation - 1), place)
        return made

    def _chains(self, state: RolloverState) -> Sequence[tuple[Path, Path]]:
        if state.serving == 1 or self._incoming is None:
            return self._first.chains
        return [(chain.with_suffix(".crossed.pem"), key) for chain, key in self._incoming.chains]

    def _serve_canary(self) -> None:
        if self._incoming is None or self._tls is None or self._contexts is None:
            return
        self._canary = self._contexts(self._incoming.chains)
        self._tls.answer_for(self.canary_name, self._canary)

    def _keep(self, state: RolloverState) -> None:
        self._write_secret(self._path, msgspec.json.encode(state))
        self.state = state


_STEADY: Final = RolloverState()


def _digests(pem: bytes) -> list[str]:
    certificates = x509.load_pem_x509_certificates(pem)
    return [hashlib.sha256(each.public_bytes(Encoding.DER)).hexdigest() for each in certificates]


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
