// Configurations with azure-iothub's Registry. Arguments: connection string of a policy, a device's id.
'use strict';
const { Registry } = require('azure-iothub');

const [, , serviceString, id] = process.argv;
const registry = Registry.fromConnectionString(serviceString);
const name = 'node-tune';

async function desired(path, wanted) {
  for (;;) {
    const { responseBody } = await registry.getTwin(id);
    if (responseBody.properties.desired[path] === wanted) return responseBody;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function main() {
  await registry.addConfiguration({
    id: name,
    content: { deviceContent: { 'properties.desired.rate': 5 } },
    metrics: { queries: { mine: `SELECT deviceId FROM devices WHERE deviceId = '${id}'` } },
    targetCondition: `deviceId = '${id}'`,
    priority: 3,
  });
  let twice = 'none';
  try {
    await registry.addConfiguration({ id: name, content: { deviceContent: { 'properties.desired.rate': 5 } } });
  } catch (error) {
    twice = error.name;
  }
  await desired('rate', 5);
  const known = (await registry.getConfiguration(name)).responseBody;
  known.labels = { team: 'ops' };
  const updated = (await registry.updateConfiguration(known)).responseBody;
  const listed = (await registry.getConfigurations()).responseBody.map((each) => each.id);
  await registry.applyConfigurationContentOnDevice(id, { modulesContent: { vision: { 'properties.desired': { z: 1 } } } });
  const vision = (await registry.getModuleTwin(id, 'vision')).responseBody.properties.desired.z;
  await registry.removeConfiguration(name);
  await desired('rate', undefined);
  console.log(JSON.stringify({ twice, known, updated, listed, vision }));
}

main().catch((error) => { console.error(error); process.exit(1); });
