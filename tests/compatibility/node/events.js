// @azure/event-hubs on the Event Hubs-compatible endpoint. Arguments: what to do, transport, connection string, JSON.
"use strict";
const { EventHubConsumerClient, earliestEventPosition, latestEventPosition } = require("@azure/event-hubs");
const WebSocket = require("ws");

const [act, transport, connectionString, json] = process.argv.slice(2);
const options = JSON.parse(json || "{}");

function client(group = "$Default") {
  const more = { retryOptions: { maxRetries: 0 } };
  if (transport === "websocket") {
    more.webSocketOptions = { webSocket: WebSocket };
  }
  return new EventHubConsumerClient(group, connectionString, more);
}

// The first events of a partition, fewer if no more come in time.
function read(consumer, partition, startPosition, count, { within = 15000, started, ...more } = {}) {
  return new Promise((resolve, reject) => {
    const got = [];
    let timer;
    const subscription = consumer.subscribe(
      partition,
      {
        async processEvents(events) {
          got.push(...events);
          if (got.length >= count) {
            finish();
          }
        },
        async processError(error) {
          finish(error);
        },
      },
      { startPosition, maxBatchSize: 10, maxWaitTimeInSeconds: 1, ...more },
    );
    let finished = false;
    function finish(error) {
      if (finished) {
        return;
      }
      finished = true;
      clearTimeout(timer);
      subscription.close().then(() => (error ? reject(error) : resolve(got.slice(0, count))));
    }
    timer = setTimeout(() => finish(), within);
    if (started) {
      started();
    }
  });
}

const bodyOf = (event) => (Buffer.isBuffer(event.body) ? event.body.toString() : event.body);

const acts = {
  async properties() {
    const consumer = client();
    const hub = await consumer.getEventHubProperties();
    const partition = await consumer.getPartitionProperties(options.partition);
    await consumer.close();
    return { hub, partition };
  },
  async positions() {
    const consumer = client(options.group);
    const all = await read(consumer, options.partition, earliestEventPosition, options.count);
    const first = async (position) => {
      const events = await read(consumer, options.partition, position, 1);
      return bodyOf(events[0]);
    };
    const result = {
      bodies: all.map(bodyOf),
      sequenceNumbers: all.map((each) => each.sequenceNumber),
      properties: all[0].properties,
      systemProperties: all[0].systemProperties,
      enqueued: all[0].enqueuedTimeUtc,
      offset: await first({ offset: all[5].offset, isInclusive: false }),
      offsetInclusive: await first({ offset: all[5].offset, isInclusive: true }),
      sequence: await first({ sequenceNumber: 10, isInclusive: false }),
      sequenceInclusive: await first({ sequenceNumber: 10, isInclusive: true }),
      time: await first({ enqueuedOn: new Date(all[0].enqueuedTimeUtc.getTime() - 1000) }),
    };
    await consumer.close();
    return result;
  },
  async everything() {
    const consumer = client(options.group);
    const events = await read(consumer, options.partition, earliestEventPosition, options.count);
    await consumer.close();
    return events.map(({ body, properties, systemProperties, correlationId, contentType }) => ({
      body,
      properties,
      systemProperties,
      correlationId,
      contentType,
    }));
  },
  // says "reading" on standard output, and waits for what the test sends after that
  async latest() {
    const consumer = client();
    const events = await read(consumer, options.partition, latestEventPosition, options.count, {
      within: 30000,
      started: () => console.log("reading"),
    });
    await consumer.close();
    return { bodies: events.map(bodyOf) };
  },
  async stolen() {
    const low = client();
    const high = client();
    const never = { within: 20000 };
    const lost = read(low, options.partition, latestEventPosition, 1, { ...never, ownerLevel: 1 }).then(
      () => null,
      (error) => error,
    );
    await new Promise((resolve) => setTimeout(resolve, 1500)); // this client tells nobody that it is attached
    const winner = read(high, options.partition, earliestEventPosition, 1, { ...never, ownerLevel: 5 });
    const error = await lost;
    const [event] = await winner;
    await Promise.all([low.close(), high.close()]);
    return { code: error && error.code, body: bodyOf(event) };
  },
  async refused() {
    const consumer = client(options.group);
    const error = await consumer.getEventHubProperties().then(() => null, (reason) => reason);
    await consumer.close();
    return { code: error && error.code };
  },
};

acts[act]().then((result) => {
  console.log(JSON.stringify(result));
  process.exit(0);
});
