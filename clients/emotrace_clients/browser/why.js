// The panel that explains one utterance: what each slot of the context did for a label.

import { element } from "./elements.js";
import { affect, clock, decided, doubts, quality, reasons, signed, weight } from "./wording.js";

export class WhyPanel {
  constructor(body, empty) {
    this.body = body;
    this.empty = empty;
    this.label = null; // the label that a person asked about; null: the estimate's own
  }

  clear() {
    this.body.hidden = true;
    this.empty.hidden = false;
  }

  show(final, revision) {
    const label = final.explanation.logits[this.label] === undefined ? final.label : this.label;
    this.empty.hidden = true;
    this.body.hidden = false;
    this.body.replaceChildren(
      element("p", {
        textContent: `${final.speaker} at ${clock(final.start_ms)}, utterance ${final.utterance}`,
      }),
      this.chooser(final, revision, label),
      table(final, label),
      ...told(final),
      element("p", { className: "small", textContent: decided(final) }),
      ...(revision === null
        ? []
        : [
            element("p", {
              className: "small",
              textContent:
                `Later, after utterance ${revision.cause} was heard, it was revised ` +
                `from ${revision.previous} to ${revision.label}.`,
            }),
          ]),
      element("p", {
        className: "small",
        textContent:
          `The estimate came ${Math.round(final.timings.lag_ms)} ms after the ` +
          `${Math.round(final.timings.endpointing_ms)} ms of silence that end an utterance.`,
      }),
    );
  }

  chooser(final, revision, label) {
    const select = element(
      "select",
      {},
      ...Object.keys(final.explanation.logits).map((name) =>
        element("option", { value: name, textContent: name, selected: name === label }),
      ),
    );
    select.addEventListener("change", () => {
      this.label = select.value === final.label ? null : select.value;
      this.show(final, revision);
      this.body.querySelector("select").focus();
    });
    return element("label", {}, "What spoke for or against ", select);
  }
}

// What else is known of the estimate, where the server says it.
function told(final) {
  return [
    doubts(final) ? element("p", { className: "doubts", textContent: doubts(final) }) : null,
    final.affect ? circumplex(final.affect) : null,
    final.quality ? element("p", { className: "small", textContent: quality(final.quality) }) : null,
  ].filter(Boolean);
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

// Of a model that is a sum, the contributions are its own terms.
const METHODS = {
  shapley: "What changes when each joins the others (Shapley values). ",
};

function table(final, label) {
  const rows = reasons(final, label);
  const bias = weight(final.explanation.bias, label);
  const sum = weight(final.explanation.logits, label);
  const most = Math.max(1e-9, Math.abs(bias), ...rows.map((row) => Math.abs(row.weight)));
  return element(
    "table",
    {},
    element("caption", {
      textContent: `${METHODS[final.explanation.method] ?? ""}Contributions to “${label}”, against the average label. They add up to the sum.`,
    }),
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...["Heard", "Gate", "Contribution"].map((name) =>
          element("th", { textContent: name, scope: "col" }),
        ),
      ),
    ),
    element(
      "tbody",
      {},
      ...rows.map((row) => line(row.what, row.when, row.gate?.toFixed(2) ?? "–", row.weight, most)),
      line("What the model expects anyway", "", "", bias, most),
    ),
    element("tfoot", {}, line("Sum", "", "", sum, null)),
  );
}

function line(what, when, gate, value, most) {
  const bar =
    most === null
      ? null
      : element(
          "span",
          { className: "signed", attributes: { "aria-hidden": "true" } },
          element("span", {
            className: value < 0 ? "against" : "for",
            style: { "--share": Math.abs(value) / most },
          }),
        );
  return element(
    "tr",
    {},
    element(
      "th",
      { scope: "row" },
      element("span", { textContent: what }),
      when ? element("span", { className: "when", textContent: when }) : null,
    ),
    element("td", { className: "number", textContent: gate }),
    element("td", {}, element("span", { className: "value", textContent: signed(value) }), bar),
  );
}
