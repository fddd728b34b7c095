// A back end reads events from the beginning. Run it with: hubkeep run -- node samples/node/receive.js [COUNT]
// It ends after COUNT events (3 if not given).
const { EventHubConsumerClient, earliestEventPosition } = require("@azure/event-hubs");

let count = Number(process.argv[2] || 3);

// Endpoint=sb://...;EntityPath=...   (hubkeep connection-string --events)
const group = process.env.CONSUMER_GROUP || "$Default";
const client = new EventHubConsumerClient(group, process.env.EVENT_HUB_CONN_STR);

const subscription = client.subscribe(
  {
    async processEvents(events, context) {
      for (const event of events) {
        const device = event.systemProperties["iothub-connection-device-id"];
        const body = JSON.stringify(event.body);
        console.log(`${device}: ${body}  partition ${context.partitionId} #${event.sequenceNumber}`);
        count -= 1;
      }
      if (count <= 0) {
        await subscription.close();
        await client.close();
      }
    },
    async processError(error) {
      console.error(error.message);
    },
  },
  { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 },
);
