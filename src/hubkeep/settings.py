"""One frozen settings tree, checked once at start.

Sources, strongest first: command-line options, environment (``HUBKEEP_TLS__MINIMUM=1.3``), the TOML file that
``--config`` names.
Every setting is described here and listed from here in docs/reference/settings.md.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import pydantic
import pydantic_settings
from pydantic import Field

from hubkeep import limits

EventSource = Literal[
    "deviceLifecycleEvents",
    "twinChangeEvents",
    "digitalTwinChangeEvents",
    "deviceConnectionStateEvents",
    "deviceJobLifecycleEvents",
]


class SettingsError(Exception):
    """A setting that cannot be used. The text names it and says what would do."""


_PATHS_OF_THE_HUB = frozenset(
    {"api", "configurations", "devices", "digitaltwins", "enrollments", "jobs", "messages", "modules", "statistics"}
    | {"twins", "enrollmentgroups", "registrations", "scim", "console", "well-known"}
)


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Networks(_Section):
    """Denying wins; once something is allowed, the rest is closed; neither: open to all."""

    allow: tuple[str, ...] = Field((), description="Networks (10.0.0.0/8, 2001:db8::/32) and addresses.")
    deny: tuple[str, ...] = Field((), description="The same; stronger than allow.")

    @pydantic.field_validator("allow", "deny")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for each in networks:
            if "%" in each:
                raise ValueError(f"{each!r} names an interface, which is no part of a network")
            ipaddress.ip_network(each)
        return networks


class Listeners(_Section):
    """Where the hub listens. Port 0 takes any free one; None switches the listener off."""

    address: str = Field("127.0.0.1", description="Address that all listeners bind.")
    https_port: int | None = Field(443, ge=0, le=65535, description="HTTPS and WebSockets.")
    mqtt_port: int | None = Field(8883, ge=0, le=65535, description="MQTT over TLS.")
    amqp_port: int | None = Field(5671, ge=0, le=65535, description="AMQP over TLS: devices, services, events.")
    plain_amqp_port: int | None = Field(
        None, ge=0, le=65535, description="AMQP without TLS for UseDevelopmentEmulator=true; loopback only."
    )
    metrics_port: int | None = Field(
        9464, ge=0, le=65535, description="/metrics, /healthz and /readyz over plain HTTP, always on loopback."
    )
    networks: dict[Literal["https", "mqtt", "amqp"], Networks] = Field(
        {},
        description="Whom a listener lets in, judged before TLS, each with allow and deny: "
        '[listeners.networks.mqtt] allow = ["10.0.0.0/8"]. WebSockets are of https.',
    )
    shut_out_operator: bool = Field(False, description="Let networks.https shut out the commands of this machine.")
    count_loopback: bool = Field(
        False, description="Limits per source address also count those of this machine (a proxy, tests)."
    )
    backlog: int = Field(4096, ge=1, description="Connections that the kernel holds before accept.")


class Tls(_Section):
    """Protocol versions and suites (provisioning-and-pki 3.2)."""

    minimum: Literal["1.2", "1.3"] = Field("1.2", description="Oldest version.")
    old_versions: dict[Literal["https", "mqtt", "amqp"], Literal["1.0", "1.1"]] = Field(
        {},
        description="Listeners that also take TLS 1.1, or 1.1 and 1.0, from old devices: "
        'old_versions = {mqtt = "1.0"}. WebSockets are of https.',
    )
    compat_suites: bool = Field(False, description="Adds ECDHE-CBC-SHA2 suites for old devices.")
    canary_name: str = Field(
        "", description="The host name that serves the chain of the incoming root; if not given, canary.HOST."
    )


class Events(_Section):
    """The event log behind the Event Hubs-compatible endpoint. What it retains may be changed while the hub runs."""

    name: str = Field("hubkeep-events", description="Event Hubs-compatible name (EntityPath).")
    partitions: int = Field(4, ge=1, le=32, description="Fixed when the data directory is made.")
    consumer_groups: tuple[str, ...] = Field((), description="Besides $Default.")
    sources: tuple[EventSource, ...] = Field(
        (), description="The hub's own events that this endpoint gets besides telemetry; more may be switched on later."
    )
    retention_hours: float = Field(
        limits.RETENTION_HOURS.value, gt=0, description="Age at which events go; may be changed later."
    )
    retention_bytes: int = Field(
        limits.RETENTION_BYTES.value, gt=0, description="Bytes kept; the oldest go first; may be changed later."
    )


class Files(_Section):
    """Files that devices upload (device-protocols 5.4). Devices always upload to the hub, which passes them on."""

    store: Literal["local", "s3", "azure", "off"] = Field(
        "local", description="Where files are kept: a folder, an S3 bucket, a container of Azure Blob Storage."
    )
    folder: Path | None = Field(None, description="The local store's folder; not given: files, in the data directory.")
    bucket: str = Field("", description="The S3 bucket, or the container in Azure Blob Storage.")
    prefix: str = Field("", description="Put before every key in the bucket: words between slashes.")
    options: dict[str, str] = Field(
        {}, repr=False, description="Credentials and endpoint of S3 or Azure, by obstore's names (account_key ...)."
    )
    container: str = Field(
        "uploads",
        description="The container that devices are told, the first part of the path they upload to: "
        "3 to 63 lower-case letters, digits and single dashes.",
    )
    notifications: bool = Field(True, description="Tell back ends of each uploaded file.")
    public_url: str = Field(
        "", description="Put before the name of a file in the blobUri of notifications; empty: the hub's own address."
    )

    @pydantic.field_validator("prefix")
    @classmethod
    def _is_a_path(cls, prefix: str) -> str:
        if not re.fullmatch(r"([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?", prefix):
            raise ValueError("words of letters, digits, - and _ between single slashes")
        return prefix

    @pydantic.field_validator("container")
    @classmethod
    def _is_no_path_of_the_hub(cls, container: str) -> str:
        if not 3 <= len(container) <= 63 or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", container):
            raise ValueError("3 to 63 lower-case letters, digits and single dashes")
        if container in _PATHS_OF_THE_HUB:
            raise ValueError(f"{container!r} is the beginning of other addresses of the hub")
        return container


class LinkedHub(_Section):
    """A name that devices may be assigned to."""

    host_name: str = Field(description="One of the hub's own names.")
    weight: int = Field(1, ge=1, le=1000, description="Its share of the devices.")
    takes_part: bool = Field(True, description="Whether devices come to it that no enrollment sends there by name.")


class Provisioning(_Section):
    """The provisioning service: devices that register themselves (provisioning-and-pki 1, 2)."""

    allocation: Literal["hashed", "geoLatency", "static"] = Field(
        "hashed", description="How hubs are chosen for enrollments that do not say."
    )
    answer_at_once: bool = Field(
        False, description="Answer a request to register with its outcome, instead of telling it at the first poll."
    )
    retry_after: int = Field(
        3, ge=1, le=300, description="Seconds after which a device asks how its registration ended."
    )
    webhook_secret_file: Path | None = Field(
        None,
        description="The file with the secret that signs what webhooks of custom allocation are asked; mode 0600. By "
        "default one is made: keys/webhook.secret in the data directory.",
    )
    webhook_authorization_file: Path | None = Field(
        None, description="The file with the Authorization header that webhooks are sent; mode 0600."
    )
    webhook_roots: Path | None = Field(
        None, description="A file (PEM) of authorities whose webhooks are trusted, beside the public ones."
    )
    hub_roots: Path | None = Field(
        None, description="A file (PEM) of authorities whose linked hubs are trusted, beside the public ones."
    )
    issue_certificates: bool = Field(
        True,
        description="Answer a device that asks for a certificate when it registers, also where its enrollment names no "
        "authority (credentialPolicyName): by the newest of the hub's own.",
    )
    hubs: tuple[LinkedHub, ...] = Field(
        (),
        description="Names that devices are assigned to, each with host_name, weight and takes_part; none: the first.",
    )
    networks: dict[str, dict[str, float]] = Field(
        {}, description="For geoLatency: networks of devices (10.0.0.0/8) to milliseconds from there, by host name."
    )

    @pydantic.field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for each in networks:
            ipaddress.ip_network(each)
        return networks


class GivenRole(_Section):
    """A role for whoever's token holds ``value`` in ``claim``."""

    role: Literal["reader", "contributor", "registry-contributor", "twin-contributor", "administrator"] = Field(
        description="What they may do."
    )
    claim: str = Field("roles", min_length=1, description="Of the token; realm_access.roles for one in another.")
    value: str = Field(min_length=1, description="What the claim must be, or hold in its list.")
    devices: str = Field("", description="Only for devices that meet this condition: tags.hall = 3.")


