// A device that takes cloud-to-device messages: devicebound.js TRANSPORT CONNECTION_STRING COUNT [OUTCOME ...]
// TRANSPORT: Mqtt, MqttWs, Amqp, AmqpWs, Http. OUTCOME of each message in turn: complete (default), abandon, reject.
'use strict';
const { Client } = require('azure-iot-device');

const [transport, connectionString, count, ...outcomes] = process.argv.slice(2);
const kind = transport.replace('Ws', '').toLowerCase();
const client = Client.fromConnectionString(connectionString, require(`azure-iot-device-${kind}`)[transport]);
const messages = [];

function describe(message) {
  const properties = {};
  for (let index = 0; index < message.properties.count(); index += 1) {
    const item = message.properties.getItem(index);
    properties[item.key] = item.value;
  }
  return {
    body: message.data.toString(),
    id: message.messageId,
    correlationId: message.correlationId,
    to: message.to,
    ack: message.ack,
    contentType: message.contentType,
    contentEncoding: message.contentEncoding,
    properties,
  };
}

async function finish() {
  await client.close();
  console.log(JSON.stringify(messages));
  process.exit(0);
}

client.on('error', (error) => {
  console.error(error);
  process.exit(1);
});

client.open().then(() => {
  client.on('message', async (message) => {
    messages.push(describe(message));
    const outcome = outcomes[messages.length - 1] || 'complete';
    await client[outcome](message);
    if (messages.length >= Number(count)) {
      // a PUBACK of the last message leaves the socket first
      setTimeout(finish, 100);
    }
  });
});
