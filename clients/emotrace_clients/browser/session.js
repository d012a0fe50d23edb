// One session over a websocket (docs/protocol.md): say start, send, read events, say end.

import { Problem } from "./problem.js";

const MAX_UNSENT_MS = 8000; // more than this waiting to be sent: the network is slower than time
const BYTES_PER_SAMPLE = 2;

export class Session {
  // onEvent(event): each event, in order. onOver(problem): the end; null where nothing is wrong.
  constructor(url, start, onEvent, onOver) {
    this.start = start;
    this.onEvent = onEvent;
    this.onOver = onOver;
    this.received = 0;
    this.counts = {};
    this.problem = null;
    this.ended = false;
    const { channels, sample_rate: rate } = start.audio;
    this.unsentLimit = (channels * rate * BYTES_PER_SAMPLE * MAX_UNSENT_MS) / 1000;
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.say({ type: "session.start", ...start });
    this.socket.onmessage = ({ data }) => this.take(data);
    this.socket.onclose = ({ code }) => this.close(code);
  }

  sendAudio(block) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > this.unsentLimit) {
      this.fail("The network is slower than time: sound piled up. Use a nearer server.");
      return;
    }
    this.socket.send(block);
  }

  sendText(text, utterance) {
    this.say({ type: "utterance.text", text, utterance });
  }

  sendImage(jpeg, speaker) {
    if (this.socket.bufferedAmount < this.unsentLimit / 2) this.say({ type: "image", speaker, jpeg });
  }

  end() {
    this.say({ type: "session.end" });
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  take(data) {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      this.fail("The server sent something that is no event. Is it an Emotrace server?");
      return;
    }
    if (event.sequence !== this.received) {
      this.fail(`Events were lost: number ${event.sequence} came where ${this.received} was due.`);
      return;
    }
    this.received += 1;
    this.counts[event.type] = (this.counts[event.type] ?? 0) + 1;
    if (event.type === "error" && event.fatal) this.problem = new Problem(event.message);
    if (event.type === "session.ended") {
      this.ended = true;
      this.check(event.totals);
    }
    this.onEvent(event);
  }

  // The server's own totals against what came.
  check(totals) {
    const finals = this.counts["emotion.final"] ?? 0;
    const rejected = this.counts["speech.rejected"] ?? 0;
    if (
      totals.events !== this.received ||
      totals.finals !== finals ||
      (totals.rejected ?? 0) !== rejected
    ) {
      this.problem ??= new Problem(
        `The server sent ${totals.events} events and ${this.received} came: some were lost.`,
      );
    }
  }

  fail(sentence) {
    this.problem ??= new Problem(sentence);
    this.socket.close();
  }

  close(code) {
    if (!this.ended && this.problem === null) {
      this.problem = new Problem(
        this.received === 0
          ? "The server does not answer. Is it running (make serve), and is this its address?"
          : `The connection broke (code ${code}). Is the server still running? Start again.`,
      );
    }
    this.onOver(this.problem);
  }
}

export function streamUrl() {
  const url = new URL("v1/stream", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}
