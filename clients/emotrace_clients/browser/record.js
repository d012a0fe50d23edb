// What a session has told so far: its events in order, and what they say of each utterance. Pure.

export class Record {
  constructor() {
    this.events = [];
    this.utterances = new Map(); // by number, in the order in which they were heard of
    this.speakers = [];
    this.started = null;
    this.ended = null;
    this.endMs = 0; // how far the session's audio is told of
  }

  // Takes note of an event; gives the utterance that it is about, or null.
  take(event) {
    this.events.push(event);
    if (event.type === "session.started") {
      this.started = event;
      this.speakers = [...event.speakers];
    } else if (event.type === "session.ended") {
      this.ended = event;
    }
    this.endMs = Math.max(this.endMs, ended(event));
    const note = NOTES[event.type];
    const utterance = note === undefined ? null : this.utterance(event);
    if (utterance !== null) note(utterance, event);
    return utterance;
  }

  utterance({ utterance: number, speaker, start_ms: start, end_ms: end = start }) {
    const known = this.utterances.get(number);
    if (known !== undefined || speaker === undefined) return known ?? null;
    if (!this.speakers.includes(speaker)) this.speakers.push(speaker); // a turn without a channel
    const made = {
      ...{ number, speaker, start, end },
      state: "speaking", // then waiting, and last estimated, rejected or failed
      words: "",
      interim: null,
      final: null,
      revisions: [],
      rejected: null,
      failed: null,
    };
    this.utterances.set(number, made);
    return made;
  }

  // The utterances that have an estimate.
  estimated() {
    return [...this.utterances.values()].filter(({ final }) => final !== null);
  }
}

// How far an event shows the audio to have come, in milliseconds.
function ended({ end_ms, start_ms, audio_ms, totals }) {
  return end_ms ?? start_ms ?? audio_ms ?? totals?.audio_ms ?? 0;
}

// What each event about an utterance changes of it.
const NOTES = {
  "speech.started": () => {},
  "emotion.interim": (utterance, event) => {
    utterance.interim = event;
    utterance.end = event.end_ms;
  },
  "speech.ended": (utterance, event) => {
    utterance.state = "waiting";
    utterance.end = event.end_ms;
  },
  "speech.rejected": (utterance, event) => {
    utterance.state = "rejected";
    utterance.end = event.end_ms;
    utterance.rejected = event;
    utterance.words = ""; // words heard in what is no speech are invented
  },
  "transcript.final": (utterance, event) => {
    utterance.words = event.text;
  },
  "emotion.final": (utterance, event) => {
    utterance.state = "estimated";
    utterance.end = event.end_ms;
    utterance.final = event;
  },
  "emotion.revised": (utterance, event) => utterance.revisions.push(event),
  error: (utterance, event) => {
    utterance.state = "failed";
    utterance.failed = event;
  },
};

// The label of an utterance in the light of the dialogue, as far as the dialogue has come.
export function lastWord({ final, revisions }) {
  return revisions.at(-1)?.label ?? final.decoder.label;
}