class People(_Section):
    """Sign-in for people, and for programs with a token of their own, by an OpenID Connect provider."""

    issuer: str = Field(
        "",
        description="The provider, exactly as it calls itself, like https://login.example.com/realms/plant. The hub "
        "may then reach this host, private or not. Plain HTTP only for one on this machine. Empty: nobody signs in.",
    )
    key_hosts: tuple[str, ...] = Field(
        (), description="Other hosts that the provider keeps its keys at, which the hub may then reach as well."
    )
    trust_file: Path | None = Field(
        None, description="Root certificates (PEM) that prove the provider, besides those of the system."
    )
    audiences: tuple[str, ...] = Field(
        ("https://iothubs.azure.net",),
        description="What tokens must be made for; a slash at the end is passed over. SDKs ask for the default, those "
        "of Event Hubs for https://eventhubs.azure.net.",
    )
    clients: tuple[str, ...] = Field(
        (), description="Programs that tokens may be made for (azp, client_id); none: any that the provider has."
    )
    algorithms: tuple[Literal["RS256", "PS256", "ES256"], ...] = Field(
        ("RS256", "PS256", "ES256"), min_length=1, description="Of signatures."
    )
    name_claim: str = Field("preferred_username", description="How people are shown in the audit, beside their sub.")
    roles: tuple[GivenRole, ...] = Field(
        (), description="Who may do what, besides hubkeep access role: each with role, claim, value and devices."
    )
    client_id: str = Field("", description="The public client for hubkeep login and for the browser.")
    scopes: tuple[str, ...] = Field(
        ("openid", "profile", "offline_access"), description="What hubkeep login and the browser ask the provider for."
    )
    resource: str = Field(
        "",
        description="Sent when people sign in (RFC 8707), if the provider needs it to make tokens for the hub.",
    )

    @pydantic.field_validator("issuer")
    @classmethod
    def _is_an_issuer(cls, issuer: str) -> str:
        if not issuer:
            return issuer
        parts = urlsplit(issuer)
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("an https address without user, query and fragment")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(parts.hostname)):
            raise ValueError("an https address; plain HTTP is for a provider on this machine alone")
        return issuer


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Egress(_Section):
    """Whom the hub may reach by itself, as the containers of import and export jobs. Redirects are never followed."""

    allow: tuple[str, ...] = Field(
        (),
        description="Names (*.example.com for all below), addresses and networks that may be reached although they are "
        "private, of this machine or of the link; over plain HTTP too.",
    )
    deny: tuple[str, ...] = Field((), description="The same, never reached; stronger than allow.")
    only_allowed: bool = Field(False, description="Nothing is reached but what allow names, public addresses neither.")


