// Valence and arousal over time, a line a speaker. They are derived from the labels, and it says so.

import { drawn, element, row, table } from "./elements.js";
import { clock, signed } from "./wording.js";

const AXES = [
  { field: "valence", high: "pleasant", low: "unpleasant" },
  { field: "arousal", high: "awake", low: "sleepy" },
];
const FIRST_MS = 30_000; // what the whole width stands for; doubled whenever it is too short
const SHAPES = ["●", "■", "▲", "◆"]; // so that speakers differ by more than their dashes

export class AffectTrace {
  constructor(root) {
    this.charts = AXES.map(({ field, high, low }) => {
      const lines = drawn("svg", { class: "trace", "aria-hidden": "true" });
      const cursor = element("span", { className: "cursor", hidden: true });
      const plot = element("div", { className: "trace-plot" }, lines, cursor);
      const ends = element(
        "div",
        { className: "trace-ends", attributes: { "aria-hidden": "true" } },
        ...[high, field, low].map((textContent) => element("span", { textContent })),
      );
      return { field, lines, cursor, root: element("div", { className: "trace-row" }, ends, plot) };
    });
    this.key = element("p", { className: "small" });
    this.rows = element("div");
    this.numbers = element("details", {}, element("summary", { textContent: "As a table" }), this.rows);
    this.numbers.addEventListener("toggle", () => this.draw());
    root.replaceChildren(
      this.key,
      element("div", {}, ...this.charts.map((chart) => chart.root)),
      this.numbers,
    );
    this.clear([]);
  }

  clear(speakers) {
    this.speakers = [...speakers];
    this.points = []; // { speaker, at, start, valence, arousal }
    this.widthMs = FIRST_MS;
    this.chosen = null;
    this.redraw();
  }

  // A final estimate. A bundle that has labels without a place on the axes sends none.
  add({ speaker, start_ms: start, end_ms: end, affect }) {
    if (affect === null || affect === undefined) return;
    if (!this.speakers.includes(speaker)) this.speakers.push(speaker);
    const { valence, arousal } = affect;
    const before = this.points.findLast((point) => point.speaker === speaker);
    const point = { speaker, start, at: (start + end) / 2, valence, arousal };
    this.points.push(point);
    if (end > this.widthMs) {
      while (end > this.widthMs) this.widthMs *= 2;
      this.redraw();
    } else {
      this.join(before, point);
    }
  }

  // The key; and the table, where it is open.
  draw() {
    this.key.textContent = this.speakers
      .map((speaker, n) => `${SHAPES[n % SHAPES.length]} ${speaker}`)
      .join("   ");
    if (!this.numbers.open) return;
    this.rows.replaceChildren(
      table(
        "numbers",
        "Valence and arousal, from −1 to +1, derived from the labels",
        ["Utterance", "Valence", "Arousal"],
        this.points.map(({ speaker, start, valence, arousal }) =>
          row(`${speaker}, ${clock(start)}`, signed(valence), signed(arousal)),
        ),
      ),
    );
  }

  // The utterance that is explained just now.
  choose({ start_ms: start, end_ms: end }) {
    this.chosen = (start + end) / 2;
    this.placeCursor();
  }

  redraw() {
    for (const { lines } of this.charts) lines.replaceChildren();
    const last = new Map();
    for (const point of this.points) {
      this.join(last.get(point.speaker), point);
      last.set(point.speaker, point);
    }
    this.placeCursor();
  }

  placeCursor() {
    for (const { cursor } of this.charts) {
      cursor.hidden = this.chosen === null;
      cursor.style.setProperty("--at", this.chosen === null ? 0 : this.chosen / this.widthMs);
    }
  }

  join(before, point) {
    const n = this.speakers.indexOf(point.speaker);
    for (const { field, lines } of this.charts) {
      const x = `${(100 * point.at) / this.widthMs}%`;
      const y = `${height(point[field])}%`;
      if (before !== undefined) {
        const from = { x1: `${(100 * before.at) / this.widthMs}%`, y1: `${height(before[field])}%` };
        lines.append(drawn("line", { ...from, x2: x, y2: y, class: `line line-${n % SHAPES.length}` }));
      }
      lines.append(drawn("text", { x, y, class: "point" }, SHAPES[n % SHAPES.length]));
    }
  }
}

// −1 at the bottom, 1 at the top, with room for the marks.
function height(value) {
  return 50 - 44 * value;
}
