// A session as files: JSON, CSV, and a report. All are made here, and nothing leaves the browser.

import { lastWord } from "./record.js";

const TEMPLATE = "report.html"; // names its parts: {{timeline.js}}
const PART = /\{\{([\w.]+)\}\}/g;
const IMPORT = /^import [^;]*;\n/gm;
const EXPORT = /^export (?:async )?(?:class|const|function) (\w+)/gm;
const EXPORTED = /^export /gm;
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/; // a spreadsheet would compute such a text

// Every event as the server sent it.
export function asJson({ events, started }) {
  return `${JSON.stringify({ notice: started.notice, events }, null, 1)}\n`;
}

// A row an utterance, for spreadsheets: their kind of UTF-8, and nothing that they would compute.
export function asCsv(record) {
  const { labels } = record.started;
  const rows = [...record.utterances.values()].map((utterance) => fields(utterance, labels));
  const names = Object.keys(fields(NOBODY, labels));
  const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
  return `\ufeff${lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("")}`;
}

const NOBODY = { number: 0, state: "", speaker: "", start: 0, end: 0, words: "", final: null, revisions: [] };

function fields(utterance, labels) {
  const { number, state, speaker, start, end, words, final, revisions } = utterance;
  return {
    utterance: number,
    speaker,
    start_ms: start,
    end_ms: end,
    text: words,
    outcome: state,
    label: final?.label,
    confidence: final?.confidence,
    unsure: final?.abstained,
    doubts: final?.doubts?.join(" "),
    label_in_dialogue: final === null ? undefined : lastWord(utterance),
    revised_from: revisions.at(-1)?.previous,
    revised_after: revisions.at(-1)?.cause,
    runner_up: final?.decoder.runner_up,
    gap: final?.decoder.gap,
    valence: final?.affect?.valence,
    arousal: final?.affect?.arousal,
    heard: final?.modalities.join(" "),
    missing: final?.missing.join(" "),
    snr_db: final?.quality?.snr_db,
    level_db: final?.quality?.level_db,
    lag_ms: final?.timings.lag_ms,
    ...Object.fromEntries(labels.map((label) => [`p_${label}`, final?.posterior[label]])),
  };
}

function cell(value) {
  if (typeof value !== "string") return value ?? "";
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// What the report is put together of, by name. Fetched while the server is certainly there.
export async function fetchParts() {
  const template = await fetchText(TEMPLATE);
  const names = [...template.matchAll(PART)].map(([, name]) => name).filter((name) => name.includes("."));
  const texts = await Promise.all(names.map(fetchText));
  return new Map([[TEMPLATE, template], ...names.map((name, n) => [name, texts[n]])]);
}

async function fetchText(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be fetched`);
  return response.text();
}

// One document with all that it needs in it; report.py puts together the same.
export function asReport(parts, title, events) {
  const nonce = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(18))));
  const data = JSON.stringify({ title, events })
    .replaceAll("<", "\\u003c")
    .replaceAll("\u2028", "\\u2028")
    .replaceAll("\u2029", "\\u2029");
  const values = new Map([...parts, ["nonce", nonce], ["data", data]]);
  return parts.get(TEMPLATE).replace(PART, (_, name) => inlined(values.get(name), name));
}

// Modules become one script: of each, what it exports is seen by those that follow.
function inlined(text, name) {
  if (!name.endsWith(".js")) return text;
  const names = [...text.matchAll(EXPORT)].map(([, exported]) => exported).join(", ");
  const body = text.replace(IMPORT, "").replace(EXPORTED, "");
  return `const { ${names} } = (() => {\n${body}return { ${names} };\n})();`;
}

// Hands a file to the person.
export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}
