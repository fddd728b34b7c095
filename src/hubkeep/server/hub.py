"""A running hub as its operator sees it."""

from collections.abc import Sequence
from pathlib import Path

from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.policies import Policies
from hubkeep.connection.amqp.readers import Readers
from hubkeep.connection.https.files import FileUpload
from hubkeep.connection.throttling import Throttles
from hubkeep.connection.tls import ListenerContexts
from hubkeep.device.certification import Certification
from hubkeep.device.identities import Identities
from hubkeep.device.keys import key_to_text
from hubkeep.errors import DeviceNotFound
from hubkeep.model import Identity, Refusal
from hubkeep.settings import Settings


class Hub:
    """A running hub: where it listens, and what the command line prints of it."""

    def __init__(
        self,
        settings: Settings,
        policies: Policies,
        tls: ListenerContexts,
        identities: Identities,
        refusals: Refusals,
        readers: Readers,
        trust_bundle: Path,
        certification: Certification,
    ) -> None:
        self.settings, self._policies, self._tls = settings, policies, tls
        self._identities, self._refusals, self._readers = identities, refusals, readers
        self.trust_bundle = trust_bundle.resolve()
        self.certification = certification
        self.first_device_key = ""  # of a dev hub: the key of FIRST_DEVICE, base64
        self.ports: dict[str, int] = {}
        self.missing: dict[str, str] = {}  # listener to why it is not there
        self.file_upload: FileUpload | None = None
        self.id_scope = ""  # of the provisioning service
        self.throttles: Throttles | None = None

    @property
    def data(self) -> Path:
        return self.settings.data

    def reload(self, settings: Settings | None) -> Settings | None:
        """Serve renewed certificates to new handshakes, and heed other rates.

        Returns ``settings``: what a running hub can take of them. Raises ssl.SSLError, OSError; then the old
        certificates are served on.
        """
        self._tls.reload()
        if settings is not None and self.throttles is not None:
            self.throttles.change(settings.throttles.hub, settings.throttles.device)
        return settings

    def endpoint(self, kind: str) -> str:
        """``https://name:port`` and the like; empty when that listener is not there."""
        schemes = {"https": "https", "mqtt": "mqtts", "amqp": "amqps", "plain_amqp": "amqp", "metrics": "http"}
        port = self.ports.get(kind)
        host = "127.0.0.1" if kind == "metrics" else self.settings.host_name
        return "" if port is None else f"{schemes[kind]}://{host}:{port}"

    def address(self) -> str:
        """The hub's own name, with the HTTPS port where it is not 443."""
        return self.endpoint("https").removeprefix("https://").removesuffix(":443")

    def policy_connection_string(self, name: str = "iothubowner") -> str:
        """Raises KeyError for an unknown policy."""
        policy = self._policies.get(name)
        if policy is None:
            raise KeyError(name)
        key = key_to_text(policy.primary_key)
        return f"HostName={self.settings.host_name};SharedAccessKeyName={name};SharedAccessKey={key}"

    @property
    def event_readers(self) -> int:
        """Receivers attached to the Event Hubs-compatible endpoint."""
        return len(self._readers)

    async def ensure_device(self, device_id: str) -> str:
        """Register a device where it is not registered yet; its connection string. Raises HubError."""
        try:
            identity = await self._identities.get(device_id)
        except DeviceNotFound:
            identity = await self._identities.create(Identity(device_id=device_id))
        key = key_to_text(identity.primary_key)
        return f"HostName={self.settings.host_name};DeviceId={device_id};SharedAccessKey={key}"

    async def refusals(self, key: str = "", most: int = 20) -> Sequence[Refusal]:
        """The newest refusals, by tracking id or identity as claimed; an empty key means all."""
        return await self._refusals.find(key, most)

    def events_connection_string(self, name: str = "service") -> str:
        policy = self._policies.get(name)
        assert policy is not None
        key = key_to_text(policy.primary_key)
        return (
            f"Endpoint=sb://{self.settings.host_name}/;SharedAccessKeyName={name};SharedAccessKey={key};"
            f"EntityPath={self.settings.events.name}"
        )
