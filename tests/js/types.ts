// What a program in TypeScript may write, and what it may not. It is compiled and never run.

import { WebSocket as OtherWebSocket } from "ws";

import {
  connect,
  EmotraceError,
  streamUrl,
  toS16le,
  TurnMatcher,
  type EmotionFinal,
  type SessionEvent,
  type SessionStarted,
  type Settings,
  type Totals,
} from "../../clients/emotrace_clients/browser/emotrace/index.js";

const settings: Settings = {
  audio: { sample_rate: 16_000, channels: 2 },
  speakers: ["Ann", "Ben"] as const,
  transcription: "client",
  endpointing: { silence_ms: 400 },
  labels: "common4",
};
const session = connect(streamUrl(), settings, {
  WebSocket: OtherWebSocket,
  signal: AbortSignal.timeout(1000),
});
connect(new URL("wss://emotrace.test/v1/stream"), {}, { WebSocket });

export async function read(): Promise<Totals> {
  const started: SessionStarted = await session.started;
  for await (const event of session) {
    switch (event.type) {
      case "emotion.final": {
        const final: EmotionFinal = event;
        const anger: number | undefined = final.posterior["anger"];
        const gates: (number | null)[] = final.explanation.contributions.map(({ gate }) => gate);
        console.log(started.labels, anger, gates, final.quality?.snr_db);
        if (final.doubts.includes("of.tomorrow")) session.close();
        break;
      }
      case "emotion.revised":
        console.log(event.previous, event.cause);
        // @ts-expect-error a revision has no quality
        console.log(event.quality);
        break;
      case "error":
        if (event.code === "image_invalid" || event.code === "of_tomorrow") session.end();
        break;
      // @ts-expect-error there is no such event
      case "emotion.last":
        break;
      // @ts-expect-error it is about the connection: see the "connection" event
      case "input.ack":
        break;
      default:
        console.log(event.sequence);
    }
  }
  return session.finished;
}

export async function send(): Promise<void> {
  await session.ready();
  session.sendAudio(new Int16Array(640));
  session.sendAudio(toS16le([new Float32Array(640)]));
  session.sendText("Hello.", { utterance: 0 });
  session.sendText("Hello.", { speaker: "Bot", language: "en" });
  const taken: boolean = session.sendImage("/9j/", "Ann");
  const reached: number = (await session.marker("half-way")).audio_ms;
  const waiting: number = session.room ? 0 : session.buffered_ms;
  const words: string = new TurnMatcher([]).take({ speaker: "Ann", start_ms: 0, end_ms: 1 });
  console.log(taken, reached, waiting, words);
}

session.onEvent = (event: SessionEvent) => console.log(event.type);
session.addEventListener("event", ({ detail }) => console.log(detail.sequence));
session.addEventListener("connection", ({ detail }) => {
  if (detail.state === "reconnecting") console.log(detail.attempt, detail.retry_in_ms);
  // @ts-expect-error there is no such state
  if (detail.state === "dead") return;
});
session.finished.catch((error: unknown) => {
  if (error instanceof EmotraceError && error.lost !== null) {
    const from: number = error.lost.from_ms;
    console.log(error.code === "connection_lost", error.event?.retry_after_ms, from);
  }
});

// @ts-expect-error the wire's own names
connect("ws://x", { audio: { sampleRate: 16_000 } });
// @ts-expect-error a rate that the protocol does not carry
connect("ws://x", { audio: { sample_rate: 11_025 } });
// @ts-expect-error a misspelt setting
connect("ws://x", { speaker: ["Ann"] });
// @ts-expect-error the client chooses the version
connect("ws://x", { protocol_version: 2 });
// @ts-expect-error no address
connect();
// @ts-expect-error words without saying whose
session.sendText("Hello.");
// @ts-expect-error words of an utterance or of a speaker
session.sendText("Hello.", { language: "en" });
// @ts-expect-error plain numbers are no samples
session.sendAudio([0, 1]);
// @ts-expect-error base64, not bytes
session.sendImage(new Uint8Array(), "Ann");
// @ts-expect-error there is no such event
session.addEventListener("events", () => {});
// @ts-expect-error the server counts
session.totals = null;
