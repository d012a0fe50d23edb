// When the server is told which events came: it asks for once a second, if any did. A timer alone
// would be late in a hidden tab, so each event looks at the clock too.

const ACK_MS = 500;

export class Acks {
  #clock;
  #send;
  #last = 0; // event that came
  #sentAt = 0;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {import("./index.d.ts").Clock} clock
   * @param {(sequence: number) => void} send
   */
  constructor(clock, send) {
    this.#clock = clock;
    this.#send = send;
  }

  /** @param {number} sequence of an event that came */
  note(sequence) {
    this.#last = sequence;
    const due = this.#sentAt + ACK_MS - this.#clock.now();
    if (due <= 0) this.#tell();
    else this.#timer ??= this.#clock.setTimeout(() => this.#tell(), due);
  }

  stop() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #tell() {
    this.stop();
    this.#sentAt = this.#clock.now();
    this.#send(this.#last);
  }
}
