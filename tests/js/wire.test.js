// Over real sockets. A test in tests/clients starts the server (`play` in tests/javascript.py), and
// names in EMOTRACE_TASK a file that says which of these to play and against what.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import { connect, TurnMatcher } from "../../clients/emotrace_clients/browser/emotrace/index.js";

const path = process.env.EMOTRACE_TASK;
const task = path === undefined ? {} : JSON.parse(readFileSync(path, "utf8"));
const options = task.ws ? { WebSocket: (await import("ws")).WebSocket } : {};

// Node 20's runner gives up where nothing keeps the event loop going between a test and the next.
const going = setInterval(() => {}, 1000);
after(() => clearInterval(going));

function play(name, action) {
  const reason = "tests/clients/test_javascript*.py start servers for it";
  test(name, { skip: task.play !== name && reason }, action);
}

// What does not differ from run to run.
function comparable({ type, utterance, speaker, start_ms, end_ms, label, posterior, decoder }) {
  return { type, utterance, speaker, start_ms, end_ms, label, posterior, decoder };
}

function assertClose(one, other, where) {
  if (typeof one === "number" && typeof other === "number") {
    assert.ok(Math.abs(one - other) <= 1e-6, `${where}: ${one} and ${other}`);
  } else if (typeof one === "object" && one !== null && typeof other === "object") {
    assert.deepEqual(Object.keys(one), Object.keys(other ?? {}), where);
    for (const key of Object.keys(one)) assertClose(one[key], other[key], `${where}.${key}`);
  } else assert.equal(one, other, where);
}

play("the demo dialogue", async () => {
  const session = connect(task.url, task.settings, options);
  const turns = new TurnMatcher(task.turns);
  let resumed = 0;
  session.addEventListener("connection", ({ detail }) => {
    if (detail.state === "resumed") resumed += 1;
  });
  const sending = (async () => {
    const pcm = readFileSync(task.pcm);
    for (let at = 0; at < pcm.length; at += 12_800) {
      await session.ready();
      session.sendAudio(pcm.subarray(at, at + 12_800));
    }
    session.end();
  })();
  const said = [];
  for await (const event of session) {
    if (event.type === "speech.ended") {
      session.sendText(turns.take(event), { utterance: event.utterance });
    }
    if (event.type.startsWith("emotion.")) said.push(comparable(event));
  }
  await sending;
  const totals = await session.finished;
  assert.equal(totals.audio_bytes, task.audio_bytes);
  assert.equal(said.length, task.expected.length);
  said.forEach((event, i) => assertClose(event, comparable(task.expected[i]), `event ${i}`));
  assert.equal(resumed, task.breaks ?? 0);
});

play("a broken connection", async () => {
  const session = connect(task.url, {}, options);
  const states = [];
  const heard = [];
  let broken;
  const lost = new Promise((resolve) => (broken = resolve));
  session.addEventListener("connection", ({ detail }) => {
    states.push(detail.state);
    if (detail.state === "lost") broken();
  });
  session.onEvent = ({ sequence, type }) => heard.push([sequence, type]);
  await session.started;
  for (let i = 0; i < 4; i += 1) session.sendAudio(new Uint8Array(64).fill(i));
  session.sendText("Words.", { utterance: 0 });
  await lost;
  session.sendAudio(new Uint8Array(64).fill(4));
  session.end();
  await session.finished;
  assert.deepEqual(states, task.states);
  assert.deepEqual(heard, task.expected);
});

play("a failure", async () => {
  const session = connect(task.url, task.settings, options);
  session.started.then(
    () => session.sendAudio(new Uint8Array(64_000)),
    () => {},
  );
  await assert.rejects(session.finished, (error) => {
    assert.match(error.message, new RegExp(task.message));
    assert.equal(error.code, task.code);
    assert.deepEqual(error.lost, task.lost ?? null);
    return true;
  });
});
