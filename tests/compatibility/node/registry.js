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

// Devices in bulk: added, added again, updated by etag and by force, removed.
async function bulk(connectionString, deviceId) {
  const registry = Registry.fromConnectionString(connectionString);
  const body = (answer) => answer.responseBody;
  // the client rejects where a record failed; the answer is in the error
  const result = (asked) => asked.then(body, (error) => JSON.parse(error.responseBody));
  const ids = [0, 1, 2].map((number) => `${deviceId}-${number}`);
  const added = await result(registry.addDevices(ids.map((each) => ({ deviceId: each, status: "enabled" }))));
  const again = await result(registry.addDevices([{ deviceId: ids[0] }, { deviceId: `${deviceId}-3` }]));
  const got = await Promise.all(ids.map(async (each) => body(await registry.get(each))));
  const disabled = got.map((each) => ({ ...each, status: "disabled" }));
  const updated = await result(registry.updateDevices(disabled, false));
  const stale = await result(registry.updateDevices(disabled, false));
  const forced = await result(registry.updateDevices(got, true));
  const removed = await result(registry.removeDevices([...ids, `${deviceId}-3`].map((each) => ({ deviceId: each })), true));
  const gone = await failure(registry.get(ids[0]));
  const codes = (result) => result.errors.map((each) => each.errorCode);
  return {
    successful: [added, again, updated, stale, forced, removed].map((each) => each.isSuccessful),
    again: codes(again),
    stale: codes(stale),
    keys: new Set(got.map((each) => each.authentication.symmetricKey.primaryKey)).size,
    gone: gone.name,
  };
}

const [mode, ...rest] = process.argv.slice(2);
({ refused, bulk }[mode] ?? main)(...rest).then((result) => console.log(JSON.stringify(result)));
