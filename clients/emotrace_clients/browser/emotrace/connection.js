// One connection after another for the same session: opened, watched, and opened again with
// backoff where it broke.

import { backoff } from "./backoff.js";
import { diagnose } from "./diagnosis.js";

/** @typedef {import("./index.d.ts").WebSocketLike} WebSocketLike */
/** @typedef {import("./index.d.ts").ConnectionChange} ConnectionChange */
/** @typedef {import("./errors.js").Trouble} Trouble */

/**
 * The session's side: the first message of each connection, what it hears, and how it ends.
 * @typedef {object} Side
 * @property {() => string} greeting
 * @property {(data: unknown) => void} hear
 * @property {(change: ConnectionChange) => void} tell
 * @property {(trouble: Trouble) => void} over
 */

const ANSWER_MS = 10_000; // for session.started or session.resumed
const SILENT_MS = 15_000; // heartbeats come every 10 s: the network is gone, and nobody said so
const STEADY_MS = 10_000; // a connection that held so long was a good one
const LEAVING = 1000;

export class Connection {
  live = false; // session.started or session.resumed came on this connection
  #url;
  #WebSocket;
  #clock;
  #side;
  /** @type {WebSocketLike | null} */
  #socket = null;
  #opened = false; // this connection
  /** @type {number | null} */
  #windowMs = null; // the session can be resumed for so long after a break
  /** @type {Trouble | null} */
  #fatal = null; // why the server closes, where that is for good
  #attempt = 0;
  #retryAfterMs = 0;
  /** @type {number | null} */
  #lostAt = null; // when the connection broke that is to be mended
  #liveAt = 0;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {URL} url
   * @param {new (url: string) => WebSocketLike} WebSocket
   * @param {import("./index.d.ts").Clock} clock
   * @param {Side} side
   */
  constructor(url, WebSocket, clock, side) {
    this.#url = url;
    this.#WebSocket = WebSocket;
    this.#clock = clock;
    this.#side = side;
  }

  open() {
    let socket;
    try {
      socket = new this.#WebSocket(this.#url.href);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      this.#side.over({ code: "address", message: `${this.#url.href} cannot be opened: ${why}` });
      return;
    }
    this.#socket = socket;
    this.#opened = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#opened = true;
      socket.send(this.#side.greeting());
      if (this.#lostAt === null) this.#tell("open");
    };
    socket.onmessage = ({ data }) => {
      this.#watch();
      this.#side.hear(data);
    };
    socket.onerror = () => this.#break("without a word"); // Node 20 has no close after it
    socket.onclose = ({ code }) =>
      this.#break(code === 1005 || code === 1006 ? "without a word" : `close code ${code}`);
    this.#watch();
  }

  /**
   * The server took the session up, on this connection.
   * @param {number | null} windowMs it can be resumed for so long after a break; null: it cannot
   */
  settle(windowMs) {
    this.#windowMs = windowMs;
    this.live = true;
    this.#liveAt = this.#clock.now();
    this.#watch();
    if (this.#lostAt === null) return;
    this.#lostAt = null;
    this.#tell("resumed");
  }

  /** @param {import("./outbox.js").Message} message */
  send(message) {
    this.#socket?.send(message);
  }

  /**
   * The server said that it closes.
   * @param {Trouble | null} trouble why, where that is for good; null: the session is to be resumed
   * @param {number} retryAfterMs
   */
  expectClose(trouble, retryAfterMs) {
    this.live = false;
    this.#fatal = trouble;
    this.#retryAfterMs = retryAfterMs;
    this.#watch();
  }

  // Leaves for good.
  close() {
    this.#drop(LEAVING);
  }

  get canResume() {
    return this.#windowMs !== null;
  }

  // Bytes that the socket has taken and not yet sent.
  get unsent() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** @param {string} how */
  #break(how) {
    const wasOpen = this.#opened;
    this.#drop();
    if (this.#fatal !== null) this.#side.over(this.#fatal);
    else if (this.#windowMs !== null) this.#retry(this.#windowMs, how);
    else if (!wasOpen) diagnose(this.#url).then(this.#side.over);
    else {
      this.#tell("lost");
      this.#side.over(broken(how));
    }
  }

  /**
   * @param {number} windowMs
   * @param {string} how the connection broke
   */
  #retry(windowMs, how) {
    const now = this.#clock.now();
    if (this.#lostAt === null) {
      this.#lostAt = now;
      if (now - this.#liveAt >= STEADY_MS) this.#attempt = 0;
      this.#tell("lost");
    }
    const left = this.#lostAt + windowMs - now;
    if (left <= 0 || this.#retryAfterMs > left) {
      this.#side.over(broken(`${how}, and not mended within ${windowMs / 1000} s`));
      return;
    }
    const wait = this.#retryAfterMs + backoff(this.#attempt, this.#clock.random);
    this.#retryAfterMs = 0;
    this.#attempt += 1;
    const delay = Math.min(wait, left); // the last attempt comes as the window closes
    this.#tell("reconnecting", delay);
    this.#after(delay, () => this.open());
  }

  // Looks for signs of life: a network may be gone without a word.
  #watch() {
    if (this.live && this.#windowMs === null) this.#clock.clearTimeout(this.#timer);
    else if (this.live) this.#after(SILENT_MS, () => this.#break("no sign of life"));
    else this.#after(ANSWER_MS, () => this.#unanswered());
  }

  #unanswered() {
    if (this.#opened && this.#windowMs === null) {
      this.#fatal ??= {
        code: "no_answer",
        message:
          `${this.#url.href} does not answer. Is it an Emotrace server, and is it overloaded? Its ` +
          "/readyz and its log say more.",
      };
    }
    this.#break("no answer");
  }

  /** @param {number} [code] */
  #drop(code) {
    this.#clock.clearTimeout(this.#timer);
    this.live = false;
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null; // what still comes is of the past
    socket.onerror = () => {}; // ws throws where nobody listens
    socket.close(code);
  }

  /**
   * @param {number} ms
   * @param {() => void} action instead of what was to come
   */
  #after(ms, action) {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(action, ms);
  }

  /**
   * @param {ConnectionChange["state"]} state
   * @param {number | null} retryInMs
   */
  #tell(state, retryInMs = null) {
    this.#side.tell({ state, attempt: this.#attempt, retry_in_ms: retryInMs });
  }
}

/** @param {string} how */
function broken(how) {
  return {
    code: "connection_lost",
    message:
      `The connection to the server broke (${how}). Is the server still running? Start a new ` +
      "session.",
  };
}
