// How a session goes on when its connection breaks: on a played network and clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../clients/emotrace_clients/browser/emotrace/index.js";
import {
  beat,
  BUFFER_MS,
  Clock,
  ended,
  failed,
  Network,
  settle,
  started,
  WINDOW_MS,
} from "./scripted.js";

const URL = "ws://127.0.0.1:1/v1/stream";
const SECOND = 32_000; // bytes
const BLOCK = 1280; // 40 ms

function begin() {
  const network = new Network();
  const clock = new Clock();
  const session = connect(URL, {}, { WebSocket: network.WebSocket, clock });
  const changes = [];
  session.addEventListener("connection", ({ detail }) => changes.push(detail));
  network.last.accept();
  network.last.say(started());
  return { network, clock, session, changes };
}

// The next connection, once its time has come.
function reconnect({ network, clock, changes }) {
  const before = network.sockets.length;
  clock.advance(changes.at(-1).retry_in_ms);
  assert.equal(network.sockets.length, before + 1);
  network.last.accept();
  return network.last;
}

const block = (number) => new Uint8Array(BLOCK).fill(number);
const ack = (sequence, messages) => ({ type: "input.ack", sequence, messages });
const resumed = (sequence, messages, token = "second") => ({
  type: "session.resumed",
  sequence,
  messages,
  token,
});

