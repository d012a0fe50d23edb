// One session (docs/protocol.md): what is said, what is heard, and what outlives a broken connection.

import { Acks } from "./acks.js";
import { encode, parse } from "./codec.js";
import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { EmotraceError, hasEnded, lossSentence, soundPiledUp } from "./errors.js";
import { FlowWindow, PREFIX, secondBytes } from "./flow.js";
import { Outbox } from "./outbox.js";
import { wireBytes } from "./samples.js";
import { Unread } from "./unread.js";

/** @typedef {import("./events.d.ts").ServerEvent} ServerEvent */
/** @typedef {import("./index.d.ts").SessionEvent} SessionEvent */
/** @typedef {import("./events.d.ts").MarkerReached} MarkerReached */
/** @typedef {import("./events.d.ts").SessionStarted} SessionStarted */
/** @typedef {import("./events.d.ts").Totals} Totals */
/** @typedef {Omit<import("./index.d.ts").Session, "addEventListener" | "removeEventListener">} Surface */
/** @typedef {import("./messages.d.ts").ClientMessage} ClientMessage */
/** @typedef {import("./errors.js").Trouble} Trouble */
/**
 * @template T
 * @typedef {{resolve(value: T): void, reject(error: EmotraceError): void}} Settle
 */

const PROTOCOL_VERSION = 1;
const WAITING_MS = 8_000; // of sound, where the session cannot be resumed

/** @implements {Surface} */
export class Session extends EventTarget {
  /** @type {((event: SessionEvent) => void) | null} */
  onEvent = null;
  /** @type {Totals | null} */
  totals = null;
  /** @type {Promise<SessionStarted>} */
  started;
  /** @type {Promise<Totals>} */
  finished;
  #conversation = new Conversation();
  #outbox = new Outbox();
  #unread = new Unread();
  #connection;
  #start;
  #encoding;
  #secondBytes;
  #acks;
  #signal;
  /** @type {FlowWindow | null} */
  #flow = null; // from session.started on
  #name = "";
  #token = "";
  /** @type {number | null} */
  #windowMs = null; // the session can be resumed for so long after a break
  #waitingMs = WAITING_MS;
  #ending = false; // session.end is said
  #attempts = 0; // to go on with the session
  #over = false;
  /** @type {EmotraceError | null} */
  #failure = null;
  /** @type {Trouble | null} */
  #fatal = null;
  /** @type {(() => void)[]} */
  #waiters = []; // for room
  /** @type {Map<string, Settle<MarkerReached>>} */
  #markers = new Map();
  /** @type {Settle<SessionStarted>} */
  #settleStarted;
  /** @type {Settle<Totals>} */
  #settleFinished;

