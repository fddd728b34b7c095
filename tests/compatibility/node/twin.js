// A device's twin with the azure-iot-device client, changed from the back end with azure-iothub.
// Arguments: protocol (Mqtt, MqttWs, Amqp, AmqpWs), the device's or module's connection string, the service's.
'use strict';
const device = require('azure-iot-device');
const { Registry } = require('azure-iothub');

const [, , protocol, deviceString, serviceString] = process.argv;
const isModule = deviceString.includes('ModuleId=');
const id = /DeviceId=([^;]+)/.exec(deviceString)[1];
const moduleId = isModule ? /ModuleId=([^;]+)/.exec(deviceString)[1] : undefined;
const transport = require(`azure-iot-device-${protocol.startsWith('Amqp') ? 'amqp' : 'mqtt'}`)[protocol];

const called = (start) => new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))));
const until = async (condition) => {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 1000) throw new Error('waited in vain');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

async function main() {
  const registry = Registry.fromConnectionString(serviceString);
  const read = async () => {
    const answer = isModule ? await registry.getModuleTwin(id, moduleId) : await registry.getTwin(id);
    return answer.responseBody;
  };
  const change = async (patch, etag) => {
    const answer = isModule
      ? await registry.updateModuleTwin(id, moduleId, patch, etag)
      : await registry.updateTwin(id, patch, etag);
    return answer.responseBody;
  };
  const client = (isModule ? device.ModuleClient : device.Client).fromConnectionString(deviceString, transport);
  await client.open();
  const twin = await client.getTwin();
  const initial = JSON.parse(JSON.stringify(twin.properties));
  const deltas = [];
  twin.on('properties.desired', (delta) => deltas.push(JSON.parse(JSON.stringify(delta))));
  await until(() => deltas.length === 1); // the state that it began with
  await called((done) => twin.properties.reported.update({ fw: '1.2', net: { ip: '10.0.0.1', up: true } }, done));
  await called((done) => twin.properties.reported.update({ net: { up: null } }, done));
  let refused = '';
  await called((done) => twin.properties.reported.update({ 'a.b': 1 }, done)).catch((error) => { refused = error.name; });
  const before = await read();
  const changed = await change({ tags: { site: 'x' }, properties: { desired: { interval: 5, fan: { on: true } } } }, before.etag);
  await until(() => deltas.length === 2);
  await change({ properties: { desired: { fan: null } } }, '*');
  await until(() => deltas.length === 3);
  let stale = '';
  await change({ tags: { site: 'y' } }, before.etag).catch((error) => { stale = error.name; });
  const after = await read();
  await client.close();
  console.log(JSON.stringify({ initial, deltas, refused, stale, changed, after }));
}

main().catch((error) => { console.error(error); process.exit(1); });
