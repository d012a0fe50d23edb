// What can go wrong between a client and a server. Every message names the cause and the cure.

/** @typedef {import("./index.d.ts").Lost} Lost */
/** @typedef {import("./events.d.ts").Failed} Failed */

/**
 * Why a session ended early, before it is known what was lost by it.
 * @typedef {{code: string, message: string, event?: Failed | null, cause?: unknown}} Trouble
 */

export class EmotraceError extends Error {
  /**
   * @param {string} code of the server's `error`, or of this package (index.d.ts lists them)
   * @param {string} message
   * @param {{lost?: Lost | null, event?: Failed | null, cause?: unknown}} more
   */
  constructor(code, message, { lost = null, event = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "EmotraceError";
    this.code = code;
    this.lost = lost;
    this.event = event;
  }
}

/** @param {string} what the server did */
export function protocolBroken(what) {
  return new EmotraceError(
    "protocol_broken",
    `The server does not keep to the protocol: ${what}. Client and server may be of different ` +
      "versions.",
  );
}

/** @param {string} what was to be said */
export function hasEnded(what) {
  return new EmotraceError(
    "ended",
    `The session has ended, and takes no more: ${what} came too late.`,
  );
}

/**
 * @param {number} seconds of sound that wait to be sent
 * @param {boolean} away whether the connection is broken
 */
export function soundPiledUp(seconds, away) {
  const much = `${seconds.toFixed(1)} s of sound wait to be sent`;
  return away
    ? new EmotraceError(
        "connection_lost",
        `The connection was away for too long: ${much}, and no more is kept. Start a new session.`,
      )
    : new EmotraceError(
        "too_slow",
        `The network is slower than the sound: ${much}. Use a nearer server; with a file, await ` +
          "session.ready() before each block.",
      );
}

/** @param {Lost} lost */
export function lossSentence({ from_ms, to_ms }) {
  return (
    `Lost: the results of the sound from ${(from_ms / 1000).toFixed(1)} s to ` +
    `${(to_ms / 1000).toFixed(1)} s, and of an utterance that was not over by then.`
  );
}