  /**
   * @param {URL} url
   * @param {import("./index.d.ts").Settings} settings
   * @param {new (url: string) => import("./index.d.ts").WebSocketLike} WebSocket
   * @param {import("./index.d.ts").Clock} clock
   * @param {AbortSignal} [signal]
   */
  constructor(url, settings, WebSocket, clock, signal) {
    super();
    const { encoding = "s16le", sample_rate = 16_000, channels = 1 } = settings.audio ?? {};
    this.#encoding = encoding;
    this.#secondBytes = secondBytes({ encoding, sample_rate, channels });
    this.#start = { resume: true, ...settings };
    this.#signal = signal;
    ({ promise: this.started, settle: this.#settleStarted } = settled());
    ({ promise: this.finished, settle: this.#settleFinished } = settled());
    this.addEventListener("event", (/** @type {any} */ { detail }) => this.onEvent?.(detail));
    this.#connection = new Connection(url, WebSocket, clock, {
      greeting: () => encode(this.#greeting()),
      hear: (data) => this.#hear(data),
      tell: (change) => this.#dispatch("connection", change),
      over: (trouble) => this.#finish(trouble),
    });
    this.#acks = new Acks(clock, (sequence) => {
      if (this.#connection.live) this.#connection.send(encode({ type: "ack", sequence }));
    });
    signal?.addEventListener("abort", this.close);
    if (signal?.aborted) this.close();
    else this.#connection.open();
  }

  /** @param {ArrayBuffer | ArrayBufferView} samples */
  sendAudio(samples) {
    this.#checkMaySay("sound");
    const waiting = this.#outbox.waitingBytes / this.#secondBytes;
    if (waiting * 1000 > this.#waitingMs) {
      this.#finish(soundPiledUp(waiting, this.#flow !== null && !this.#connection.live));
      throw this.#failure;
    }
    this.#outbox.put(wireBytes(samples, this.#encoding));
    this.#pump();
  }

  /**
   * @param {string} text
   * @param {{utterance?: number, speaker?: string, language?: string}} of
   */
  sendText(text, { utterance, speaker, language }) {
    const answers = utterance !== undefined; // the server waits for it, after the end too
    this.#checkMaySay("text", answers);
    const message = encode({ type: "utterance.text", text, utterance, speaker, language });
    if (answers) this.#outbox.putFirst(message);
    else this.#outbox.put(message);
    this.#pump();
  }

  /**
   * @param {string} jpeg
   * @param {string} speaker
   */
  sendImage(jpeg, speaker) {
    this.#checkMaySay("an image");
    if (!this.room) return false; // it would come late, and hold up the sound
    this.#say({ type: "image", speaker, jpeg });
    return true;
  }

  /** @param {string} id */
  async marker(id) {
    this.#checkMaySay("a marker");
    if (this.#markers.has(id) || id.startsWith(PREFIX)) {
      throw new EmotraceError("in_use", `The marker "${id}" is in use: give each its own id.`);
    }
    /** @type {Promise<MarkerReached>} */
    const reached = new Promise((resolve, reject) => this.#markers.set(id, { resolve, reject }));
    this.#say({ type: "marker", id });
    return reached;
  }

  end() {
    if (this.#ending || this.#over) return;
    this.#ending = true;
    this.#say({ type: "session.end" });
  }

  delete() {
    if (this.#over) return;
    this.#ending = true;
    this.#outbox.putFirst(encode({ type: "session.delete" })); // sound that waits is not awaited
    this.#pump();
  }

  close = () => {
    this.#finish({
      code: "closed",
      message: "The session was closed before the server had finished.",
      cause: this.#signal?.reason,
    });
  };

  async ready() {
    this.#checkMaySay("sound");
    while (!this.room) {
      await new Promise((resolve) => this.#waiters.push(() => resolve(null)));
      this.#checkMaySay("sound");
    }
  }

  get room() {
    const { waitingBytes } = this.#outbox;
    return this.#connection.live && waitingBytes === 0 && this.#flow !== null && this.#flow.hasRoom;
  }

  get buffered_ms() {
    const bytes = this.#outbox.waitingBytes + this.#connection.unsent;
    return (bytes * 1000) / this.#secondBytes;
  }

  [Symbol.asyncIterator]() {
    return this.#unread.read();
  }

  /** @returns {ClientMessage} */
  #greeting() {
    if (this.#flow === null) {
      return { ...this.#start, type: "session.start", protocol_version: PROTOCOL_VERSION };
    }
    this.#conversation.resume();
    const { received: sequence } = this.#conversation;
    const attempt = ++this.#attempts;
    return { type: "session.resume", session: this.#name, token: this.#token, sequence, attempt };
  }

  /** @param {unknown} data */
  #hear(data) {
    try {
      this.#take(parse(data));
    } catch (error) {
      if (!(error instanceof EmotraceError)) throw error;
      this.#finish(error);
    }
  }

  /** @param {ServerEvent} event */
  #take(event) {
    if (event.type === "error" && this.#conversation.isRefusal(event)) {
      this.#expectClose(event);
    } else if (this.#conversation.receive(event)) {
      if (this.#keep(event)) this.#deliver(event);
      if (event.type === "session.ended") this.#finish(this.#fatal);
      else if (this.#connection.canResume) this.#acks.note(event.sequence);
      this.#pump();
    }
  }

  /**
   * What an event changes here. False: it is of no interest to others.
   * @param {ServerEvent} event
   * @returns {event is SessionEvent}
   */
  #keep(event) {
    switch (event.type) {
      case "session.started":
        this.#begin(event);
        return true;
      case "session.resumed":
        this.#token = event.token;
        this.#fatal = null;
        for (const message of this.#outbox.resume(event.messages)) this.#connection.send(message);
        this.#connection.settle(this.#windowMs);
        return false;
      case "input.ack":
        this.#outbox.acknowledge(event.messages);
        return false;
      case "marker.reached":
        return !this.#flow?.reach(event.id);
      case "warning":
        if (event.code === "resume_lost" && this.#connection.live) {
          this.#windowMs = null;
          this.#outbox.forget();
          this.#connection.settle(null);
        }
        return true;
      case "error":
        if (event.fatal && !this.#conversation.resuming) this.#expectClose(event);
        return true;
      case "session.ended":
        this.totals = event.totals;
        return true;
      default:
        return true;
    }
  }

  /** @param {SessionStarted} started */
  #begin(started) {
    const { session, limits, resume } = started;
    this.#flow = new FlowWindow(this.#secondBytes, limits);
    if (resume) {
      this.#name = session;
      this.#token = resume.token;
      this.#windowMs = resume.window_ms;
      this.#waitingMs = resume.buffer_ms;
      this.#outbox.keepBytes = (resume.buffer_ms * this.#secondBytes) / 1000;
    }
    this.#connection.settle(this.#windowMs);
    this.#settleStarted.resolve(started);
  }

  /** @param {import("./events.d.ts").Failed} event that is fatal */
  #expectClose(event) {
    const { code, message, retryable, resume, retry_after_ms } = event;
    this.#fatal = { code, message, event };
    const again =
      this.#connection.canResume && (resume || (retryable && this.#conversation.resuming));
    this.#connection.expectClose(again ? null : this.#fatal, retry_after_ms ?? 0);
  }

  /** @param {SessionEvent} event */
  #deliver(event) {
    this.#unread.push(event);
    this.#dispatch("event", event);
    if (event.type === "marker.reached") {
      this.#markers.get(event.id)?.resolve(event);
      this.#markers.delete(event.id);
    }
  }

  /** @param {ClientMessage} message */
  #say(message) {
    this.#outbox.put(encode(message));
    this.#pump();
  }

  /**
   * Throws EmotraceError where the session is over, or has been ended.
   * @param {string} what
   */
  #checkMaySay(what, afterEnd = false) {
    if (this.#failure !== null) throw this.#failure;
    if (this.#over || (this.#ending && !afterEnd)) throw hasEnded(what);
  }

  // Sends what waits, as far as the server and the connection let it.
  #pump() {
    const flow = this.#flow;
    while (flow !== null && this.#connection.live) {
      const message = this.#outbox.next(flow.hasRoom ? flow.piece : 0);
      if (message === null) break;
      this.#transmit(message);
      const marker = typeof message === "string" ? null : flow.send(message.byteLength);
      if (marker !== null) this.#transmit(encode({ type: "marker", id: marker }));
    }
    this.#wake();
  }

  /** @param {import("./outbox.js").Message} message */
  #transmit(message) {
    this.#outbox.note(message);
    this.#connection.send(message);
  }

  /** @param {Trouble | null} trouble null: the server has finished */
  #finish(trouble) {
    if (this.#over) return;
    this.#over = true;
    this.#connection.close();
    this.#acks.stop();
    this.#signal?.removeEventListener("abort", this.close);
    if (trouble === null) {
      if (this.totals !== null) this.#settleFinished.resolve(this.totals);
    } else {
      const lost = this.#lost();
      const { code, message, event, cause } = trouble;
      const told = lost === null ? message : `${message} ${lossSentence(lost)}`;
      this.#failure = new EmotraceError(code, told, { lost, event, cause });
      this.#settleStarted.reject(this.#failure);
      this.#settleFinished.reject(this.#failure);
    }
    this.#unread.end(this.#failure);
    for (const { reject } of this.#markers.values()) reject(this.#failure ?? hasEnded("the marker"));
    this.#wake();
  }

  #wake() {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }

  /**
   * @param {string} name
   * @param {unknown} detail
   */
  #dispatch(name, detail) {
    if (!this.#over) this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // The sound whose results had not come; null where there is none.
  #lost() {
    if (this.#flow === null) return null;
    const { sent, processed } = this.#flow;
    const given = sent + this.#outbox.waitingBytes;
    if (given === processed) return null;
    return {
      from_ms: Math.floor((processed * 1000) / this.#secondBytes),
      to_ms: Math.ceil((given * 1000) / this.#secondBytes),
    };
  }
}

/**
 * A promise that nobody needs to wait for, and what settles it.
 * @returns {{promise: Promise<any>, settle: Settle<any>}}
 */
function settled() {
  /** @type {Settle<any>} */
  let settle = { resolve() {}, reject() {} };
  const promise = new Promise((resolve, reject) => (settle = { resolve, reject }));
  promise.catch(() => {});
  return { promise, settle };
}
