// A back end that enrols devices: node provisioning_service.js CONNECTION_STRING PREFIX CERTIFICATE_FILE
'use strict';
const fs = require('fs');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');

async function all(query) {
  const found = [];
  while (query.hasMoreResults) {
    const page = await query.next(query.continuationToken);
    found.push(...page.responseBody);
  }
  return found;
}

async function main(connectionString, prefix, certificateFile) {
  const client = ProvisioningServiceClient.fromConnectionString(connectionString);
  const pem = fs.readFileSync(certificateFile, 'utf8');
  const one = { registrationId: `${prefix}-1`, attestation: { type: 'symmetricKey' }, deviceId: `${prefix}-d` };
  const created = (await client.createOrUpdateIndividualEnrollment(one)).responseBody;
  const keys = (await client.getIndividualEnrollmentAttestationMechanism(one.registrationId)).responseBody;
  const updated = (await client.createOrUpdateIndividualEnrollment({ ...created, provisioningStatus: 'disabled' })).responseBody;
  const kept = (await client.getIndividualEnrollmentAttestationMechanism(one.registrationId)).responseBody;
  let stale;
  try {
    await client.createOrUpdateIndividualEnrollment({ ...created, deviceId: 'x' });
  } catch (error) { stale = error.name; }
  const group = (await client.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: `${prefix}-g`,
    attestation: { type: 'x509', x509: { signingCertificates: { primary: { certificate: Buffer.from(pem).toString('base64') } } } },
    initialTwin: { tags: { line: 3 }, properties: { desired: { rate: 5 } } },
  })).responseBody;
  const again = (await client.getEnrollmentGroup(group.enrollmentGroupId)).responseBody;
  const wanted = [1, 2, 3].map((n) => ({ registrationId: `${prefix}-${n}`, attestation: { type: 'symmetricKey' } }));
  // without a callback the client never says that it is done
  const bulk = await new Promise((resolve, reject) => {
    const ended = (error, result) => (error ? reject(error) : resolve(result));
    client.runBulkEnrollmentOperation({ mode: 'create', enrollments: wanted }, ended);
  });
  const listed = await all(client.createIndividualEnrollmentQuery({ query: 'SELECT *' }, 2));
  const groups = await all(client.createEnrollmentGroupQuery({ query: 'SELECT *' }, 2));
  const records = await all(client.createEnrollmentGroupDeviceRegistrationStateQuery({ query: 'SELECT *' }, group.enrollmentGroupId, 2));
  let missing;
  try {
    await client.getDeviceRegistrationState(`${prefix}-1`);
  } catch (error) { missing = error.name; }
  await client.deleteIndividualEnrollment(updated);
  await client.deleteIndividualEnrollment(`${prefix}-2`);
  await client.deleteEnrollmentGroup(again.enrollmentGroupId);
  let gone;
  try {
    await client.getEnrollmentGroup(again.enrollmentGroupId);
  } catch (error) { gone = error.name; }
  return {
    created, updated, stale, group, again, bulk, records, missing, gone,
    keys: Object.values(keys.symmetricKey).map((each) => Buffer.from(each, 'base64').length),
    kept: JSON.stringify(keys) === JSON.stringify(kept),
    listed: listed.map((each) => each.registrationId),
    groups: groups.map((each) => each.enrollmentGroupId),
  };
}

main(...process.argv.slice(2)).then(
  (result) => { console.log(JSON.stringify(result)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
