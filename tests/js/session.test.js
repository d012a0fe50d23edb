// A session on one connection: what is said, what is heard, and how it fails.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  connect,
  EmotraceError,
  streamUrl,
} from "../../clients/emotrace_clients/browser/emotrace/index.js";
import { AUDIO_QUEUE_MS, beat, Clock, ended, failed, Network, settle, started } from "./scripted.js";

const URL = "ws://127.0.0.1:1/v1/stream";
const SECOND = 32_000; // bytes
const WINDOW = (AUDIO_QUEUE_MS / 3 / 1000) * SECOND;
const PIECE = WINDOW / 4;

function open(settings = {}, options = {}) {
  const network = new Network();
  const clock = new Clock();
  const session = connect(URL, settings, { WebSocket: network.WebSocket, clock, ...options });
  const socket = network.last;
  socket?.accept();
  return { network, clock, session, socket };
}

function begin(settings = {}, changed = { resume: null }) {
  const all = open(settings);
  all.socket.say(started(changed));
  return all;
}

function fails(promise, code, message = /./) {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof EmotraceError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
}

test("session.start carries the settings by their own names, and asks for resume", async () => {
  const audio = { encoding: "f32le", sample_rate: 48_000, channels: 2 };
  const { socket, session } = open({ audio, speakers: ["Ann", "Ben"], labels: "common4" });
  assert.equal(socket.url, URL);
  const common = { type: "session.start", protocol_version: 1, resume: true };
  assert.deepEqual(socket.said, [
    { ...common, audio, speakers: ["Ann", "Ben"], labels: "common4" },
  ]);
  socket.say(started());
  assert.equal((await session.started).session, "s-1");
  assert.equal(open({ resume: false }).socket.said[0].resume, false);
});

test("nothing is sent before the session starts, and then all of it in order", () => {
  const { socket, session } = open();
  session.sendAudio(Int16Array.of(1, 2));
  session.sendText("Hello.", { speaker: "A", language: "en" });
  session.sendAudio(Uint8Array.of(9).buffer);
  session.end();
  assert.equal(socket.said.length, 1);
  assert.equal(session.room, false);
  socket.say(started({ resume: null }));
  assert.deepEqual(socket.said.slice(1), [
    Uint8Array.of(1, 0, 2, 0),
    { type: "utterance.text", text: "Hello.", speaker: "A", language: "en" },
    Uint8Array.of(9),
    { type: "session.end" },
  ]);
});

test("a deletion goes before the sound that waits, and after the end too", async () => {
  const { socket, session } = begin();
  session.sendAudio(new Uint8Array(20 * SECOND));
  session.end();
  assert.equal(socket.of("session.end").length, 0, "sound waits before it");
  session.delete();
  assert.equal(socket.of("session.delete").length, 1);
  socket.say({ ...ended(1), reason: "deleted" });
  await session.finished;
  session.delete();
  assert.equal(socket.of("session.delete").length, 1, "once it is over nothing more is said");
});

test("events come in order to all three forms, and the end is told", async () => {
  const { socket, session } = begin();
  const called = [];
  const listened = [];
  session.onEvent = (event) => called.push(event.type);
  session.addEventListener("event", ({ detail }) => listened.push(detail.type));
  const read = [];
  const reading = (async () => {
    for await (const event of session) read.push(event.type);
  })();
  assert.equal(session.totals, null);
  socket.say(beat(1), { type: "of.tomorrow", sequence: 2 }, ended(3));
  await reading;
  const totals = await session.finished;
  assert.equal(totals.events, 4);
  assert.equal(session.totals, totals);
  assert.deepEqual(called, ["heartbeat", "of.tomorrow", "session.ended"]);
  assert.deepEqual(listened, called);
  assert.deepEqual(read, ["session.started", ...called]);
  assert.equal(socket.closed, 1000);
});

test("reading may stop and go on", async () => {
  const { socket, session } = begin();
  socket.say(beat(1), beat(2), ended(3));
  for await (const event of session) if (event.sequence === 1) break;
  const rest = [];
  for await (const event of session) rest.push(event.sequence);
  assert.deepEqual(rest, [2, 3]);
});

test("one reader's fault is not another's", async () => {
  const { socket, session } = begin();
  const uncaught = [];
  const listeners = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => uncaught.push(error.message));
  session.onEvent = () => {
    throw new Error("a fault of the page");
  };
  socket.say(beat(1), ended(2));
  assert.equal((await session.finished).events, 3);
  await new Promise((done) => setImmediate(done));
  process.removeAllListeners("uncaughtException");
  for (const listener of listeners) process.on("uncaughtException", listener);
  assert.deepEqual(uncaught, ["a fault of the page", "a fault of the page"]);
});

