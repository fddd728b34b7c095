// azure-iothub with a token credential. Arguments: host name, web token, device id.
"use strict";
const { Registry, Client } = require("azure-iothub");
const { Message } = require("azure-iot-common");

const failure = (promise) => promise.then(() => null, (error) => error);

async function main(host, token, deviceId) {
  const scopes = [];
  const credential = {
    getToken: async (scope) => {
      scopes.push(scope);
      return { token, expiresOnTimestamp: Date.now() + 3600 * 1000 };
    },
  };
  const registry = Registry.fromTokenCredential(host, credential);
  const got = (await registry.get(deviceId)).responseBody;
  const twin = (await registry.getTwin(deviceId)).responseBody;
  const refused = await failure(registry.delete("of-somebody-else"));
  const client = Client.fromTokenCredential(host, credential);
  await client.open();
  await client.send(deviceId, new Message("stop"));
  await client.close();
  return { got: got.deviceId, twin: twin.deviceId, refused: refused && refused.name, scopes: [...new Set(scopes.flat())] };
}

main(...process.argv.slice(2)).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
