// Scheduled jobs with azure-iothub's JobClient. Arguments: connection string of a policy, a device's id.
'use strict';
const { JobClient } = require('azure-iothub');

const [, , serviceString, id] = process.argv;
const client = JobClient.fromConnectionString(serviceString);

async function ended(jobId) {
  for (;;) {
    const job = (await client.getJob(jobId)).jobStatus;
    if (!['queued', 'running'].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function pages(type, status) {
  const query = client.createQuery(type, status, 2);
  const found = [];
  while (query.hasMoreResults) {
    found.push(await new Promise((resolve, reject) =>
      query.next((error, jobs) => (error ? reject(error) : resolve(jobs.map((job) => job.jobId)))),
    ));
  }
  return found;
}

async function main() {
  const where = `deviceId = '${id}'`;
  const patch = { etag: '*', tags: { wave: 1 }, properties: { desired: { rpm: 700 } } };
  await client.scheduleTwinUpdate(`${id}-twin`, where, patch, new Date(), 60);
  const twin = await ended(`${id}-twin`);
  await client.scheduleDeviceMethod(`${id}-method`, where, { methodName: 'echo', payload: { n: 1 } }, new Date(), 60);
  const method = await ended(`${id}-method`);
  const later = new Date(Date.now() + 3600 * 1000);
  for (const n of [0, 1, 2]) await client.scheduleTwinUpdate(`${id}-later-${n}`, where, patch, later, 60);
  const queued = await pages('scheduleUpdateTwin', 'queued');
  const cancelled = (await client.cancelJob(`${id}-later-0`)).jobStatus.status;
  let twice = 'none';
  try {
    await client.scheduleTwinUpdate(`${id}-twin`, where, patch, later, 60);
  } catch (error) {
    twice = error.name;
  }
  console.log(JSON.stringify({ twin, method, queued, cancelled, twice }));
}

main().catch((error) => { console.error(error); process.exit(1); });
