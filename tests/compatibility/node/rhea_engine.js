// rhea, an independent AMQP implementation, against the engine: node rhea_engine.js PORT. Prints one JSON object.
'use strict';
const rhea = require('rhea');

const port = Number(process.argv[2]);
const results = {};

function connect(options) {
  const container = rhea.create_container();
  const connection = container.connect({ host: '127.0.0.1', port, reconnect: false, ...options });
  connection.on('connection_error', () => {});
  connection.on('disconnected', () => {});
  return connection;
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, resolve));
}

async function finish(connection) {
  connection.close();
  await once(connection, 'connection_close');
}

const scenarios = {
  async manyFramesOut() {
    const connection = connect({ max_frame_size: 4096 });
    const sender = connection.open_sender('in');
    await once(sender, 'sendable');
    sender.send({ body: 'y'.repeat(150000) });
    await once(sender, 'accepted');
    sender.send({ body: 'z' });
    await once(sender, 'accepted');
    await finish(connection);
    return true;
  },

  async manyFramesIn() {
    const connection = connect({ max_frame_size: 4096 });
    const receiver = connection.open_receiver('big');
    const sizes = [];
    while (sizes.length < 3) sizes.push((await once(receiver, 'message')).message.body.content.length);
    await finish(connection);
    return sizes;
  },

  async drain() {
    const connection = connect({});
    const receiver = connection.open_receiver({ source: 'few', credit_window: 0 });
    await once(receiver, 'receiver_open');
    let messages = 0;
    receiver.on('message', () => { messages += 1; });
    receiver.drain_credit();
    receiver.add_credit(10);
    await once(receiver, 'receiver_drained');
    await finish(connection);
    return messages;
  },

  async twoSessions() {
    const connection = connect({});
    const opened = [];
    for (const address of ['one', 'two']) {
      const session = connection.create_session();
      session.begin();
      const sender = session.attach_sender({ name: 'same', target: address });
      await once(sender, 'sendable');
      sender.send({ body: address });
      await once(sender, 'accepted');
      opened.push(address);
    }
    await finish(connection);
    return opened;
  },

  async thousandLinks() {
    const connection = connect({});
    let opened = 0;
    const done = new Promise((resolve) => {
      connection.on('sender_open', () => { opened += 1; if (opened === 1000) resolve(); });
    });
    for (let number = 0; number < 1000; number += 1) connection.open_sender(`address-${number}`);
    await done;
    await finish(connection);
    return opened;
  },

  async settleModes() {
    const connection = connect({});
    const settled = connection.open_sender({ target: 'in', snd_settle_mode: 1 });
    await once(settled, 'sendable');
    settled.send({ body: 'settled' });
    const unsettled = connection.open_sender({ target: 'in', snd_settle_mode: 0 });
    await once(unsettled, 'sendable');
    unsettled.send({ body: 'unsettled' });
    await once(unsettled, 'accepted');
    const receiver = connection.open_receiver({ source: 'few', rcv_settle_mode: 1, autosettle: true });
    let seen = 0;
    receiver.on('message', () => { seen += 1; });
    let settledBack = 0;
    await new Promise((resolve) => {
      receiver.on('settled', () => { settledBack += 1; if (settledBack === 2) resolve(); });
    });
    const presettled = connection.open_receiver({ source: 'few', snd_settle_mode: 1 });
    const first = await once(presettled, 'message');
    await finish(connection);
    return [seen, first.delivery.remote_settled];
  },

  async outcomes() {
    const connection = connect({});
    const receiver = connection.open_receiver({ source: 'outcomes', autoaccept: false, credit_window: 1 });
    const acts = [(d) => d.accept(), (d) => d.reject({ condition: 'x:y' }), (d) => d.release(), (d) => d.modified({ delivery_failed: true })];
    for (const act of acts) act((await once(receiver, 'message')).delivery);
    await finish(connection);
    return acts.length;
  },

  async refusedLink() {
    const connection = connect({});
    const sender = connection.open_sender('refused');
    const context = await once(sender, 'sender_error');
    await finish(connection);
    return context.sender.error.condition;
  },

  async refusedResume() {
    const connection = connect({});
    const sender = connection.open_sender({ name: 'resumed', target: 'in', unsettled: { tag: null } });
    await once(sender, 'sendable');
    const answer = sender.remote.attach.unsettled;
    sender.send({ body: 'again' });
    await once(sender, 'accepted');
    await finish(connection);
    return answer === null || answer === undefined;
  },

  async heartbeats() {
    // both sides are patient for a second only, and neither has anything to say for two and a half
    const connection = connect({ idle_time_out: 1000 });
    await once(connection, 'connection_open');
    const until = Date.now() + 2500;
    let lost = false;
    connection.on('disconnected', () => { lost = true; });
    while (Date.now() < until) await new Promise((resolve) => { setTimeout(resolve, 50); });
    if (!lost) await finish(connection);
    return !lost;
  },

  async sasl() {
    const opened = [];
    const silent = () => ({ start: (callback) => callback(undefined, ''), step: (_, callback) => callback(undefined, '') });
    const ways = {
      none: {},
      ANONYMOUS: { username: 'policy' },
      PLAIN: { username: 'user', password: 'password' },
      EXTERNAL: { sasl_mechanisms: { EXTERNAL: silent } },
      MSSBCBS: { sasl_mechanisms: { MSSBCBS: silent } },
    };
    for (const [name, options] of Object.entries(ways)) {
      const connection = connect(options);
      await once(connection, 'connection_open');
      opened.push(name);
      await finish(connection);
    }
    return opened;
  },
};

async function main() {
  for (const [name, scenario] of Object.entries(scenarios)) {
    const timer = setTimeout(() => { console.error(`${name} hangs`); process.exit(1); }, 20000);
    results[name] = await scenario();
    clearTimeout(timer);
  }
  console.log(JSON.stringify(results));
  process.exit(0);
}

main();
