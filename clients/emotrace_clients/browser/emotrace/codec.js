// Messages to text, and text to events.

import { protocolBroken } from "./errors.js";

/** @param {import("./messages.d.ts").ClientMessage} message */
export function encode(message) {
  return JSON.stringify(message);
}

/**
 * Throws EmotraceError (protocol_broken) where it is no event.
 * @param {unknown} data of a websocket message
 * @returns {import("./events.d.ts").ServerEvent}
 */
export function parse(data) {
  let event;
  try {
    event = JSON.parse(String(data));
  } catch {
    // judged below
  }
  if (typeof event?.type === "string" && Number.isInteger(event.sequence)) return event;
  throw protocolBroken("it sent something that is no event");
}
