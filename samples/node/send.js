// A device sends three messages. Run it with: hubkeep run -- node samples/node/send.js
const { Client, Message } = require("azure-iot-device");
const { Mqtt } = require("azure-iot-device-mqtt"); // or MqttWs: through port 443

async function main() {
  // HostName=...;DeviceId=...;SharedAccessKey=...   (hubkeep connection-string --device ID)
  const client = Client.fromConnectionString(process.env.IOTHUB_DEVICE_CONNECTION_STRING, Mqtt);
  await client.open();
  for (let number = 0; number < 3; number++) {
    const message = new Message(JSON.stringify({ temperature: 21 + number }));
    message.contentType = "application/json"; // with these two, routes can look into the body
    message.contentEncoding = "utf-8";
    message.properties.add("alarm", "false");
    await client.sendEvent(message); // resolves when the hub has the message on its disk
    console.log(`sent ${message.getData()}`);
  }
  await client.close();
}

main();
