// What waits to be sent, and what was sent and the server has not acknowledged: a broken connection
// takes neither. Messages are numbered from 0 as they are sent. Pure.

import { protocolBroken } from "./errors.js";

/** @typedef {string | Uint8Array<ArrayBuffer>} Message text, or audio */

export class Outbox {
  /** @type {number | null} */
  keepBytes = null; // of audio that is not acknowledged; null: the session cannot be resumed
  waitingBytes = 0; // of audio
  #sent = 0; // messages
  #acknowledged = 0; // of them: the number of the first that is kept
  #keptBytes = 0; // of audio
  /** @type {string[]} */
  #urgent = [];
  /** @type {Message[]} */
  #waiting = [];
  /** @type {Message[]} */
  #kept = [];

  /** @param {Message} message that goes after all that waits */
  put(message) {
    if (message.length === 0) return; // no sound
    this.#waiting.push(message);
    this.waitingBytes += audioBytes(message);
  }

  /** @param {string} message that goes before the sound that waits: words that the server awaits */
  putFirst(message) {
    this.#urgent.push(message);
  }

  /**
   * The next message to send, or null. piece: the most sound that it may have; 0: none now.
   * @param {number} piece
   */
  next(piece) {
    const [message] = this.#waiting;
    if (this.#urgent.length > 0 || typeof message === "string") {
      return this.#urgent.shift() ?? this.#waiting.shift() ?? null;
    }
    if (message === undefined) return null;
    const size = Math.min(piece, message.byteLength);
    if (size === 0 || this.#isFull(size)) return null;
    if (size === message.byteLength) this.#waiting.shift();
    else this.#waiting[0] = message.subarray(size);
    this.waitingBytes -= size;
    return message.subarray(0, size);
  }

  /** @param {Message} message that is being sent */
  note(message) {
    this.#sent += 1;
    if (this.keepBytes === null) return;
    this.#kept.push(message);
    this.#keptBytes += audioBytes(message);
  }

  /**
   * Messages before number `messages` are safe. Throws EmotraceError (protocol_broken).
   * @param {number} messages
   */
  acknowledge(messages) {
    if (messages > this.#sent) {
      throw protocolBroken(`it acknowledged ${messages} messages, and ${this.#sent} were sent`);
    }
    const safe = this.#kept.splice(0, Math.max(0, messages - this.#acknowledged));
    for (const message of safe) this.#keptBytes -= audioBytes(message);
    this.#acknowledged = Math.max(this.#acknowledged, messages);
  }

  /**
   * The messages to say again on a further connection: those from number `messages` on. Throws
   * EmotraceError (protocol_broken).
   * @param {number} messages
   * @returns {readonly Message[]}
   */
  resume(messages) {
    if (messages < this.#acknowledged) {
      throw protocolBroken(
        `it wants message ${messages} again, and had acknowledged ${this.#acknowledged}`,
      );
    }
    this.acknowledge(messages);
    return this.#kept;
  }

  // The session can no longer be resumed.
  forget() {
    this.keepBytes = null;
    this.#kept = [];
  }

  /** @param {number} size */
  #isFull(size) {
    return (
      this.keepBytes !== null && this.#keptBytes > 0 && this.#keptBytes + size > this.keepBytes
    );
  }
}

/** @param {Message} message */
function audioBytes(message) {
  return typeof message === "string" ? 0 : message.byteLength;
}
