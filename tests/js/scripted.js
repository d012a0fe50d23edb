// A network and a clock that the test plays: websockets whose other end is the test, and time that
// passes when it says so.

export class Network {
  sockets = [];

  constructor() {
    const { sockets } = this;
    this.WebSocket = class {
      bufferedAmount = 0;
      said = []; // by the client: parsed messages, and bytes
      closed = null; // the code that the client closed with, if it did

      constructor(url) {
        this.url = url;
        sockets.push(this);
      }

      send(data) {
        this.said.push(typeof data === "string" ? JSON.parse(data) : Uint8Array.from(data));
      }

      close(code = 1005) {
        this.closed = code;
      }

      // The server's side.
      accept() {
        this.onopen?.({});
      }

      say(...events) {
        for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
      }

      break(code = 1006) {
        this.onclose?.({ code, reason: "" });
      }

      of(type) {
        return this.said.filter((message) => message.type === type);
      }

      get audio() {
        return this.said.filter((message) => message instanceof Uint8Array);
      }
    };
  }

  get last() {
    return this.sockets.at(-1);
  }
}

export class Clock {
  time = 1000;
  chance = 0.5;
  #timers = [];

  now = () => this.time;
  random = () => this.chance;

  setTimeout = (action, ms) => {
    const timer = { due: this.time + ms, action };
    this.#timers.push(timer);
    return timer;
  };

  clearTimeout = (timer) => {
    this.#timers = this.#timers.filter((one) => one !== timer);
  };

  // Lets time pass; what falls due happens at its time.
  advance(ms) {
    const until = this.time + ms;
    for (;;) {
      const next = this.#timers.sort((a, b) => a.due - b.due)[0];
      if (next === undefined || next.due > until) break;
      this.clearTimeout(next);
      this.time = next.due;
      next.action();
    }
    this.time = until;
  }

  // How long until something happens by itself; null: nothing does.
  get next() {
    const dues = this.#timers.map(({ due }) => due - this.time);
    return dues.length === 0 ? null : Math.min(...dues);
  }
}

export const AUDIO_QUEUE_MS = 6000;
export const WINDOW_MS = 60_000;
export const BUFFER_MS = 30_000;

export function started(changed = {}) {
  return {
    type: "session.started",
    sequence: 0,
    session: "s-1",
    labels: ["anger", "happiness"],
    speakers: ["A"],
    limits: { audio_queue_ms: AUDIO_QUEUE_MS, max_message_bytes: 1_048_576 },
    resume: { token: "first", window_ms: WINDOW_MS, buffer_ms: BUFFER_MS },
    ...changed,
  };
}

export function ended(sequence, totals = {}) {
  const counted = { events: sequence + 1, finals: 0, revisions: 0, rejected: 0 };
  return {
    type: "session.ended",
    sequence,
    reason: "client",
    totals: { ...counted, ...totals },
  };
}

export function failed(sequence, code, more = {}) {
  const kind = { fatal: true, retryable: false, resume: false, retry_after_ms: null };
  return { type: "error", sequence, code, message: `${code} happened.`, ...kind, ...more };
}

export function beat(sequence) {
  return { type: "heartbeat", sequence, audio_ms: 0 };
}

// Lets promises that are settled tell whom they must.
export async function settle() {
  for (let i = 0; i < 20; i += 1) await null;
}
