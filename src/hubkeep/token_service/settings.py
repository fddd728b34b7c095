"""Settings of the token service: options of the command, environment (``HUBKEEP_TOKENS_PORT=8444``), TOML file."""

from pathlib import Path
from typing import Any, Literal, Self

import pydantic
import pydantic_settings
from pydantic import Field

from hubkeep import settings as of_hub
from hubkeep.limits import MINTED_TOKEN, MINTED_TOKEN_MIN
from hubkeep.settings import Egress, Networks

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class HubAccess(_Section):
    """The hub, and with which policies it is asked."""

    connection_string: str = Field(
        "", repr=False, description="Of a policy that holds DeviceConnect and nothing else: its key signs the tokens."
    )
    connection_string_file: Path | None = Field(None, description="The file that holds it instead; mode 0600.")
    registry_connection_string: str = Field(
        "", repr=False, description="Of a policy that holds RegistryWrite; only where register_devices is on."
    )
    registry_connection_string_file: Path | None = Field(None, description="The file that holds it; mode 0600.")
    address: str = Field("", description="Dialled instead of the connection string's name (HOST, HOST:PORT).")
    trust_bundle: Path | None = Field(None, description="The roots that the hub is trusted by; none: the system's.")


class WebTokenOptions(_Section):
    """The plug-in ``jwt``: a JSON web token of the company's issuer, as Bearer."""

    issuer: str = Field("", description="What iss must be, letter by letter.")
    audiences: tuple[str, ...] = Field((), description="What aud must hold one of.")
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "ES256"), description="The signatures that are taken.")
    keys_url: str = Field("", description="Where the issuer's keys are (JWKS), asked for under the rules of egress.")
    keys_file: Path | None = Field(None, description="The file that holds them instead; read anew when it changes.")
    device_claim: str = Field("sub", description="The claim that names the device.")
    device_prefix: str = Field("", description="What the claim must begin with; the rest is the device's id.")
    module_claim: str = Field("", description="The claim that names the module, where the token has it.")


class CallbackOptions(_Section):
    """The plug-in ``callback``: an address that is asked."""

    url: str = Field("", description="Asked by POST, under the rules of egress.")
    secret_file: Path | None = Field(None, description="Sent along as Bearer: that it is this service that asks.")
    within: float = Field(5.0, gt=0, le=30, description="Seconds that it may take.")


class TableOptions(_Section):
    """The plug-in ``table``: a file of ids and salted hashes of secrets (hubkeep token-table)."""

    file: Path | None = Field(None, description="The file; not given: table.jsonl, in the data directory.")


class TokenServiceSettings(pydantic_settings.BaseSettings):
    """The whole configuration of one token service. Built once at start; never changed."""

    model_config = pydantic_settings.SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="HUBKEEP_TOKENS_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    data: Path = Field(Path(".hubkeep-tokens"), description="The directory of its certificates and refusals.")
    host_names: tuple[str, ...] = Field(("localhost",), description="Names that devices dial.")
    address: str = Field("127.0.0.1", description="The address that it binds.")
    port: int = Field(8444, ge=0, le=65535, description="The port; 0 takes any free one.")
    certificate: Path | None = Field(
        None, description="Its certificate chain (PEM); not given: one is made below a root of its own."
    )
    key: Path | None = Field(None, description="The certificate's key (PEM).")
    networks: Networks = Networks()
    hub: HubAccess = HubAccess()
    plugin: str = Field("jwt", description="What proves devices: jwt, callback, table, or an installed plug-in's name.")
    jwt: WebTokenOptions = WebTokenOptions()
    callback: CallbackOptions = CallbackOptions()
    table: TableOptions = TableOptions()
    options: dict[str, Any] = Field({}, repr=False, description="Of an installed plug-in.")
    token_seconds: int = Field(
        MINTED_TOKEN.value, ge=MINTED_TOKEN_MIN.value, le=86_400, description="How long a token lives at most."
    )
    register_devices: bool = Field(False, description="Register a device at the hub that is proved and not there yet.")
    per_address: int = Field(120, ge=1, description="Requests in a minute from one address (IPv6: from its /64).")
    per_device: int = Field(6, ge=1, description="Tokens in a minute for one device or module.")
    egress: Egress = Egress()
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON.")

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if not self.host_names:
            raise ValueError("host_names: at least one name is needed")
        if self.plugin == "jwt":
            if not self.jwt.issuer or not self.jwt.audiences:
                raise ValueError("jwt.issuer and jwt.audiences: a token of any issuer, or for anybody, proves nothing")
            if bool(self.jwt.keys_url) == bool(self.jwt.keys_file):
                raise ValueError("one of jwt.keys_url and jwt.keys_file")
        if self.plugin == "callback" and not self.callback.url:
            raise ValueError("callback.url is needed")
        return self


def load(config: Path | None = None, **options: Any) -> TokenServiceSettings:
    """See settings.load. Raises SettingsError."""
    return of_hub.loaded(TokenServiceSettings, config, options)
