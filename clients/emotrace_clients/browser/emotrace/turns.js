// Words that are known before, given to the utterances that share their time.

/** @typedef {import("./index.d.ts").Turn} Turn */

export class TurnMatcher {
  /** @type {Turn[]} */
  #waiting;

  /** @param {Iterable<Turn>} turns */
  constructor(turns) {
    this.#waiting = [...turns].sort((one, other) => one.start_ms - other.start_ms);
  }

  /**
   * The words of an utterance, once; empty where there are none. Turn and utterance share their
   * time where at least half of the shorter one lies in the other.
   * @param {{speaker: string, start_ms: number, end_ms: number}} utterance
   */
  take({ speaker, start_ms: start, end_ms: end }) {
    const found = this.#waiting.filter((turn) => {
      const shared = Math.min(turn.end_ms, end) - Math.max(turn.start_ms, start);
      const shorter = Math.min(turn.end_ms - turn.start_ms, end - start);
      return turn.speaker === speaker && 2 * shared >= Math.max(1, shorter);
    });
    this.#waiting = this.#waiting.filter((turn) => !found.includes(turn));
    return found.map((turn) => turn.text).join(" ");
  }
}
