// How long estimates took: the stages of one, and the newest, the middle and the slow of all.

import { element, row, table } from "./elements.js";

const STAGES = {
  endpointing_ms: "silence that ends an utterance",
  queue_ms: "waiting for its turn",
  transcription_ms: "transcribing",
  encoding_ms: "reading voice, words and face",
  fusion_ms: "putting them together",
  decoding_ms: "the dialogue's decoder",
};
const SLOW = 0.95;

export function milliseconds(value) {
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

// The stages of one estimate.
export function stageTable(timings) {
  return table(
    "stages",
    timings.foreseen
      ? "Time. The estimate was made while the server waited for more speech: only the lag was felt."
      : "Time. The lag is what passed from the end of that silence to the estimate.",
    ["Stage", "Time"],
    Object.entries(STAGES).map(([stage, name]) => row(name, milliseconds(timings[stage]))),
    [row("lag", milliseconds(timings.lag_ms))],
  );
}

// The session's lag in a sentence, and its stages in a table.
export class LagView {
  constructor(told, stages) {
    this.told = told;
    this.stages = stages;
    this.clear();
  }

  clear() {
    this.all = [];
    this.told.textContent = "";
    this.stages.replaceChildren();
  }

  add(timings) {
    this.all.push(timings);
  }

  draw() {
    if (this.all.length === 0) return;
    const newest = this.all.at(-1);
    const lag = spread(this.all, "lag_ms");
    this.told.textContent =
      `Lag ${milliseconds(newest.lag_ms)} after the ${milliseconds(newest.endpointing_ms)} of silence ` +
      `that end an utterance (median ${milliseconds(lag.median)}, ` +
      `95 of 100 within ${milliseconds(lag.slow)}).`;
    const line = (name, stage) => {
      const { median, slow } = spread(this.all, stage);
      return row(name, ...[newest[stage], median, slow].map(milliseconds));
    };
    this.stages.replaceChildren(
      table(
        "stages",
        `Times of the estimates so far (${this.all.length})`,
        ["Stage", "Newest", "Median", "95 of 100 within"],
        Object.entries(STAGES).map(([stage, name]) => line(name, stage)),
        [line("lag", "lag_ms")],
      ),
    );
  }
}

function spread(all, stage) {
  const sorted = all.map((timings) => timings[stage]).sort((one, other) => one - other);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { median: at(0.5), slow: at(SLOW) };
}
