// Events in words and numbers. Pure; the same rules as the terminal view (wording.py).

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

// What a set of logits does for a label, against what it does for the labels on average: a share
// that all labels get alike changes no probability.
export function weight(logits, label) {
  const values = Object.values(logits);
  return logits[label] - values.reduce((sum, one) => sum + one, 0) / values.length;
}

// The slots that held an utterance, the strongest for or against the label first.
export function reasons(final, label) {
  return final.explanation.contributions
    .filter((slot) => slot.utterance !== null)
    .map((slot) => ({
      what: `${slot.speaker}'s ${sense(slot.modality)}${slot.stream ? `, as ${slot.stream}` : ""}`,
      when: when(final, slot),
      gate: slot.gate,
      weight: weight(slot.logits, label),
    }))
    .sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight));
}

// An utterance counts twice: as itself, and as what a later one answered.
function when(final, slot) {
  const ago = final.utterance - slot.utterance;
  const place = ago === 0 ? "this utterance" : ago === 1 ? "one earlier" : `${ago} earlier`;
  if (slot.role === "self") return place;
  const answer = final.explanation.contributions.find(
    (other) => other.role === "self" && other.offset === slot.offset,
  );
  return `${place}, as what no. ${answer?.utterance ?? "?"} answered`;
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

export function farewell({ totals, reason }) {
  const ended = reason === "client" ? "" : ` The server ended the session (${plain(reason)}).`;
  const refused = totals.rejected ? `, ${totals.rejected} times no speech` : "";
  return (
    `${(totals.audio_ms / 1000).toFixed(1)} s of sound, ${totals.utterances} utterances, ` +
    `${totals.finals} estimates, ${totals.revisions} revisions${refused}.${ended}`
  );
}
