// Events in words and numbers. Pure; the same rules as the terminal view (wording.py).

import { lastWord } from "./record.js";

const SENSES = { acoustic: "voice", lexical: "words", facial: "face" };

const DOUBTS = {
  clipping: "sound overdriven",
  offset: "sound has an offset",
  low_level: "very quiet",
  noise: "noisy",
  narrow_band: "telephone sound",
  short: "very short",
  music: "sounds like music",
  text_unreliable: "transcript not trusted",
  language: "words of another language",
  face_unusable: "no usable face",
};

const NO_SPEECH = {
  not_speech: "no speech",
  music: "music or tones, not speech",
  noise: "noise, not speech",
  too_short: "too short to judge",
};

const FAINT_DB = -55;

export function clock(ms) {
  const minutes = Math.floor(ms / 60000);
  return `${minutes}:${((ms % 60000) / 1000).toFixed(1).padStart(4, "0")}`;
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

export function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

export function emotion(estimate) {
  return estimate.abstained ? `unsure (${estimate.label}?)` : estimate.label;
}

export function sense(modality) {
  return SENSES[modality] ?? modality;
}

// Why to trust an estimate less, or nothing. That the confidence is low, `emotion` says already.
export function doubts({ doubts: codes = [] }) {
  const told = codes.filter((code) => code !== "low_confidence");
  return told.length > 0 ? `doubtful: ${told.map((one) => DOUBTS[one] ?? plain(one)).join(", ")}` : "";
}

export function rejected({ reason }) {
  return `no estimate: ${NO_SPEECH[reason] ?? plain(reason)}`;
}

// A code without words of its own: `going_away` as `going away`.
function plain(code) {
  return code.replaceAll("_", " ");
}

export function affect({ valence, arousal }) {
  return `Valence ${signed(valence)}, arousal ${signed(arousal)}: derived from the labels, not measured.`;
}

// What the microphone delivered.
export function quality({ snr_db: snr, bandwidth_hz: band, clipped, level_db: level }) {
  const parts = [
    snr === null ? null : `voice ${Math.round(snr)} dB over the background`,
    `up to ${(band / 1000).toFixed(1)} kHz`,
    `at ${String(Math.round(level)).replace("-", "−")} dB`,
    clipped > 0 ? `${(clipped * 100).toFixed(1)} % overdriven` : null,
  ];
  return `Sound: ${parts.filter(Boolean).join(", ")}.`;
}

// What an estimate rests on, and what it had to do without.
export function basis({ modalities, missing }) {
  const used = modalities.map(sense).join(" and ") || "nothing";
  return missing.length > 0
    ? `from ${used}, without ${missing.map(sense).join(" and ")}`
    : `from ${used}`;
}

// An utterance as far as it is known, in one line.
export function story(utterance) {
  const { state, interim, final, revisions } = utterance;
  if (state === "rejected") return rejected(utterance.rejected);
  if (state === "failed") return `no estimate: ${utterance.failed.message}`;
  if (final === null) {
    const far = interim === null ? "" : `, so far ${emotion(interim)} ${percent(interim.confidence)}`;
    return `${state === "speaking" ? "speaking" : "thinking"}${far}`;
  }
  const told = [`${emotion(final)}, ${percent(final.confidence)} sure`];
  const last = lastWord(utterance);
  if (last !== final.label) told.push(`in the dialogue ${last}`);
  if (revisions.length > 0) told.push(`revised from ${revisions.at(-1).previous}`);
  return told.join("; ");
}

// What a set of logits does for a label, against what it does for the labels on average: a share
// that all labels get alike changes no probability.
export function weight(logits, label) {
  const values = Object.values(logits);
  return logits[label] - values.reduce((sum, one) => sum + one, 0) / values.length;
}

// Where in the dialogue a slot of the context stands. An utterance counts twice: as itself, and as
// what a later one answered.
export function place(final, slot) {
  const ago = final.utterance - slot.utterance;
  const where = ago === 0 ? "this utterance" : `${ago} earlier`;
  if (slot.role === "self") return where;
  const answer = final.explanation.contributions.find(
    (other) => other.role === "self" && other.offset === slot.offset && other.utterance !== null,
  );
  return `${where}, answered by no. ${answer?.utterance ?? "?"}`;
}

// What the decoder did, in a sentence.
export function decided({ label, decoder }) {
  const same = decoder.label === label;
  const told = same
    ? `In the light of the dialogue it stays ${decoder.label}`
    : `In the light of the dialogue it is ${decoder.label}`;
  return decoder.runner_up === null
    ? `${told}.`
    : `${told}; next would be ${decoder.runner_up}, at ${decoder.gap.toFixed(2)} more cost.`;
}

// A final estimate, for people who hear the page.
export function sentence(final) {
  const told = [emotion(final), percent(final.confidence), doubts(final)].filter(Boolean);
  return `${final.speaker}: ${told.join(", ")}. ${decided(final)}`;
}

export function farewell({ totals, reason }) {
  const ended = reason === "client" ? "" : ` The server ended the session (${plain(reason)}).`;
  const refused = totals.rejected ? `, ${totals.rejected} times no speech` : "";
  const failed = totals.failed ? `, ${totals.failed} without an estimate for a fault` : "";
  return (
    `${(totals.audio_ms / 1000).toFixed(1)} s of sound, ${totals.utterances} utterances, ` +
    `${totals.finals} estimates, ${totals.revisions} revisions${refused}${failed}.${ended}`
  );
}

// Why a whole session has no estimate, and what to do; empty where it has one. loudest: the root mean
// square of its loudest block.
export function nothingFound({ ended }, loudest) {
  if (ended === null || ended.totals.finals > 0 || ended.totals.failed > 0) return "";
  const { audio_ms: heard, rejected: refused } = ended.totals;
  const decibels = 20 * Math.log10(loudest + 1e-9);
  if (decibels < FAINT_DB) {
    return (
      `The sound is next to silent (at most ${String(Math.round(decibels)).replace("-", "−")} dB). ` +
      "Check that it is the right file or microphone, and turn it up."
    );
  }
  if (refused > 0) {
    return (
      `What was heard is no speech (${refused === 1 ? "once" : `${refused} times`} noise, music or the ` +
      "like instead), so there is no estimate. Take a recording in which people speak, near the microphone."
    );
  }
  return (
    `No speech was found in ${(heard / 1000).toFixed(1)} s of sound. Take a recording in which somebody ` +
    "speaks; a voice that is far away, or under noise or music, is not found."
  );
}
