// A device that registers itself: node provisioning_device.js TRANSPORT HOST ID_SCOPE ID KEY|CERTIFICATE_FILE [PAYLOAD]
// Many at once: node provisioning_device.js JSON, a list of such lists.
'use strict';
const fs = require('fs');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const transports = {
  http: () => new (require('azure-iot-provisioning-device-http').Http)(),
  mqtt: () => new (require('azure-iot-provisioning-device-mqtt').Mqtt)(),
  'mqtt-ws': () => new (require('azure-iot-provisioning-device-mqtt').MqttWs)(),
  amqp: () => new (require('azure-iot-provisioning-device-amqp').Amqp)(),
  'amqp-ws': () => new (require('azure-iot-provisioning-device-amqp').AmqpWs)(),
};

async function main(transport, host, idScope, id, proof, payload) {
  const file = fs.existsSync(proof) ? fs.readFileSync(proof, 'utf8') : null;
  const security = file
    ? new X509Security(id, { cert: file, key: file })
    : new SymmetricKeySecurityClient(id, proof);
  const client = ProvisioningDeviceClient.create(host, idScope, transports[transport](), security);
  if (payload) client.setProvisioningPayload(JSON.parse(payload));
  let result;
  try {
    result = await client.register();
  } catch (error) {
    return { name: error.name, result: error.result || null };
  }
  const auth = file ? 'x509=true' : `SharedAccessKey=${proof}`;
  const device = Client.fromConnectionString(`HostName=${result.assignedHub};DeviceId=${result.deviceId};${auth}`, Mqtt);
  if (file) await device.setOptions({ cert: file, key: file });
  await device.open();
  await device.sendEvent(new Message('provisioned'));
  await device.close();
  return result;
}

const given = process.argv.slice(2);
const work = given.length === 1 ? Promise.all(JSON.parse(given[0]).map((each) => main(...each))) : main(...given);
work.then(
  (result) => { console.log(JSON.stringify(result)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
