// Words that are known before, given to the utterances that share their time (as turns.py does).

export class TurnMatcher {
  constructor(turns) {
    this.waiting = [...turns];
  }

  // The words of an utterance, once; empty where there are none.
  take({ speaker, start_ms: start, end_ms: end }) {
    const found = this.waiting.filter((turn) => {
      const shared = Math.min(turn.end_ms, end) - Math.max(turn.start_ms, start);
      const shorter = Math.min(turn.end_ms - turn.start_ms, end - start);
      return turn.speaker === speaker && 2 * shared >= Math.max(1, shorter);
    });
    this.waiting = this.waiting.filter((turn) => !found.includes(turn));
    return found.map((turn) => turn.text).join(" ");
  }
}
