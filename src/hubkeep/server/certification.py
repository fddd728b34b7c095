"""Puts together what decides over certificates of devices."""

import functools

from hubkeep.cloud.secrets import write_secret
from hubkeep.connection.device_trust import DeviceTrust
from hubkeep.connection.public_roots import public_roots
from hubkeep.device.certification import Certification, CertificationStores
from hubkeep.device.identities import Identities
from hubkeep.device.issuing import Publishing
from hubkeep.limits import Limits
from hubkeep.ports import Bus, Clock, Seal
from hubkeep.settings import Settings
from hubkeep.store.registry import Registry
from hubkeep.store.signing_keys import SealedKeys


async def opened_certification(
    settings: Settings, registry: Registry, seal: Seal, bus: Bus, clock: Clock, limits: Limits
) -> Certification:
    keys = SealedKeys(settings.data / "keys" / "authorities", seal, write_secret)
    stores = CertificationStores(registry.authorities, registry.certificates, registry.denials, keys)
    return await Certification.loaded(
        stores,
        bus,
        clock,
        limits,
        hub_name=settings.host_name,
        publishing=Publishing(settings.certificates.public_url),
        reuse_keys=settings.certificates.reuse_keys,
        public_roots=public_roots,
    )


def device_trust(certification: Certification, identities: Identities, clock: Clock) -> DeviceTrust:
    return DeviceTrust(
        certification.authorities,
        certification.denials,
        certification.issued,
        certification.uses,
        functools.partial(identities.update, etag="*"),
        clock,
        certification.hub_name,
    )
