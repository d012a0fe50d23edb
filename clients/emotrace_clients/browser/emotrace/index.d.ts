/**
 * Emotrace in browser and Node: connect to a server, send a dialogue, read estimates of expressed
 * emotion. They do not say what a person feels.
 */

import type {
  ErrorCode,
  Failed,
  InputAck,
  MarkerReached,
  ServerEvent,
  SessionResumed,
  SessionStarted,
  Totals,
} from "./events.d.ts";
import type { SessionStart } from "./messages.d.ts";

export type * from "./events.d.ts";

/** The fields of `session.start`, by their names on the wire; all have defaults. `resume` is true
 * unless you say otherwise: a session then outlives a broken connection. */
export type Settings = Omit<SessionStart, "type" | "protocol_version">;

export interface Options {
  /** Where there is none built in (Node before 22): the class of the package `ws`. */
  WebSocket?: new (url: string) => WebSocketLike;
  /** Aborting it closes the session. */
  signal?: AbortSignal;
  /** Time and chance, for tests. */
  clock?: Clock;
}

/**
 * Opens a session. Does not wait: `await session.started` does.
 *
 * Throws EmotraceError at once for what no server could cure (`address`, `unsupported`); everything
 * else comes through `started`, `finished` and the iteration.
 */
export function connect(url: string | URL, settings?: Settings, options?: Options): Session;

/** The address of the stream on the server that a page came from. */
export function streamUrl(page?: string): string;

/** What a session tells: every event of the server but those about the connection. A newer server
 * may send more: skip what you do not know. */
export type SessionEvent = Exclude<ServerEvent, SessionResumed | InputAck>;

/** A running session. Iterating gives the events in order, and throws what ended it early. */
export interface Session extends AsyncIterable<SessionEvent> {
  /** The first event; rejects with EmotraceError where the session does not begin. */
  readonly started: Promise<SessionStarted>;
  /** The totals, once the server has finished; rejects with the EmotraceError that came before. */
  readonly finished: Promise<Totals>;
  /** What the server counted, from `session.ended` on; all of it has been checked. */
  readonly totals: Totals | null;

  /**
   * Sends samples in the declared format, cut anywhere, any length: bytes, or an array of that type
   * (Int16Array for s16le, Float32Array for f32le). They are copied. Throws EmotraceError where the
   * session is over, or where more than `resume.buffer_ms` (8 s without resume) already wait.
   */
  sendAudio(samples: ArrayBuffer | ArrayBufferView): void;
  /** Resolves when more sound may be sent: await it before each block of a file. */
  ready(): Promise<void>;
  /** Whether `ready()` would resolve at once. */
  readonly room: boolean;
  /** Milliseconds of sound that wait here to be sent. */
  readonly buffered_ms: number;

  /** The words of an announced utterance, or a speaker's turn without audio. */
  sendText(
    text: string,
    of: { utterance: number; language?: string } | { speaker: string; language?: string },
  ): void;
  /** One webcam frame, a base64 JPEG. False: it was left out, because the network is behind. */
  sendImage(jpeg: string, speaker: string): boolean;
  /** Waits until everything sent before has been processed. */
  marker(id: string): Promise<MarkerReached>;
  /** No more sound. Events come until `session.ended`. */
  end(): void;
  /** Ends at once, and has the server forget all of it. `session.ended` says `deleted`. */
  delete(): void;
  /** Leaves at once; what the server has not answered is lost, and `finished` rejects (`closed`). */
  close(): void;

  /** Called with each event. */
  onEvent: ((event: SessionEvent) => void) | null;
  addEventListener<K extends keyof SessionEvents>(
    type: K,
    listener: (event: { readonly detail: SessionEvents[K] }) => void,
    options?: { once?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener<K extends keyof SessionEvents>(
    type: K,
    listener: (event: { readonly detail: SessionEvents[K] }) => void,
  ): void;
}

export interface SessionEvents {
  event: SessionEvent;
  connection: ConnectionChange;
}

export interface ConnectionChange {
  /** `open` comes once; `lost`, `reconnecting` (again and again) and `resumed` at each break. */
  state: "open" | "lost" | "reconnecting" | "resumed";
  attempt: number;
  /** Of `reconnecting`: how long until the attempt. */
  retry_in_ms: number | null;
}

/** Every way in which a session can fail. `message` is a sentence with the cause and the cure. */
export class EmotraceError extends Error {
  readonly code: ErrorCode | ClientErrorCode | (string & {});
  /** The stretch of sound whose results did not come; null where there is none. */
  readonly lost: Lost | null;
  /** The server's `error`, where that ended the session. */
  readonly event: Failed | null;
}

export type ClientErrorCode =
  /** the address is none, or the browser refuses it */
  | "address"
  /** there is no WebSocket */
  | "unsupported"
  /** no server answers */
  | "unreachable"
  /** a server answers, and is starting or full */
  | "not_ready"
  /** a server answers, and refuses pages of this origin */
  | "origin_forbidden"
  /** a server answers, and has no stream there */
  | "refused"
  /** the connection opened, and `session.start` got no answer */
  | "no_answer"
  /** the connection broke and could not be resumed */
  | "connection_lost"
  /** events were lost or make no sense */
  | "protocol_broken"
  /** the network is slower than the sound */
  | "too_slow"
  /** nobody reads the iteration */
  | "events_unread"
  /** something was sent after `end()` or after the end */
  | "ended"
  /** the marker's id is in use */
  | "in_use"
  /** `close()` or the signal */
  | "closed";

/** On the session's audio clock. */
export interface Lost {
  from_ms: number;
  to_ms: number;
}

/** What one speaker said between two times of the audio. */
export interface Turn {
  readonly speaker: string;
  readonly start_ms: number;
  readonly end_ms: number;
  readonly text: string;
}

/** Gives words that are known before to the utterances that share their time. */
export class TurnMatcher {
  constructor(turns: Iterable<Turn>);
  /** The words of an utterance (a `speech.ended`), once; empty where there are none. */
  take(utterance: { speaker: string; start_ms: number; end_ms: number }): string;
}

/** One block of interleaved s16le from channels of floats in -1 to 1. */
export function toS16le(
  channels: readonly ArrayLike<number>[],
  from?: number,
  length?: number,
): ArrayBuffer;

/** What a WebSocket must have: the browser's, Node's, that of the package `ws`. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

export interface Clock {
  /** Milliseconds, from any beginning. */
  now(): number;
  setTimeout(action: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** From 0 to 1. */
  random(): number;
}
