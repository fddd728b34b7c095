// A back end over AMQP: back_end.js CONNECTION_STRING DEVICE COMMAND ... ; AMQP over WebSockets with TRANSPORT=AmqpWs.
// send JSON ...: each a message {body, id, ack, properties, expiry, module}; prints the outcome of each.
// feedback COUNT [abandon]: prints records about the device; with abandon, the first delivery is released once.
'use strict';
const { AmqpWs, Client } = require('azure-iothub');
const { Message } = require('azure-iot-common');

const [connectionString, device, command, ...rest] = process.argv.slice(2);
const client = Client.fromConnectionString(connectionString, process.env.TRANSPORT === 'AmqpWs' ? AmqpWs : undefined);

function messageFrom(given) {
  const message = new Message(given.body);
  if (given.id) message.messageId = given.id;
  if (given.correlationId) message.correlationId = given.correlationId;
  if (given.ack) message.ack = given.ack;
  if (given.expiry) message.expiryTimeUtc = given.expiry;
  if (given.contentType) message.contentType = given.contentType;
  for (const [key, value] of Object.entries(given.properties || {})) message.properties.add(key, value);
  return message;
}

async function sendAll() {
  const outcomes = [];
  for (const text of rest) {
    const given = JSON.parse(text);
    try {
      const result = await client.send(device, messageFrom(given));
      outcomes.push(result.constructor.name);
    } catch (error) {
      outcomes.push(error.name);
    }
  }
  return outcomes;
}

function receiveFeedback() {
  const count = Number(rest[0]);
  let abandon = rest[1] === 'abandon' ? 1 : 0;
  const records = [];
  return new Promise((resolve, reject) => {
    client.getFeedbackReceiver((error, receiver) => {
      if (error) return reject(error);
      receiver.on('errorReceived', reject);
      receiver.on('message', (message) => {
        if (abandon > 0) {
          abandon -= 1;
          receiver.abandon(message).catch(reject);
          return;
        }
        records.push(...JSON.parse(message.data.toString()).filter((each) => each.deviceId === device));
        receiver.complete(message).catch(reject);
        if (records.length >= count) setTimeout(() => resolve(records), 100);
      });
    });
  });
}

client
  .open()
  .then(command === 'send' ? sendAll : receiveFeedback)
  .then(async (result) => {
    await client.close();
    console.log(JSON.stringify(result));
    process.exit(0);
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
