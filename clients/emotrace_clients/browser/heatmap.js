// What each utterance of the context did, as two heat maps: a row an utterance and speaker, a column
// a modality. They are tables: the numbers stand in the cells, and a sign says for or against.

import { element, row, table } from "./elements.js";
import { place, sense, signed, weight } from "./wording.js";

const EMPTY = "–";

// Of a model that is a sum, the contributions are its own terms.
const METHODS = {
  shapley: "What changes when each joins the others (Shapley values). ",
};

// How much each spoke for the label or against it.
export function contributionMap(final, label) {
  const { contributions, bias, logits, method } = final.explanation;
  const { columns, rows } = grid(final);
  const strongest = Math.max(1e-9, ...contributions.map((slot) => Math.abs(weight(slot.logits, label))));
  const sums = [
    ["What the model expects anyway", weight(bias, label)],
    ["Sum", weight(logits, label)],
  ];
  return table(
    "heat",
    `${METHODS[method] ?? ""}Contributions to “${label}”: + spoke for it, − against it, compared with ` +
      "the average label. They add up to the sum.",
    ["Heard", ...columns.map(({ name }) => name)],
    rows.map(({ about, slots }) =>
      row(about, ...slots.map((slot) => contribution(slot, label, strongest))),
    ),
    sums.map(([what, value]) =>
      row(
        what,
        element(
          "td",
          { colSpan: columns.length },
          element("span", { className: "value", textContent: signed(value) }),
        ),
      ),
    ),
  );
}

// How far each was let in, or null where the model has no gates.
export function gateMap(final) {
  if (final.explanation.contributions.every(({ gate }) => gate === null)) return null;
  const { columns, rows } = grid(final);
  return table(
    "heat",
    "Gates: the weight that the model gave to each, whichever way it spoke.",
    ["Heard", ...columns.map(({ name }) => name)],
    rows.map(({ about, slots }) => row(about, ...slots.map(gate))),
  );
}

// The slots that held an utterance, by utterance and role, and by modality (and stream).
function grid(final) {
  const { contributions } = final.explanation;
  const columns = new Map();
  const rows = new Map();
  for (const slot of contributions) {
    const column = `${slot.modality} ${slot.stream ?? ""}`;
    const stream = slot.stream ? `, as ${slot.stream}` : "";
    columns.set(column, { column, name: capital(sense(slot.modality)) + stream });
    if (slot.utterance === null) continue;
    const key = `${slot.offset} ${slot.role}`;
    if (!rows.has(key)) rows.set(key, { about: about(final, slot), held: new Map() });
    rows.get(key).held.set(column, slot);
  }
  const all = [...columns.values()];
  return {
    columns: all,
    rows: [...rows.values()].map(({ about: told, held }) => ({
      about: told,
      slots: all.map(({ column }) => held.get(column) ?? null),
    })),
  };
}

function about(final, slot) {
  return [
    element("bdi", { textContent: slot.speaker ?? "somebody" }),
    ` no. ${slot.utterance}`,
    element("span", { className: "when", textContent: place(final, slot) }),
  ];
}

function contribution(slot, label, strongest) {
  if (slot === null) return EMPTY;
  const value = weight(slot.logits, label);
  return element(
    "td",
    {
      className: `cell ${value < 0 ? "against" : "for"}`,
      style: { "--heat": Math.abs(value) / strongest },
    },
    element("span", { className: "value", textContent: signed(value) }),
  );
}

function gate(slot) {
  if (slot === null || slot.gate === null) return EMPTY;
  return element("td", {
    className: "cell gate",
    textContent: slot.gate.toFixed(2),
    style: { "--heat": slot.gate },
  });
}

function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