class Sealing(_Section):
    """Where the key comes from under which all keys at rest are sealed: 32 bytes, written in base64. Not given: a file
    in the data directory, made with it."""

    key_file: Path | None = Field(None, description="A file with mode 0600: the 32 bytes, or their base64.")
    key_variable: str = Field("", description="The name of an environment variable.")
    key_command: tuple[str, ...] = Field((), description="A command that prints it: program and arguments, no shell.")
    old_key_file: Path | None = Field(
        None, description="The key before this one: opens what is sealed under it while all is sealed anew."
    )
    old_key_variable: str = Field("", description="The same, in an environment variable.")

    @pydantic.model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(map(bool, (self.key_file, self.key_variable, self.key_command))) > 1:
            raise ValueError("one of key_file, key_variable and key_command")
        return self


class Certificates(_Section):
    """Certificates that the hub issues to devices (provisioning-and-pki 4.9)."""

    public_url: str = Field(
        "",
        description="Where others than this hub find its revocation lists and OCSP, put into certificates that it "
        "issues; empty: they do not tell.",
    )
    reuse_keys: bool = Field(False, description="Let a device renew with the key that it has.")
    pkcs11_module: Path | None = Field(
        None,
        description="The library (.so) of the PKCS#11 token that holds authorities' keys; needs hubkeep[pkcs11].",
    )
    pkcs11_pin_file: Path | None = Field(None, description="The file with the token's PIN; mode 0600.")

    @pydantic.field_validator("public_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", url):
            raise ValueError("an http or https address without query")
        return url


class Posture(_Section):
    """What the posture report cannot know of itself (provisioning-and-pki 6)."""

    daily: bool = Field(True, description="Run it once a day, and keep the outcome.")
    owner_path: str = Field("tags.owner", description="Where a twin tells whose the device is.")
    firmware_path: str = Field(
        "properties.reported.firmwareVersion", description="Where a twin tells which firmware the device runs."
    )

    @pydantic.field_validator("owner_path", "firmware_path")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        if not re.fullmatch(r"(tags|properties\.desired|properties\.reported)(\.[^.$\s\"]+)+", path):
            raise ValueError("a path as queries have it: tags.owner, properties.reported.firmware.version")
        return path


class Rate(_Section):
    """A token bucket: so many a second in the long run, so many at once after a rest."""

    rate: float = Field(gt=0, description="Requests a second.")
    burst: float | None = Field(None, ge=1, description="At once; if not given, those of one second, and at least 1.")

    @property
    def burst_or_second(self) -> float:
        return self.burst if self.burst is not None else max(1.0, self.rate)


