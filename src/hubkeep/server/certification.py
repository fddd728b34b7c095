"""Puts together what decides over certificates of devices."""

import contextlib
import functools

from hubkeep.cloud.secrets import write_secret
from hubkeep.connection.device_trust import DeviceTrust
from hubkeep.connection.public_roots import public_roots
from hubkeep.device.certification import Certification, CertificationStores
from hubkeep.device.identities import Identities
from hubkeep.device.issuing import Publishing
from hubkeep.endpoints.fetching import Fetching
from hubkeep.endpoints.http_client import HttpClient
from hubkeep.limits import Limits
from hubkeep.ports import Bus, Clock, Egress, Seal
from hubkeep.settings import Settings
from hubkeep.store.registry import Registry
from hubkeep.store.signing_keys import SealedKeys
from hubkeep.store.token_keys import TokenKeys


async def opened_certification(
    settings: Settings,
    registry: Registry,
    seal: Seal,
    bus: Bus,
    egress: Egress,
    clock: Clock,
    limits: Limits,
    up: contextlib.AsyncExitStack,
) -> Certification:
    """What others say of revocation is fetched over a client of its own, until ``up`` closes."""
    http = await up.enter_async_context(HttpClient(egress))
    keys = TokenKeys(
        sealed_keys(settings, seal), settings.certificates.pkcs11_module, settings.certificates.pkcs11_pin_file
    )
    up.callback(keys.close)
    stores = CertificationStores(
        registry.authorities,
        registry.certificates,
        registry.denials,
        registry.certificate_requests,
        registry.revocation_lists,
        keys,
    )
    return await Certification.loaded(
        stores,
        bus,
        clock,
        limits,
        fetch=Fetching(http),
        hub_name=settings.host_name,
        publishing=Publishing(settings.certificates.public_url),
        reuse_keys=settings.certificates.reuse_keys,
        public_roots=public_roots,
    )


def sealed_keys(settings: Settings, seal: Seal) -> SealedKeys:
    return SealedKeys(settings.data / "keys" / "authorities", seal, write_secret)


def device_trust(certification: Certification, identities: Identities, clock: Clock) -> DeviceTrust:
    return DeviceTrust(
        certification.authorities,
        certification.denials,
        certification.issued,
        certification.uses,
        certification.lists,
        certification.answers,
        functools.partial(identities.update, etag="*"),
        clock,
        certification.hub_name,
    )
