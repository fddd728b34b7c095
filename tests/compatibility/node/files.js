// node files.js TRANSPORT DEVICE_CONNECTION_STRING SERVICE_CONNECTION_STRING NAME SIZE
// A device uploads once through the SDK and once as the samples do with @azure/storage-blob; a back end is told of both.
const { Client } = require('azure-iot-device');
const transports = {
  mqtt: () => require('azure-iot-device-mqtt').Mqtt,
  amqp: () => require('azure-iot-device-amqp').Amqp,
  http: () => require('azure-iot-device-http').Http,
};
const { Client: Service } = require('azure-iothub');
const { BlockBlobClient, AnonymousCredential, newPipeline } = require('@azure/storage-blob');
const { Readable } = require('stream');

const [transport, deviceString, serviceString, name, size] = process.argv.slice(2);
const content = Buffer.from(Array.from({ length: Number(size) }, (_, index) => index % 251));

async function notices(count) {
  const service = Service.fromConnectionString(serviceString);
  await service.open();
  const receiver = await new Promise((resolve, reject) =>
    service.getFileNotificationReceiver((error, found) => (error ? reject(error) : resolve(found))));
  const found = [];
  await new Promise((resolve, reject) => {
    receiver.on('errorReceived', reject);
    receiver.on('message', (message) => {
      found.push(JSON.parse(message.data.toString()));
      receiver.complete(message, () => { if (found.length === count) resolve(); });
    });
  });
  await service.close();
  return found;
}

async function main() {
  const device = Client.fromConnectionString(deviceString, transports[transport]());
  await device.open();
  const told = notices(2);

  await device.uploadToBlob(`${name} sdk.bin`, Readable.from([content]), content.length);

  const info = await device.getBlobSharedAccessSignature(`${name}.bin`);
  const pipeline = newPipeline(new AnonymousCredential(), { keepAliveOptions: { enable: false } });
  const url = `https://${info.hostName}/${info.containerName}/${info.blobName}${info.sasToken}`;
  const blob = new BlockBlobClient(url, pipeline);
  const status = await blob.uploadStream(Readable.from([content]), 65536, 5);
  await device.notifyBlobUploadStatus(info.correlationId, true, status._response.status, 'uploaded');

  const failed = await device.getBlobSharedAccessSignature(`${name}-failed.bin`);
  await device.notifyBlobUploadStatus(failed.correlationId, false, -1, 'no file');

  const result = { status: status._response.status, notices: await told };
  await device.close();
  console.log(JSON.stringify(result));
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