class Throttles(_Section):
    """How often may be asked. Off unless a rate is named here. A running hub takes changes on SIGHUP."""

    hub: dict[limits.OperationClass, Rate] = Field(
        {}, description="For everybody together, by class: [throttles.hub.twin-reads] rate = 100, burst = 200."
    )
    device: dict[limits.OperationClass, Rate] = Field(
        {}, description="For each device, module or policy by itself: [throttles.device.telemetry] rate = 10."
    )
    tier: limits.Tier | None = Field(
        None, description="Simulate the limits of this tier of Azure IoT Hub; hubkeep tier report tells what they make."
    )
    units: int = Field(1, ge=1, le=200, description="Units of the simulated tier.")
    report_only: bool = Field(False, description="The simulated tier counts, and refuses nothing.")


class LimitChanges(_Section):
    """Changes of the defaults in limits.py, by name."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    def resolve(self) -> limits.Limits:
        """The limits in force. Raises SettingsError for a name that limits.py does not know."""
        try:
            return limits.Limits(**{name: int(value) for name, value in (self.model_extra or {}).items()})
        except (TypeError, ValueError) as error:
            raise SettingsError(f"limits: {error}") from None


class Settings(pydantic_settings.BaseSettings):
    """The whole configuration of one hub process. Built once at start; never changed."""

    model_config = pydantic_settings.SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="HUBKEEP_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    mode: Literal["serve", "dev"] = Field("serve", description="dev: published keys on loopback.")
    data: Path = Field(Path(".hubkeep"), description="The data directory.")
    host_names: tuple[str, ...] = Field(
        ("localhost",), description="Names that clients dial; the first one is the hub's own."
    )
    listeners: Listeners = Listeners()
    tls: Tls = Tls()
    events: Events = Events()
    files: Files = Files()
    provisioning: Provisioning = Provisioning()
    people: People = People()
    egress: Egress = Egress()
    certificates: Certificates = Certificates()
    sealing: Sealing = Sealing()
    posture: Posture = Posture()
    throttles: Throttles = Throttles()
    limits: LimitChanges = LimitChanges()
    policy_networks: bool = Field(
        True, description="Heed the networks of policies; off lets an operator in again who shut everybody out."
    )
    lenient_subscriptions: bool = Field(
        False, description="Answer an unknown MQTT filter with 0x80 instead of closing."
    )
    count_lapsed_locks: bool = Field(
        False, description="A message that its receiver did not settle in time counts as abandoned."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON.")

    @property
    def host_name(self) -> str:
        """The hub's own name: in connection strings and tokens."""
        return self.host_names[0]

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the hub."""
        try:
            return ipaddress.ip_address(self.listeners.address).is_loopback
        except ValueError:
            return self.listeners.address == "localhost"

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not self.host_names:
            raise ValueError("host_names: at least one name is needed")
        if self.listeners.plain_amqp_port is not None and not self.on_loopback:
            raise ValueError("listeners.plain_amqp_port: AMQP without TLS is for a loopback address only")
        if self.files.store in {"s3", "azure"} and not self.files.bucket:
            raise ValueError(f"files.bucket: is needed when files.store is {self.files.store}")
        self.limits.resolve()
        return self


_Kind = TypeVar("_Kind", bound=pydantic_settings.BaseSettings)


def load(config: Path | None = None, **options: Any) -> Settings:
    """The hub's settings: see ``loaded``."""
    return loaded(Settings, config, options)


def loaded(kind: type[_Kind], config: Path | None, options: Mapping[str, Any]) -> _Kind:
    """Settings from the file, the environment and ``options`` (None: not given), in rising strength.

    Raises SettingsError with every fault, one a line, or that the file cannot be read.
    """
    from_file: dict[str, Any] = {}
    if config is not None:
        try:
            from_file = tomllib.loads(config.read_text())
        except OSError as error:
            raise SettingsError(f"{config}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{config}: {error}") from None
    given = {name: value for name, value in options.items() if value is not None}
    try:
        from_environment = _environment(kind)
        return kind(**_merged(_merged(from_file, from_environment), given))
    except pydantic.ValidationError as error:
        lines = (f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
        raise SettingsError("\n".join(lines)) from None


def _environment(kind: type[pydantic_settings.BaseSettings]) -> dict[str, Any]:
    source = pydantic_settings.EnvSettingsSource(kind)
    return {name: value for name, value in source().items() if value is not None}


def _merged(weaker: dict[str, Any], stronger: dict[str, Any]) -> dict[str, Any]:
    result = dict(weaker)
    for name, value in stronger.items():
        below = result.get(name)
        result[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