test("events that nobody reads do not pile up, and a late reader is told", async () => {
  const { socket, session } = begin();
  for (let sequence = 1; sequence < 5000; sequence += 1) socket.say(beat(sequence));
  await fails(session[Symbol.asyncIterator]().next(), "events_unread", /read them as they come/);
  socket.say(ended(5000));
  assert.equal((await session.finished).events, 5001, "the session itself goes on");
});

test("a whole recording is sent as fast as the server takes it, and no faster", async () => {
  const { socket, session } = begin();
  const recording = Uint8Array.from({ length: 20 * SECOND }, (_, i) => i % 251);
  session.sendAudio(recording);
  session.end();
  let sequence = 1;
  let most = 0;
  let processed = 0;
  while (socket.of("session.end").length === 0) {
    const sent = socket.audio.reduce((sum, { byteLength }) => sum + byteLength, 0);
    most = Math.max(most, sent - processed);
    const [marker] = socket.of("marker").slice(sequence - 1);
    processed = Number(marker.id.replace("flow-", ""));
    socket.say({ type: "marker.reached", sequence, id: marker.id, audio_ms: 0 });
    sequence += 1;
  }
  assert.equal(most, WINDOW);
  assert.ok(socket.audio.every(({ byteLength }) => byteLength <= PIECE));
  assert.deepEqual(Buffer.concat(socket.audio), Buffer.from(recording));
  const read = [];
  while (socket.of("marker").length >= sequence) {
    const { id } = socket.of("marker")[sequence - 1];
    socket.say({ type: "marker.reached", sequence, id, audio_ms: 0 });
    sequence += 1;
  }
  socket.say(ended(sequence));
  for await (const event of session) read.push(event.type);
  assert.deepEqual(read, ["session.started", "session.ended"], "flow markers are hidden");
});

test("ready() waits for room, and tells how it ended", async () => {
  const { socket, session } = begin();
  assert.equal(session.room, true);
  await session.ready();
  session.sendAudio(new Uint8Array(WINDOW + SECOND));
  assert.equal(session.room, false);
  assert.equal(session.buffered_ms, 1000);
  let isReady = false;
  const waiting = session.ready().then(() => (isReady = true));
  const reach = (number) => {
    const { id } = socket.of("marker")[number];
    socket.say({ type: "marker.reached", sequence: number + 1, id, audio_ms: 0 });
  };
  reach(0);
  reach(1);
  await settle();
  assert.equal(session.buffered_ms, 0);
  assert.equal(isReady, false, "all is sent, and the server has enough to do");
  reach(2);
  await waiting;
  session.end();
  await fails(session.ready(), "ended");
});

test("sound that piles up ends the session with its cause", async () => {
  const { session } = begin();
  const live = () => session.sendAudio(new Uint8Array(SECOND));
  for (let i = 0; i < WINDOW / SECOND + 9; i += 1) live();
  const told = /9\.0 s of sound wait.*session\.ready\(\).*Lost: .* from 0\.0 s to 11\.0 s/;
  assert.throws(live, (error) => error.code === "too_slow" && told.test(error.message));
  await fails(session.finished, "too_slow", told);
  assert.throws(live, { code: "too_slow" });
});

test("words of an utterance overtake sound, and come after the end; turns do not", () => {
  const { socket, session } = begin();
  session.sendAudio(new Uint8Array(WINDOW + 1));
  session.sendText("A reply.", { speaker: "Bot" });
  session.end();
  session.sendText("Words.", { utterance: 3 });
  assert.deepEqual(socket.of("utterance.text"), [
    { type: "utterance.text", text: "Words.", utterance: 3 },
  ]);
  assert.throws(() => session.sendText("Late.", { speaker: "Bot" }), { code: "ended" });
  assert.throws(() => session.sendAudio(new Uint8Array(2)), { code: "ended" });
  session.end();
});

test("an image is left out where the network is behind", () => {
  const { socket, session } = begin();
  assert.equal(session.sendImage("abc", "A"), true);
  session.sendAudio(new Uint8Array(WINDOW + 1));
  assert.equal(session.sendImage("def", "A"), false);
  assert.deepEqual(socket.of("image"), [{ type: "image", speaker: "A", jpeg: "abc" }]);
});

test("a marker waits for its echo, and each has its own id", async () => {
  const { socket, session } = begin();
  const reached = session.marker("half-way");
  await fails(session.marker("half-way"), "in_use");
  await fails(session.marker("flow-1"), "in_use");
  socket.say({ type: "marker.reached", sequence: 1, id: "half-way", audio_ms: 40 });
  assert.equal((await reached).audio_ms, 40);
  const never = session.marker("never");
  socket.say(ended(2));
  await fails(never, "ended");
});

