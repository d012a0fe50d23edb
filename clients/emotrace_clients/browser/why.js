// The panel that explains one utterance: what spoke for a label, what decided, how sure, how fast.

import { bars, element, row, sign, table } from "./elements.js";
import { contributionMap, gateMap } from "./heatmap.js";
import { stageTable } from "./timings.js";
import { affect, basis, clock, decided, doubts, emotion, percent, quality } from "./wording.js";

export class WhyPanel {
  constructor(body, empty) {
    this.body = body;
    this.empty = empty;
    this.clear();
  }

  clear() {
    this.utterance = null;
    this.label = null; // the label that a person asked about; null: the estimate's own
    this.body.hidden = true;
    this.empty.hidden = false;
  }

  get number() {
    return this.utterance?.number ?? null;
  }

  // More is known of the utterance that is shown.
  again() {
    this.show(this.utterance);
  }

  show(utterance) {
    const { final, revisions } = utterance;
    const known = final.explanation.logits[this.label] !== undefined;
    const label = known ? this.label : final.label;
    this.utterance = utterance;
    this.empty.hidden = true;
    this.body.hidden = false;
    this.body.replaceChildren(
      ...[
        heading(utterance),
        bars(final.posterior, final.label),
        doubts(final) ? element("p", { className: "doubts", textContent: doubts(final) }) : null,
        this.chooser(utterance, label),
        contributionMap(final, label),
        gateMap(final),
        element("h3", { textContent: "What decided" }),
        element("p", { textContent: decided(final) }),
        ...revisions.map(({ cause, previous, label: revised }) =>
          element("p", {
            textContent: `Later, after no. ${cause} was heard, it was revised from ${previous} to ${revised}.`,
          }),
        ),
        costs(final),
        final.affect ? circumplex(final.affect) : null,
        final.quality
          ? element("p", { className: "small", textContent: quality(final.quality) })
          : null,
        stageTable(final.timings),
      ].filter(Boolean),
    );
  }

  chooser(utterance, label) {
    const { final } = utterance;
    const select = element(
      "select",
      {},
      ...Object.keys(final.explanation.logits).map((name) =>
        element("option", { value: name, textContent: name, selected: name === label }),
      ),
    );
    select.addEventListener("change", () => {
      this.label = select.value === final.label ? null : select.value;
      this.show(utterance);
      this.body.querySelector("select").focus();
    });
    return element("label", { className: "chooser" }, "What spoke for or against ", select);
  }
}

function heading({ number, speaker, words, final }) {
  return element(
    "div",
    { className: final.abstained ? "chosen-one unsure" : "chosen-one", dataset: { emotion: final.label } },
    element(
      "p",
      { className: "small" },
      element("bdi", { textContent: speaker }),
      ` at ${clock(final.start_ms)}, utterance ${number}`,
    ),
    words ? element("p", { className: "words", textContent: `“${words}”`, dir: "auto" }) : null,
    element(
      "p",
      { className: "estimate" },
      sign(final.label),
      element("strong", { className: "emotion", textContent: emotion(final) }),
      ` ${percent(final.confidence)} sure, ${basis(final)}`,
    ),
  );
}

// What the label in the dialogue cost. A cost is a negative natural logarithm: 0 costs nothing.
function costs({ decoder }) {
  const { label, emission, shift, assignment } = decoder;
  return table(
    "costs",
    `What “${label}” costs in the dialogue. The cheapest way through the whole dialogue wins.`,
    ["For", "Cost"],
    [
      row("what was heard", emission.toFixed(2)),
      row("staying in, or leaving, the speaker's last emotion", shift.toFixed(2)),
      row("how new the emotion is in this dialogue", assignment.toFixed(2)),
    ],
    [row("together", (emission + shift + assignment).toFixed(2))],
  );
}

// Valence from left to right, arousal from bottom to top.
function circumplex(point) {
  const { valence, arousal } = point;
  return element(
    "figure",
    { className: "affect" },
    element(
      "div",
      { className: "plane", attributes: { "aria-hidden": "true" } },
      element("span", { className: "dot", style: { "--x": valence, "--y": arousal } }),
    ),
    element("figcaption", { className: "small", textContent: affect(point) }),
  );
}
