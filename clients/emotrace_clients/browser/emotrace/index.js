// Emotrace in browser and Node: connect to a server, send a dialogue, read estimates of expressed
// emotion. index.d.ts says everything that there is.

import { EmotraceError } from "./errors.js";
import { Session } from "./session.js";

export { EmotraceError };
export { toS16le } from "./samples.js";
export { TurnMatcher } from "./turns.js";

/** @type {import("./index.d.ts").Clock} */
const CLOCK = {
  now: () => performance.now(),
  setTimeout: (action, ms) => setTimeout(action, ms),
  clearTimeout: (timer) => clearTimeout(/** @type {number | undefined} */ (timer)),
  random: Math.random,
};

/** @type {typeof import("./index.d.ts").connect} */
export function connect(url, settings = {}, options = {}) {
  const stream = address(url);
  const { WebSocket = globalThis.WebSocket, clock = CLOCK, signal } = options;
  if (WebSocket === undefined) {
    throw new EmotraceError(
      "unsupported",
      "There is no WebSocket here. Before Node 22 install the package ws, and give its class: " +
        "connect(url, settings, { WebSocket }).",
    );
  }
  const session = new Session(stream, settings, WebSocket, clock, signal);
  return /** @type {any} */ (session); // EventTarget's own types do not know which events there are
}

/** @type {typeof import("./index.d.ts").streamUrl} */
export function streamUrl(page = location.href) {
  const url = new URL("v1/stream", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}

/** @param {string | URL} given */
function address(given) {
  try {
    const url = new URL(given);
    if (url.protocol === "ws:" || url.protocol === "wss:") return url;
  } catch {
    // told below
  }
  throw new EmotraceError(
    "address",
    `"${given}" is no address of a stream: that looks like ws://127.0.0.1:8080/v1/stream, or wss:// ` +
      "where the server has TLS.",
  );
}
