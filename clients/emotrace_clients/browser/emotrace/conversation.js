// Whether the server keeps the order of events, and counted what came (docs/protocol.md, Order).
// It outlives a connection: see `resume`. Pure.

import { protocolBroken } from "./errors.js";

/** @typedef {import("./events.d.ts").ServerEvent} ServerEvent */

export class Conversation {
  received = 0; // events so far
  resuming = false; // session.resumed is waited for
  #started = false;
  #fatal = false;
  /** @type {Map<string, number>} */
  #counts = new Map();

  // session.resume is being sent, on a further connection.
  resume() {
    this.resuming = true;
    this.#fatal = false;
  }

  /**
   * Whether an event is a refusal that has no number in this session (of session.resume, say).
   * @param {ServerEvent} event
   */
  isRefusal(event) {
    return event.type === "error" && event.fatal && event.sequence !== this.received;
  }

  /**
   * Takes note of an event. False: it came before, on an earlier connection. Throws EmotraceError
   * (protocol_broken) where the server broke the order.
   * @param {ServerEvent} event
   */
  receive(event) {
    const { type, sequence } = event;
    if (this.resuming && sequence < this.received) return false;
    if (sequence !== this.received) {
      throw protocolBroken(
        `event ${sequence} (${type}) came where ${this.received} was due: some were lost or doubled`,
      );
    }
    this.#checkMayCome(type);
    this.received += 1;
    this.#counts.set(type, this.#count(type) + 1);
    if (type === "session.started") this.#started = true;
    else if (type === "session.resumed") this.resuming = false;
    else if (type === "error") this.#fatal = event.fatal && !this.resuming; // of an earlier connection
    else if (type === "session.ended") this.#checkTotals(event.totals);
    return true;
  }

  /** @param {string} type */
  #checkMayCome(type) {
    const outOfTurn =
      (type === "session.started" ? this.#started : !this.#started && type !== "error") ||
      (type === "session.resumed" && !this.resuming) ||
      (this.#fatal && type !== "session.ended");
    if (outOfTurn) throw protocolBroken(`${type} came out of turn`);
  }

  /** @param {import("./events.d.ts").Totals} totals the server's own, against what came */
  #checkTotals(totals) {
    const counted = {
      events: this.received,
      finals: this.#count("emotion.final"),
      revisions: this.#count("emotion.revised"),
      rejected: this.#count("speech.rejected"),
    };
    for (const [name, came] of Object.entries(counted)) {
      const said = totals[/** @type {keyof typeof counted} */ (name)];
      if (said !== came) throw protocolBroken(`it counted ${said} ${name}, and ${came} came`);
    }
  }

  /** @param {string} type */
  #count(type) {
    return this.#counts.get(type) ?? 0;
  }
}
