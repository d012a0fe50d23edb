// Events that came and were not read yet, for `for await`. A browser cannot make a server wait, so
// their number is bounded.

import { EmotraceError } from "./errors.js";

/** @typedef {import("./index.d.ts").SessionEvent} SessionEvent */

const MOST = 4096;

export class Unread {
  /** @type {SessionEvent[]} */
  #events = [];
  #overflowed = false;
  #ended = false;
  /** @type {EmotraceError | null} */
  #failure = null;
  /** @type {(() => void)[]} */
  #readers = [];

  /** @param {SessionEvent} event */
  push(event) {
    if (this.#overflowed) return;
    this.#events.push(event);
    if (this.#events.length > MOST) {
      this.#overflowed = true;
      this.#events = [];
    }
    this.#wake();
  }

  /** @param {EmotraceError | null} failure that ended the session early */
  end(failure) {
    this.#ended = true;
    this.#failure = failure;
    this.#wake();
  }

  /** @returns {AsyncGenerator<SessionEvent, void, void>} */
  async *read() {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) yield event;
      else if (this.#overflowed) {
        throw new EmotraceError(
          "events_unread",
          `More than ${MOST} events came and were not read: read them as they come, or use onEvent.`,
        );
      } else if (this.#failure !== null) throw this.#failure;
      else if (this.#ended) return;
      else await new Promise((resolve) => this.#readers.push(() => resolve(null)));
    }
  }

  #wake() {
    const readers = this.#readers;
    this.#readers = [];
    for (const reader of readers) reader();
  }
}
