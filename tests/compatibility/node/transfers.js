// Import and export jobs with azure-iothub's Registry. Arguments: connection string of a policy, a container's URL.
'use strict';
const { Registry } = require('azure-iothub');

const [, , serviceString, container] = process.argv;
const registry = Registry.fromConnectionString(serviceString);

function called(method, ...values) {
  return new Promise((resolve, reject) => {
    registry[method](...values, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

async function ended(job) {
  for (;;) {
    const found = await called('getJob', job.jobId);
    if (['completed', 'failed', 'cancelled'].includes(found.status)) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function main() {
  const imported = await ended(await called('importDevicesFromBlob', container, container));
  const exported = await ended(await called('exportDevicesToBlob', container, true));
  const listed = (await called('listJobs')).map((each) => each.jobId);
  await called('cancelJob', exported.jobId);
  let unknown = 'none';
  try {
    await called('getJob', 'unknown');
  } catch (error) {
    unknown = error.name;
  }
  console.log(JSON.stringify({ imported, exported, listed, unknown }));
}

main().catch((error) => { console.error(error); process.exit(1); });
