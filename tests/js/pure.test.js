// The parts that know no socket and no clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { toS16le, TurnMatcher } from "../../clients/emotrace_clients/browser/emotrace/index.js";
import { backoff } from "../../clients/emotrace_clients/browser/emotrace/backoff.js";
import { Conversation } from "../../clients/emotrace_clients/browser/emotrace/conversation.js";
import { FlowWindow, secondBytes } from "../../clients/emotrace_clients/browser/emotrace/flow.js";
import { Outbox } from "../../clients/emotrace_clients/browser/emotrace/outbox.js";
import { wireBytes } from "../../clients/emotrace_clients/browser/emotrace/samples.js";
import { beat, ended, failed, started } from "./scripted.js";

const broken = (message) => ({ code: "protocol_broken", message });

// A small generator of numbers, so that a failure happens again.
function numbers(seed) {
  return () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed / 2 ** 31;
  };
}

test("backoff grows by half from 0.2 s to 10 s, and jitter is full", () => {
  const ceilings = [
    200, 300, 450, 675, 1012.5, 1518.75, 2278.125, 3417.1875, 5125.78125, 7688.671875, 10_000, 10_000,
  ];
  ceilings.forEach((ceiling, attempt) => {
    assert.equal(backoff(attempt, () => 0), 0);
    assert.equal(backoff(attempt, () => 0.5), ceiling / 2);
    assert.equal(backoff(attempt, () => 1), ceiling);
  });
  assert.equal(backoff(2000, () => 1), 10_000, "however long it lasts");
});

test("the order of a session, and its totals", () => {
  const conversation = new Conversation();
  for (const event of [started(), beat(1), ended(2)]) assert.ok(conversation.receive(event));
  assert.equal(conversation.received, 3);
});

test("what breaks the order is told", () => {
  const faults = [
    [/event 2 \(heartbeat\) came where 1 was due/, started(), beat(2)],
    [/event 0 \(heartbeat\) came where 1 was due/, started(), beat(0)],
    [/heartbeat came out of turn/, beat(0)],
    [/session.started came out of turn/, started(), { ...started(), sequence: 1 }],
    [/heartbeat came out of turn/, started(), failed(1, "internal"), beat(2)],
    [/session.resumed came out of turn/, started(), { type: "session.resumed", sequence: 1 }],
    [/it counted 5 events, and 2 came/, started(), ended(1, { events: 5 })],
    [/it counted 1 finals, and 0 came/, started(), ended(1, { finals: 1 })],
    [/it counted 1 revisions, and 0 came/, started(), ended(1, { revisions: 1 })],
    [/it counted 1 rejected, and 0 came/, started(), ended(1, { rejected: 1 })],
  ];
  for (const [message, ...events] of faults) {
    const conversation = new Conversation();
    const last = events.pop();
    for (const event of events) conversation.receive(event);
    assert.throws(() => conversation.receive(last), broken(message));
  }
});

test("an error may come before the session starts, and session.ended after a fatal one", () => {
  const conversation = new Conversation();
  assert.ok(conversation.receive(failed(0, "message_invalid", { fatal: false })));
  assert.ok(conversation.receive({ ...started(), sequence: 1 }));
  assert.ok(conversation.receive(failed(2, "idle_no_audio")));
  assert.ok(conversation.receive(ended(3)));
});

test("on a further connection what came is passed over, and a gap is seen", () => {
  const conversation = new Conversation();
  for (const event of [started(), beat(1), beat(2)]) conversation.receive(event);
  conversation.resume();
  assert.equal(conversation.receive(beat(2)), false);
  assert.equal(conversation.receive(failed(3, "slow_consumer")), true, "told too late");
  assert.equal(conversation.receive(beat(4)), true);
  assert.throws(() => conversation.receive(beat(6)), broken(/6 .* came where 5 was due/));
  assert.equal(conversation.receive({ type: "session.resumed", sequence: 5 }), true);
  assert.throws(() => conversation.receive(beat(5)), broken(/5 .* came where 6 was due/));
});

test("the flow window holds for any format, and every wait ends", () => {
  const random = numbers(7);
  for (let round = 0; round < 200; round += 1) {
    const encoding = ["s16le", "f32le", "mulaw", "alaw"][round % 4];
    const channels = 1 + Math.floor(random() * 8);
    const sample_rate = [8000, 16_000, 48_000][round % 3];
    const bytes = secondBytes({ encoding, sample_rate, channels });
    const audio_queue_ms = 1000 + Math.floor(random() * 59_000);
    const flow = new FlowWindow(bytes, { audio_queue_ms, max_message_bytes: 1_048_576 });
    const limit = (Math.max(1000, audio_queue_ms / 3) * bytes) / 1000;
    const markers = [];
    for (let block = 0; block < 60; block += 1) {
      while (!flow.hasRoom) {
        const marker = markers.shift();
        assert.notEqual(marker, undefined, "it waits for nothing");
        assert.ok(flow.reach(marker));
      }
      const size = Math.min(1 + Math.floor(random() * 4e6), flow.piece);
      const marker = flow.send(size);
      assert.ok(size <= 1_048_576);
      assert.ok(flow.sent - flow.processed <= limit);
      if (marker !== null) markers.push(marker);
    }
  }
});

test("markers of others are left alone", () => {
  const flow = new FlowWindow(32_000, { audio_queue_ms: 10_000, max_message_bytes: 1_048_576 });
  assert.equal(flow.reach("half-way"), false);
  const marker = flow.send(flow.piece);
  assert.ok(flow.reach(marker));
  assert.equal(flow.reach(marker), false);
});

const sound = (size, first = 0) => Uint8Array.from({ length: size }, (_, i) => (first + i) % 256);

