// Direct methods with the azure-iot-device client, called from the back end with azure-iothub.
// Arguments: protocol (Mqtt, MqttWs, Amqp, AmqpWs), the device's or module's connection string, the service's.
'use strict';
const device = require('azure-iot-device');
const { Client } = require('azure-iothub');

const [, , protocol, deviceString, serviceString] = process.argv;
const isModule = deviceString.includes('ModuleId=');
const id = /DeviceId=([^;]+)/.exec(deviceString)[1];
const moduleId = isModule ? /ModuleId=([^;]+)/.exec(deviceString)[1] : undefined;
const transport = require(`azure-iot-device-${protocol.startsWith('Amqp') ? 'amqp' : 'mqtt'}`)[protocol];

async function main() {
  const service = Client.fromConnectionString(serviceString);
  const invoke = async (parameters) => {
    const answer = isModule
      ? await service.invokeDeviceMethod(id, moduleId, parameters)
      : await service.invokeDeviceMethod(id, parameters);
    return answer.result;
  };
  const failing = async (parameters) => {
    try {
      await invoke(parameters);
      return 'none';
    } catch (error) {
      return { name: error.name, status: (error.response || {}).statusCode };
    }
  };
  const offline = await failing({ methodName: 'echo' });
  const client = (isModule ? device.ModuleClient : device.Client).fromConnectionString(deviceString, transport);
  await client.open();
  const heard = [];
  const listen = (name, status) => {
    const answer = (request, response) => {
      heard.push([request.methodName, request.payload === undefined ? 'none' : request.payload]);
      if (status) response.send(status, request.payload);
    };
    if (isModule) client.onMethod(name, answer); else client.onDeviceMethod(name, answer);
  };
  listen('echo', 200);
  listen('broken', 500);
  listen('silent', 0);
  // a call waits for the device: its subscription may still be on its way
  const wait = { connectTimeoutInSeconds: 10, responseTimeoutInSeconds: 10 };
  const answers = [];
  for (const payload of [{ soft: true }, [1, 'x', null], 'text', 5, false]) {
    answers.push(await invoke({ methodName: 'echo', payload, ...wait }));
  }
  const none = await invoke({ methodName: 'echo', ...wait });
  const broken = await invoke({ methodName: 'broken', payload: {}, ...wait });
  const together = await Promise.all([1, 2, 3, 4].map((n) => invoke({ methodName: 'echo', payload: n, ...wait })));
  const silent = await failing({ methodName: 'silent', responseTimeoutInSeconds: 5 });
  await client.close();
  console.log(JSON.stringify({ offline, answers, none, broken, together, silent, heard }));
}

main().catch((error) => { console.error(error); process.exit(1); });
