// A back end registers a device. Run it with: hubkeep run -- node samples/node/create_device.js ID
const { Registry } = require("azure-iothub");

async function main(deviceId = "press-07") {
  // HostName=...;SharedAccessKeyName=iothubowner;SharedAccessKey=...   (hubkeep connection-string)
  const registry = Registry.fromConnectionString(process.env.IOTHUB_CONNECTION_STRING);
  const { responseBody: device } = await registry.create({ deviceId }); // the hub makes its keys
  console.log(`created ${device.deviceId}, ${device.status}, generation ${device.generationId}`);
  const { responseBody: devices } = await registry.list();
  console.log("registered are:", devices.map((each) => each.deviceId).join(", "));
}

main(process.argv[2]);