test("sound is cut to pieces, words go first, and all else keeps its order", () => {
  const outbox = new Outbox();
  outbox.put(new Uint8Array());
  outbox.put(sound(10));
  outbox.put("marker");
  outbox.putFirst("words");
  outbox.putFirst("more words");
  assert.equal(outbox.waitingBytes, 10);
  assert.equal(outbox.next(0), "words");
  assert.equal(outbox.next(0), "more words");
  assert.equal(outbox.next(0), null);
  assert.deepEqual(outbox.next(6), sound(6));
  assert.equal(outbox.waitingBytes, 4);
  assert.deepEqual(outbox.next(6), sound(4, 6));
  assert.equal(outbox.next(0), "marker");
  assert.equal(outbox.next(6), null);
  assert.equal(outbox.waitingBytes, 0);
});

test("words that are the same as what waits next are said twice all the same", () => {
  const outbox = new Outbox();
  outbox.put("same");
  outbox.putFirst("same");
  assert.deepEqual([outbox.next(9), outbox.next(9), outbox.next(9)], ["same", "same", null]);
});

test("what is not acknowledged is kept, and said again from any number on", () => {
  const outbox = new Outbox();
  outbox.keepBytes = 1000;
  const said = ["zero", sound(3), "two", sound(4), "four"];
  for (const message of said) outbox.note(message);
  outbox.acknowledge(1);
  outbox.acknowledge(0); // acknowledgements that go back change nothing
  assert.deepEqual(outbox.resume(1), said.slice(1));
  assert.deepEqual(outbox.resume(3), said.slice(3));
  assert.throws(() => outbox.resume(2), broken(/wants message 2 again, and had acknowledged 3/));
  assert.throws(() => outbox.acknowledge(6), broken(/acknowledged 6 messages, and 5 were sent/));
  assert.deepEqual(outbox.resume(5), []);
});

test("no more sound is sent than may be kept, until some is acknowledged", () => {
  const outbox = new Outbox();
  outbox.keepBytes = 10;
  for (let i = 0; i < 3; i += 1) outbox.put(sound(5));
  outbox.put("words");
  for (let i = 0; i < 2; i += 1) outbox.note(outbox.next(5));
  assert.equal(outbox.next(5), null);
  outbox.acknowledge(1);
  outbox.note(outbox.next(5));
  assert.equal(outbox.next(5), "words");
});

test("what need not be kept any longer holds nothing up", () => {
  const outbox = new Outbox();
  outbox.keepBytes = 5;
  for (let i = 0; i < 3; i += 1) outbox.put(sound(5));
  outbox.note(outbox.next(5));
  assert.equal(outbox.next(5), null);
  outbox.forget();
  outbox.note(outbox.next(5));
  outbox.note(outbox.next(5));
  assert.equal(outbox.waitingBytes, 0);
});

test("a piece that is larger than what may be kept is sent alone", () => {
  const outbox = new Outbox();
  outbox.keepBytes = 2;
  outbox.put(sound(9));
  outbox.put(sound(9));
  outbox.note(outbox.next(9));
  assert.equal(outbox.next(9), null);
  outbox.acknowledge(1);
  assert.deepEqual(outbox.next(9), sound(9));
});

test("floats become interleaved s16le, clipped at full scale", () => {
  const left = Float32Array.of(0, 0.5, 1, 9);
  const right = Float32Array.of(-1, -0.25, 1 / 65_536, -9);
  const all = [0, -32_768, 16_384, -8192, 32_767, 1, 32_767, -32_768];
  assert.deepEqual([...new Int16Array(toS16le([left, right]))], all);
  assert.deepEqual([...new Int16Array(toS16le([left, right], 1, 2))], all.slice(2, 6));
  assert.equal(toS16le([]).byteLength, 0);
});

test("samples are taken as bytes, copied, and of the declared type", () => {
  const samples = Int16Array.of(1, 2, 3, 4);
  const bytes = wireBytes(samples.subarray(1, 3), "s16le");
  samples.fill(9);
  assert.deepEqual(bytes, Uint8Array.of(2, 0, 3, 0));
  assert.deepEqual(wireBytes(Uint8Array.of(1, 2, 3), "f32le"), Uint8Array.of(1, 2, 3));
  const { buffer } = Uint8Array.of(1, 2, 3);
  const copy = wireBytes(buffer, "alaw");
  new Uint8Array(buffer).fill(9);
  assert.deepEqual(copy, Uint8Array.of(1, 2, 3));
  assert.equal(wireBytes(Float32Array.of(1), "f32le").byteLength, 4);
  assert.throws(() => wireBytes(Float32Array.of(1), "s16le"), /declared as s16le.*toS16le\(\)/);
  assert.throws(() => wireBytes(Int16Array.of(1), "mulaw"), /give bytes or Uint8Array/);
});

test("words go to the utterance of their speaker that shares their time, once", () => {
  const turns = new TurnMatcher([
    { speaker: "Ben", start_ms: 1900, end_ms: 3000, text: "No." },
    { speaker: "Ann", start_ms: 1200, end_ms: 1800, text: "there?" },
    { speaker: "Ann", start_ms: 0, end_ms: 1000, text: "Anybody" },
  ]);
  const heard = { speaker: "Ann", start_ms: 100, end_ms: 1700 };
  assert.equal(turns.take(heard), "Anybody there?");
  assert.equal(turns.take(heard), "");
  assert.equal(turns.take({ speaker: "Ben", start_ms: 2700, end_ms: 4000 }), "");
  assert.equal(turns.take({ speaker: "Ben", start_ms: 2000, end_ms: 2900 }), "No.");
});