test("what the server refuses is told in its own words", async () => {
  const { socket, session } = open();
  socket.say(failed(0, "labels_mismatch", { param: "labels" }));
  socket.break(4422);
  await fails(session.started, "labels_mismatch", /^labels_mismatch happened\.$/);
  await fails(session.finished, "labels_mismatch");
  const error = await session.finished.catch((one) => one);
  assert.equal(error.event.param, "labels");
  assert.equal(error.lost, null);
});

test("a fatal error ends the session after what follows it, and says what was lost", async () => {
  const { socket, session } = begin();
  session.sendAudio(new Uint8Array(SECOND));
  const [marker] = socket.of("marker");
  socket.say({ type: "marker.reached", sequence: 1, id: marker.id, audio_ms: 500 });
  socket.say(failed(2, "idle_no_speech"), ended(3));
  const read = [];
  await fails(
    (async () => {
      for await (const event of session) read.push(event.type);
    })(),
    "idle_no_speech",
    /happened\. Lost: the results of the sound from 0\.5 s to 1\.0 s/,
  );
  assert.deepEqual(read, ["session.started", "error", "session.ended"]);
  assert.deepEqual((await session.finished.catch((error) => error)).lost, {
    from_ms: 500,
    to_ms: 1000,
  });
  assert.equal(session.totals.events, 4);
});

test("an error that is not fatal changes nothing", async () => {
  const { socket, session } = begin();
  socket.say(failed(1, "image_invalid", { fatal: false }), ended(2));
  await session.finished;
});

test("a connection that breaks without resume ends the session, and it is told", async () => {
  const { socket, session, clock } = begin();
  const states = [];
  session.addEventListener("connection", ({ detail }) => states.push(detail.state));
  socket.break(1006);
  await fails(session.finished, "connection_lost", /without a word.*still running/);
  assert.deepEqual(states, ["lost"]);
  assert.equal(clock.next, null, "nothing is tried again");
});

test("silence is no fault where nothing can be resumed", () => {
  assert.equal(begin().clock.next, null);
});

test("a server that breaks the protocol is told", async () => {
  for (const [data, message] of [
    ["{", /no event/],
    ['{"type":"heartbeat"}', /no event/],
    ["null", /no event/],
    [JSON.stringify(beat(7)), /event 7 \(heartbeat\) came where 1 was due/],
    [JSON.stringify(ended(1, { finals: 2 })), /counted 2 finals, and 0 came/],
  ]) {
    const { socket, session } = begin();
    socket.onmessage({ data });
    await fails(session.finished, "protocol_broken", message);
    assert.equal(socket.closed, 1000);
  }
});

test("a server that does not answer", async () => {
  const { session, clock } = open();
  clock.advance(9999);
  await settle();
  clock.advance(1);
  await fails(session.finished, "no_answer", /Is it an Emotrace server/);
});

test("close() and a signal leave at once, and later words are refused", async () => {
  const { socket, session } = begin();
  session.close();
  session.close();
  await fails(session.finished, "closed");
  assert.equal(socket.closed, 1000);
  assert.throws(() => session.sendAudio(new Uint8Array(2)), { code: "closed" });

  const leaving = new AbortController();
  const other = open({}, { signal: leaving.signal });
  leaving.abort("enough");
  await fails(other.session.finished, "closed");
  assert.equal((await other.session.finished.catch((error) => error)).cause, "enough");

  const never = open({}, { signal: AbortSignal.abort() });
  await fails(never.session.started, "closed");
  assert.equal(never.network.sockets.length, 0);
});

test("a session that ended stays as it ended", async () => {
  const { socket, session } = begin();
  socket.say(ended(1));
  session.close();
  session.end();
  assert.equal((await session.finished).events, 2);
  assert.throws(() => session.sendAudio(new Uint8Array(2)), { code: "ended" });
});

test("addresses, and what has no WebSocket", () => {
  assert.throws(() => connect("http://127.0.0.1/"), { code: "address", message: /ws:\/\// });
  assert.throws(() => connect("nowhere"), { code: "address" });
  const kept = globalThis.WebSocket;
  delete globalThis.WebSocket;
  assert.throws(() => connect(URL), { code: "unsupported", message: /package ws/ });
  if (kept !== undefined) globalThis.WebSocket = kept;
  class Strict {
    constructor() {
      throw new SyntaxError("not over HTTPS");
    }
  }
  return fails(connect(URL, {}, { WebSocket: Strict }).finished, "address", /not over HTTPS/);
});

test("the address of the stream beside a page", () => {
  assert.equal(streamUrl("http://127.0.0.1:8080/"), "ws://127.0.0.1:8080/v1/stream");
  assert.equal(streamUrl("https://a.test/emo/index.html?x#y"), "wss://a.test/emo/v1/stream");
});