function rejects(session, code, message) {
  return assert.rejects(session.finished, (error) => {
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
}

test("what was not acknowledged is said again, once and in order, and nothing else", async () => {
  const all = begin();
  const { network, session } = all;
  const [first] = network.sockets;
  const read = [];
  session.onEvent = ({ sequence }) => read.push(sequence);
  for (let i = 0; i < 6; i += 1) session.sendAudio(block(i)); // messages 0 to 5
  session.sendText("words", { utterance: 0 }); // 6
  first.say(beat(1), ack(2, 2), beat(3));
  first.break();
  session.sendAudio(block(6)); // while away
  session.sendText("a reply", { speaker: "Bot" });
  session.sendText("more words", { utterance: 1 });

  const second = reconnect(all);
  assert.deepEqual(second.said, [
    { type: "session.resume", session: "s-1", token: "first", sequence: 4, attempt: 1 },
  ]);
  second.say(beat(4), beat(5));
  assert.equal(second.said.length, 1, "nothing before session.resumed");
  second.say(resumed(6, 4));
  const numbered = second.said.slice(1).filter(({ type }) => type !== "ack");
  assert.deepEqual(numbered, [
    block(4),
    block(5),
    { type: "utterance.text", text: "words", utterance: 0 },
    { type: "utterance.text", text: "more words", utterance: 1 },
    block(6),
    { type: "utterance.text", text: "a reply", speaker: "Bot" },
  ]);
  second.say(ended(7));
  assert.equal((await session.finished).events, 8);
  assert.deepEqual(read, [1, 3, 4, 5, 7], "each once; what is about the wire is hidden");
});

test("a session that breaks again uses the new token, and counts on", () => {
  const all = begin();
  const { network, session } = all;
  session.sendAudio(block(0));
  network.last.break();
  reconnect(all).say(resumed(1, 1, "second"));
  session.sendAudio(block(1));
  network.last.break();
  const third = reconnect(all);
  assert.deepEqual(third.said, [
    { type: "session.resume", session: "s-1", token: "second", sequence: 2, attempt: 2 },
  ]);
  third.say(resumed(2, 1, "third"));
  assert.deepEqual(third.audio, [block(1)]);
});

test("a connection that breaks while it is being resumed is tried again from where it was", () => {
  const all = begin();
  const { network, session } = all;
  const read = [];
  session.onEvent = ({ sequence }) => read.push(sequence);
  network.last.break();
  const second = reconnect(all);
  second.say(beat(1), beat(2));
  second.break();
  const third = reconnect(all);
  assert.equal(third.said[0].sequence, 3);
  assert.equal(third.said[0].token, "first");
  third.say(beat(2), beat(3), resumed(4, 0));
  assert.deepEqual(read, [1, 2, 3]);
});

test("a gap in what was missed ends the session", async () => {
  const all = begin();
  all.network.last.break();
  reconnect(all).say(beat(2));
  await rejects(all.session, "protocol_broken", /event 2 .* came where 1 was due/);
});

test("a server that wants what it had acknowledged, or never got, is told of", async () => {
  for (const [messages, told] of [
    [0, /wants message 0 again, and had acknowledged 1/],
    [3, /acknowledged 3 messages, and 2 were sent/],
  ]) {
    const all = begin();
    all.session.sendAudio(block(0));
    all.session.sendAudio(block(1));
    all.network.last.say(ack(1, 1));
    all.network.last.break();
    reconnect(all).say(resumed(2, messages));
    await rejects(all.session, "protocol_broken", told);
  }
});

test("attempts back off with full jitter, and are told", () => {
  const all = begin();
  const { network, clock, changes } = all;
  clock.advance(12_000); // the connection was a good one
  network.last.break();
  const ceilings = [
    200, 300, 450, 675, 1012.5, 1518.75, 2278.125, 3417.1875, 5125.78125, 7688.671875, 10_000, 10_000,
  ];
  ceilings.forEach((ceiling, i) => {
    assert.equal(clock.next, ceiling / 2, "chance is one half");
    assert.deepEqual(changes.at(-1), {
      state: "reconnecting",
      attempt: i + 1,
      retry_in_ms: ceiling / 2,
    });
    clock.advance(clock.next);
    network.last.break();
  });
  reconnect(all).say(resumed(1, 0));
  assert.deepEqual(
    changes.map(({ state }) => state),
    ["open", "lost", ...Array(ceilings.length + 1).fill("reconnecting"), "resumed"],
  );
});

test("jitter goes from nothing to the whole", () => {
  for (const [chance, wait] of [
    [0, 0],
    [0.25, 50],
    [1, 200],
  ]) {
    const { network, clock } = begin();
    clock.chance = chance;
    network.last.break();
    assert.equal(clock.next, wait);
  }
});

test("a server that takes sessions up and drops them at once is not stormed", () => {
  const all = begin();
  const { network, clock, changes } = all;
  const waits = [];
  for (let i = 0; i < 8; i += 1) {
    network.last.break();
    waits.push(changes.at(-1).retry_in_ms);
    reconnect(all).say(resumed(i + 1, 0));
  }
  assert.deepEqual(waits, [100, 150, 225, 337.5, 506.25, 759.375, 1139.0625, 1708.59375]);
  network.last.say(beat(9));
  clock.advance(10_000);
  network.last.break();
  assert.equal(changes.at(-1).retry_in_ms, 100, "one that held is a good one");
});

test("the attempts end with the window, the last one at its end", async () => {
  const { network, clock, session } = begin();
  session.sendAudio(new Uint8Array(SECOND));
  const begun = clock.time;
  network.last.break();
  while (clock.next !== null) {
    clock.advance(clock.next);
    assert.ok(clock.time - begun <= WINDOW_MS);
    network.last.break();
  }
  assert.equal(clock.time - begun, WINDOW_MS);
  await rejects(
    session,
    "connection_lost",
    /not mended within 60 s.*Lost: .* from 0\.0 s to 1\.0 s/,
  );
  assert.deepEqual((await session.finished.catch((error) => error)).lost, {
    from_ms: 0,
    to_ms: 1000,
  });
});

test("a server that goes away is waited for as long as it says", async () => {
  const all = begin();
  const { network, changes } = all;
  network.last.say(failed(1, "going_away", { resume: true, retry_after_ms: 3000 }));
  all.session.sendAudio(block(0));
  assert.equal(network.last.audio.length, 0, "it no longer listens");
  network.last.break(1012);
  assert.equal(changes.at(-1).retry_in_ms, 3100);
  const second = reconnect(all);
  assert.equal(second.said[0].sequence, 2);
  second.break();
  assert.equal(changes.at(-1).retry_in_ms, 150, "that was for once");
  const third = reconnect(all);
  third.say(resumed(2, 0));
  assert.deepEqual(third.audio, [block(0)]);
  third.say(ended(3));
  assert.equal((await all.session.finished).events, 4, "and is forgotten");
});

test("an error that is worth another session is not worth this one again", async () => {
  const { network, session, clock } = begin();
  network.last.say(failed(1, "idle_no_audio", { retryable: true }));
  network.last.break(4408);
  await rejects(session, "idle_no_audio", /happened/);
  assert.equal(clock.next, null);
});

test("a server that is busy when asked to resume is asked again", () => {
  const all = begin();
  const { network, changes } = all;
  network.last.break();
  const second = reconnect(all);
  second.say(failed(0, "capacity", { retryable: true, retry_after_ms: 5000 }));
  second.break(1013);
  assert.equal(changes.at(-1).retry_in_ms, 5150);
  reconnect(all).say(resumed(1, 0));
});

test("a server that asks for more patience than the window has", async () => {
  const { network, session, clock } = begin();
  const patience = { resume: true, retry_after_ms: WINDOW_MS + 1 };
  network.last.say(failed(1, "going_away", patience));
  network.last.break(1012);
  await rejects(session, "connection_lost", /not mended/);
  assert.equal(clock.next, null);
});

test("a server that goes away for good ends the session with its reason", async () => {
  const { network, session } = begin();
  network.last.say(failed(1, "going_away", { resume: true }), {
    ...ended(2),
    reason: "going_away",
  });
  await rejects(session, "going_away", /^going_away happened\.$/);
});

test("a refusal is final, and says what was lost", async () => {
  for (const code of ["session_unknown", "resume_expired"]) {
    const all = begin();
    const { network, session, clock } = all;
    session.sendAudio(new Uint8Array(2 * SECOND));
    const [marker] = network.last.of("marker");
    network.last.say({ type: "marker.reached", sequence: 1, id: marker.id, audio_ms: 500 });
    network.last.break();
    session.sendAudio(new Uint8Array(SECOND));
    const second = reconnect(all);
    second.say(failed(0, code));
    second.break(4404);
    await rejects(session, code, /happened\. Lost: the results of the sound from 0\.5 s to 3\.0 s/);
    assert.equal(clock.next, null, "nothing is tried again");
    assert.throws(() => session.sendAudio(block(0)), { code });
  }
});

test("a session that another connection took over is left alone", async () => {
  for (const sequence of [1, 0]) {
    const { network, session, clock } = begin();
    network.last.say(failed(sequence, "taken_over"));
    network.last.break(4409);
    await rejects(session, "taken_over", /happened/);
    assert.equal(clock.next, null);
  }
});

test("a fatal error of an earlier connection, told again, ends nothing", () => {
  const all = begin();
  all.network.last.break();
  reconnect(all).say(failed(1, "slow_consumer", { resume: true }), beat(2), resumed(3, 0));
  all.session.sendAudio(block(1));
  assert.deepEqual(all.network.last.audio, [block(1)]);
});

test("a session that was over in the meantime is read to its end", async () => {
  const all = begin();
  const { network, session } = all;
  session.sendAudio(block(0));
  session.end();
  network.last.break();
  reconnect(all).say(beat(1), ended(2));
  assert.equal((await session.finished).events, 3);
});

test("the end, too, is said again", () => {
  const all = begin();
  all.session.sendAudio(block(0));
  all.session.end();
  all.network.last.break();
  reconnect(all).say(resumed(1, 1));
  assert.deepEqual(
    all.network.last.said.slice(1).filter(({ type }) => type !== "ack"),
    [{ type: "session.end" }],
  );
});

test("events are acknowledged within half a second, and only where any came", () => {
  const { network, clock } = begin();
  const [socket] = network.sockets;
  const acked = () => socket.of("ack").map(({ sequence }) => sequence);
  assert.deepEqual(acked(), [0]);
  socket.say(beat(1), beat(2));
  assert.deepEqual(acked(), [0]);
  clock.advance(500);
  assert.deepEqual(acked(), [0, 2]);
  clock.advance(5000);
  assert.deepEqual(acked(), [0, 2], "nothing came");
  socket.say(beat(3));
  assert.deepEqual(acked(), [0, 2, 3], "the last one was long ago");
});

test("acknowledgements have no number of their own", () => {
  const all = begin();
  const { network, clock, session } = all;
  session.sendAudio(block(0));
  network.last.say(beat(1));
  clock.advance(600);
  assert.equal(network.last.of("ack").length, 2);
  session.sendAudio(block(1));
  network.last.break();
  reconnect(all).say(resumed(2, 1));
  assert.deepEqual(network.last.audio, [block(1)]);
});

test("a network that died without a word is noticed", () => {
  const { network, clock, changes } = begin();
  clock.advance(10_000);
  network.last.say(beat(1));
  clock.advance(14_999);
  assert.equal(changes.at(-1).state, "open");
  clock.advance(1);
  assert.equal(changes.at(-2).state, "lost");
  assert.equal(changes.at(-1).state, "reconnecting");
  network.sockets[0].say(beat(2));
  network.sockets[0].break();
  assert.equal(changes.at(-1).attempt, 1, "what the old connection does is of no interest");
});

test("an attempt that hangs is given up after ten seconds", () => {
  const { network, clock } = begin();
  network.last.break();
  clock.advance(100);
  assert.equal(network.sockets.length, 2);
  clock.advance(10_000);
  assert.equal(clock.next, 150);
  clock.advance(150);
  assert.equal(network.sockets.length, 3);
});

test("an error counts as a break, whether a close follows or not", () => {
  const { network, changes } = begin();
  const [socket] = network.sockets;
  socket.onerror({});
  assert.equal(changes.length, 3);
  socket.onclose?.({ code: 1006 });
  socket.onerror({});
  assert.deepEqual(
    changes.map(({ state }) => state),
    ["open", "lost", "reconnecting"],
  );
});

test("a session that the server can no longer keep is not resumed", async () => {
  const { network, session, clock } = begin();
  session.sendAudio(new Uint8Array(SECOND));
  network.last.say({ type: "warning", sequence: 1, code: "resume_lost", message: "", param: null });
  assert.equal(clock.next, null, "no sign of life is waited for, and nothing acknowledged");
  network.last.break();
  await rejects(session, "connection_lost", /broke .*Lost/);
  assert.equal(network.sockets.length, 1);
});

test("what is told again of a session that is taken up all the same takes nothing away", () => {
  const all = begin();
  all.session.sendAudio(block(0));
  all.network.last.break();
  const warning = { type: "warning", sequence: 1, code: "resume_lost", message: "", param: null };
  const second = reconnect(all);
  second.say(warning);
  assert.equal(second.audio.length, 0);
  second.say(resumed(2, 0));
  assert.deepEqual(second.audio, [block(0)]);
});

test("leaving while away stops the attempts", async () => {
  const { network, clock, session } = begin();
  network.last.break();
  session.close();
  await rejects(session, "closed", /closed before/);
  assert.equal(clock.next, null);
});

test("sound that is not acknowledged is bounded, connected or away", async () => {
  const all = begin();
  const { network, session } = all;
  const [socket] = network.sockets;
  let sequence = 1;
  session.sendAudio(new Uint8Array((BUFFER_MS / 1000 + 5) * SECOND));
  for (let reached = 0; reached < socket.of("marker").length; reached += 1) {
    const { id } = socket.of("marker")[reached];
    socket.say({ type: "marker.reached", sequence, id, audio_ms: 0 });
    sequence += 1;
  }
  const sent = socket.audio.reduce((sum, { byteLength }) => sum + byteLength, 0);
  assert.equal(sent, (BUFFER_MS * SECOND) / 1000, "no more than can be said again");
  assert.equal(session.buffered_ms, 5000);
  assert.equal(session.room, false);

  network.last.break();
  for (let i = 0; i < 26; i += 1) session.sendAudio(new Uint8Array(SECOND));
  const late = /away for too long: 31\.0 s of sound wait/;
  assert.throws(() => session.sendAudio(new Uint8Array(SECOND)), (error) => {
    return error.code === "connection_lost" && late.test(error.message);
  });
  await rejects(session, "connection_lost", late);
});

test("sound that waited is sent no faster than the server takes it", () => {
  const all = begin();
  const { network, session } = all;
  network.last.break();
  for (let i = 0; i < 10; i += 1) session.sendAudio(new Uint8Array(SECOND).fill(i));
  assert.equal(session.room, false);
  reconnect(all).say(resumed(1, 0));
  const sent = network.last.audio.reduce((sum, { byteLength }) => sum + byteLength, 0);
  assert.equal(sent, 2 * SECOND, "a third of the server's queue");
  assert.equal(session.buffered_ms, 8000);
});

test("whoever waits for room waits while the connection is away", async () => {
  const all = begin();
  all.network.last.break();
  let isReady = false;
  const waiting = all.session.ready().then(() => (isReady = true));
  await settle();
  assert.equal(isReady, false);
  reconnect(all).say(resumed(1, 0));
  await waiting;
});
