// A device with a TPM, which swtpm is. What its TPM is: node tpm_device.js PORT
// Registering, then telemetry with a token that the TPM signed: node tpm_device.js PORT HOST ID_SCOPE TRANSPORT...
'use strict';
const net = require('net');
const tss = require('tss.js');
const { TpmSecurityClient } = require('azure-iot-security-tpm');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const transports = {
  http: () => new (require('azure-iot-provisioning-device-http').Http)(),
  amqp: () => new (require('azure-iot-provisioning-device-amqp').Amqp)(),
  'amqp-ws': () => new (require('azure-iot-provisioning-device-amqp').AmqpWs)(),
};

// What tss.js asks of a device. Its own for sockets speaks to another simulator, which frames commands; swtpm does not.
class SwtpmDevice {
  constructor(port) {
    this.port = port;
  }

  connect(continuation) {
    this.socket = net.connect(this.port, '127.0.0.1', () => continuation(null));
    return null;
  }

  dispatchCommand(command, continuation) {
    let answer = Buffer.alloc(0);
    const read = (data) => {
      answer = Buffer.concat([answer, data]);
      if (answer.length < 6 || answer.length < answer.readUInt32BE(2)) return;
      this.socket.removeListener('data', read);
      continuation(null, answer);
    };
    this.socket.on('data', read);
    this.socket.write(command);
  }

  close() {
    this.socket.end();
  }
}

const asPromise = (call) => new Promise((done, failed) => call((error, result) => (error ? failed(error) : done(result))));

async function main(port, host, idScope, ...names) {
  const tpm = new tss.Tpm(true);
  tpm.device = new SwtpmDevice(Number(port));
  const security = new TpmSecurityClient('', tpm);
  const endorsementKey = await asPromise((done) => security.getEndorsementKey(done));
  const storageRootKey = await asPromise((done) => security.getStorageRootKey(done));
  const registrationId = await asPromise((done) => security.getRegistrationId(done));
  if (!host) {
    const keys = { endorsementKey: endorsementKey.toString('base64'), storageRootKey: storageRootKey.toString('base64') };
    return { registrationId, ...keys };
  }
  const results = [];
  for (const name of names) {
    const client = ProvisioningDeviceClient.create(host, idScope, transports[name](), security);
    const { assignedHub, deviceId } = (await client.register()).registrationState;
    const audience = encodeURIComponent(`${assignedHub}/devices/${deviceId}`);
    const expiry = Math.floor(Date.now() / 1000) + 3600;
    const signed = await asPromise((done) => security.signWithIdentity(Buffer.from(`${audience}\n${expiry}`), done));
    const sig = encodeURIComponent(signed.toString('base64'));
    const device = Client.fromSharedAccessSignature(`SharedAccessSignature sr=${audience}&sig=${sig}&se=${expiry}`, Mqtt);
    await device.open();
    await device.sendEvent(new Message(`by ${name}`));
    await device.close();
    results.push({ assignedHub, deviceId });
  }
  return results;
}

main(...process.argv.slice(2)).then(
  (result) => { console.log(JSON.stringify(result)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
