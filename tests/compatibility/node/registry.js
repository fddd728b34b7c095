// azure-iothub against the registry. Arguments: connection string of a policy, device id.
"use strict";
const { Registry } = require("azure-iothub");

const key = (letter) => Buffer.alloc(32, letter).toString("base64");
const failure = (promise) => promise.then(() => null, (error) => error);

async function main(connectionString, deviceId) {
  const registry = Registry.fromConnectionString(connectionString);
  const wanted = {
    deviceId,
    status: "enabled",
    statusReason: "new",
    authentication: { symmetricKey: { primaryKey: key("p"), secondaryKey: key("s") } },
  };
  const created = (await registry.create(wanted)).responseBody;
  const twice = await failure(registry.create(wanted));
  const got = (await registry.get(deviceId)).responseBody;
  const updated = (await registry.update({ ...got, status: "disabled", statusReason: "lost" })).responseBody;
  const statistics = (await registry.getRegistryStatistics()).responseBody;
  const listed = (await registry.list()).responseBody.map((each) => each.deviceId);
  const service = (await registry.getServiceStatistics?.())?.responseBody;
  await registry.delete(deviceId);
  const gone = await failure(registry.get(deviceId));
  const goneTwice = await failure(registry.delete(deviceId));
  return {
    created: [created.deviceId, created.status, created.statusReason, created.connectionState],
    keys: [got.authentication.symmetricKey.primaryKey, got.authentication.symmetricKey.secondaryKey],
    etagKept: created.etag === got.etag,
    updated: [updated.status, updated.statusReason, updated.etag !== got.etag],
    statistics,
    service,
    listed,
    twice: twice.name,
    gone: gone.name,
    goneTwice: goneTwice.name,
  };
}

async function refused(connectionString, deviceId) {
  const error = await failure(Registry.fromConnectionString(connectionString).delete(deviceId));
  return { name: error && error.name };
}

const [mode, ...rest] = process.argv.slice(2);
(mode === "refused" ? refused : main)(...rest).then((result) => console.log(JSON.stringify(result)));
