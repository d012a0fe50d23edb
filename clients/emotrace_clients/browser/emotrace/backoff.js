// When to try again: full jitter, so that the clients of a server that was gone do not all come at
// once. Pure.

const FIRST_MS = 200;
const LONGEST_MS = 10_000;
const GROWTH = 1.5;

/**
 * Milliseconds before a further attempt.
 * @param {number} attempt from 0
 * @param {() => number} random from 0 to 1
 */
export function backoff(attempt, random) {
  return random() * Math.min(LONGEST_MS, FIRST_MS * GROWTH ** attempt);
}
