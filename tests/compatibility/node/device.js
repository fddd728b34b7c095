// azure-iot-device over each of its transports. Arguments: what to do, transport, connection string, and for a
// connection string that says x509=true a file with certificates and key (PEM).
"use strict";
const { NoRetry } = require("azure-iot-common");
const { Client, Message } = require("azure-iot-device");

const [act, transport, connectionString, certificateFile] = process.argv.slice(2);

const transports = {
  mqtt: () => require("azure-iot-device-mqtt").Mqtt,
  "mqtt-ws": () => require("azure-iot-device-mqtt").MqttWs,
  amqp: () => require("azure-iot-device-amqp").Amqp,
  "amqp-ws": () => require("azure-iot-device-amqp").AmqpWs,
  http: () => require("azure-iot-device-http").Http,
};

// Over HTTP this client makes a header of each property, so that not every name goes through.
function fullMessage(anyName) {
  const message = new Message(JSON.stringify({ temperature: 21 }));
  message.messageId = "4a2c4c1e-9d4b-4f0f-8f6e-0a4f5f0f7d11"; // over AMQP this client sends it as a uuid
  message.correlationId = "c-1";
  message.contentType = "application/json";
  message.contentEncoding = "utf-8";
  message.properties.add("alarm", "high temp");
  if (anyName) {
    message.properties.add("a/b", "c&d=e+f g");
  }
  message.properties.add("plain", "value");
  message.properties.add("dt-subject", "thermostat1"); // a property that the client makes a system one
  return message;
}

const acts = {
  // everything one message can carry, then bytes
  async send(client) {
    await client.open();
    await client.sendEvent(fullMessage(transport !== "http"));
    await client.sendEvent(new Message(Buffer.from([0, 1, 254, 255])));
    await client.close();
    return {};
  },
  // several in one request; only the HTTP transport of this client can
  async batch(client) {
    await client.open();
    const batch = [1, 2, 3].map((number) => {
      const message = new Message(`batch ${number}`);
      message.properties.add("n", String(number));
      return message;
    });
    await client.sendEventBatch(batch);
    await client.close();
    return {};
  },
  // closed, and opened again by the same client
  async reconnect(client) {
    await client.open();
    await client.sendEvent(new Message("before"));
    await client.close();
    await client.open();
    await client.sendEvent(new Message("after"));
    await client.close();
    return {};
  },
  // a refusal has a class that programs test for
  async refused(client) {
    client.setRetryPolicy(new NoRetry());
    const error = await client
      .open()
      .then(() => client.sendEvent(new Message("never")))
      .then(() => null, (reason) => reason);
    await client.close().catch(() => {});
    return { name: error && error.name };
  },
};

const client = Client.fromConnectionString(connectionString, transports[transport]());

async function identified() {
  if (certificateFile) {
    const pem = require("fs").readFileSync(certificateFile, "utf8");
    const set = client.setOptions({ cert: pem, key: pem });
    if (transport !== "http") {
      await set; // over HTTP this client takes them at once and never says so
    }
  }
  return client;
}

identified().then(acts[act]).then((result) => {
  console.log(JSON.stringify(result));
  process.exit(0); // some transports keep timers
});
