// How much audio may be under way to a server that ends sessions which run ahead (rate_limited).
// Markers of our own go between the audio, and no more is sent than a part of the server's limit
// beyond the last one that came back. At the pace of time this never waits. Pure.

const SAMPLE_BYTES = { s16le: 2, f32le: 4, mulaw: 1, alaw: 1 };
const SHARE = 3; // a third of the server's limit: it warns from a half on
const MARKERS = 4; // a window

export const PREFIX = "flow-";

/**
 * Bytes that one second of audio has.
 * @param {import("./events.d.ts").AudioFormat} audio
 */
export function secondBytes({ encoding, sample_rate, channels }) {
  return SAMPLE_BYTES[encoding] * sample_rate * channels;
}

export class FlowWindow {
  sent = 0; // bytes
  processed = 0; // of them
  #marked = 0;
  /** @type {Map<string, number>} */
  #waiting = new Map();

  /**
   * @param {number} bytes of a second of audio
   * @param {import("./events.d.ts").Limits} limits
   */
  constructor(bytes, { audio_queue_ms, max_message_bytes }) {
    this.window = Math.floor((Math.max(1000, Math.floor(audio_queue_ms / SHARE)) * bytes) / 1000);
    this.piece = Math.min(Math.floor(this.window / MARKERS), max_message_bytes); // one message
  }

  // Whether another piece may be sent.
  get hasRoom() {
    return this.sent - this.processed + this.piece <= this.window;
  }

  /**
   * A piece was sent; gives the id of the marker to send now, or null.
   * @param {number} bytes
   */
  send(bytes) {
    this.sent += bytes;
    if (this.sent - this.#marked < this.piece) return null;
    this.#marked = this.sent;
    const marker = `${PREFIX}${this.sent}`;
    this.#waiting.set(marker, this.sent);
    return marker;
  }

  /**
   * A marker came back; false: it is none of this window's.
   * @param {string} marker
   */
  reach(marker) {
    const sent = this.#waiting.get(marker);
    if (sent === undefined) return false;
    this.#waiting.delete(marker);
    this.processed = sent;
    return true;
  }
}
