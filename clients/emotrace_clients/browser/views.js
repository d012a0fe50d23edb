// All views of one dialogue, and the one utterance that is chosen in them. Page and report share them.

import { AffectTrace } from "./affect.js";
import { element, sign } from "./elements.js";
import { shares } from "./shares.js";
import { Timeline } from "./timeline.js";
import { LagView } from "./timings.js";
import { Transcript } from "./transcript.js";
import { WhyPanel } from "./why.js";

const ONE_COLUMN = "(max-width: 60rem)"; // as in views.css

export class Views {
  constructor(root) {
    const part = (id) => element("div", { id });
    this.empty = element("p", { id: "empty" });
    this.legend = element("ul", {
      id: "legend",
      className: "legend",
      attributes: { "aria-label": "Labels" },
    });
    const list = element("ol", {
      id: "dialogue",
      className: "dialogue",
      tabIndex: 0,
      attributes: { "aria-labelledby": "dialogue-panel-title" },
    });
    const whyBody = element("div", { id: "why-body", hidden: true });
    const whyEmpty = element("p", {
      id: "why-empty",
      textContent: "Choose an utterance to see what decided its estimate.",
    });
    const [timeline, affect, stages] = ["timeline", "affect-trace", "stages"].map(part);
    this.sums = part("shares");
    const lag = element("p", { id: "lag" });
    root.replaceChildren(
      panel("timeline-panel", "Timeline", timeline, this.legend, hint()),
      element(
        "div",
        { className: "columns" },
        panel("dialogue-panel", "Dialogue", this.empty, list),
        panel("why", "Why", whyEmpty, whyBody),
      ),
      element(
        "div",
        { className: "sums" },
        panel("affect-panel", "Valence and arousal", derived(), affect),
        panel("shares-panel", "Who expressed what", this.sums),
        panel("lag-panel", "Lag and stages", lag, stages),
      ),
    );
    this.why = root.querySelector("#why");
    this.timeline = new Timeline(timeline, (number) => this.choose(number, true));
    this.transcript = new Transcript(list, (number) => {
      this.choose(number, true);
      if (matchMedia(ONE_COLUMN).matches) this.why.scrollIntoView();
    });
    this.whyPanel = new WhyPanel(whyBody, whyEmpty);
    this.affect = new AffectTrace(affect);
    this.lag = new LagView(lag, stages);
    this.frame = null; // in which what changed will be drawn
  }

  // A session has begun.
  begin(record) {
    this.record = record;
    this.changed = new Set(); // utterances, since the last frame
    this.endMs = 0;
    this.followed = true; // the newest estimate is explained until a person chooses another
    for (const view of [this.timeline, this.transcript, this.affect]) view.clear(record.speakers);
    this.whyPanel.clear();
    this.lag.clear();
    this.sums.replaceChildren();
    this.legend.replaceChildren(
      ...record.started.labels.map((name) => element("li", {}, sign(name), name)),
    );
    this.tell("Listening …");
  }

  // Instead of utterances, while there are none.
  tell(sentence) {
    this.empty.textContent = sentence;
    this.empty.hidden = sentence === "";
  }

  // More is known of an utterance. event: what told it.
  show(utterance, event) {
    this.changed.add(utterance);
    if (event.type === "emotion.final") {
      this.affect.add(event);
      this.lag.add(event.timings);
    }
    this.schedule();
  }

  // The session's audio has come this far.
  reach(ms) {
    this.endMs = ms;
    this.schedule();
  }

  // A person chose an utterance, or (byPerson: false) a newer one takes its place.
  choose(number, byPerson) {
    const utterance = this.record.utterances.get(number);
    if (byPerson) this.followed = utterance === this.record.estimated().at(-1);
    this.timeline.choose(number);
    this.transcript.choose(number);
    if (byPerson) {
      this.timeline.reveal(number);
      this.transcript.reveal(number);
    }
    this.affect.choose(utterance.final);
    this.whyPanel.show(utterance);
  }

  // Once a frame, however fast events come.
  schedule() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    const changed = [...this.changed];
    this.changed.clear();
    this.timeline.show(changed, this.endMs);
    if (changed.length === 0) return;
    this.tell("");
    this.transcript.show(changed);
    const estimated = changed.filter(({ final }) => final !== null);
    if (estimated.length === 0) return;
    const newest = this.record.estimated().at(-1);
    if (this.followed && newest.number !== this.whyPanel.number) this.choose(newest.number, false);
    else if (estimated.some(({ number }) => number === this.whyPanel.number)) this.whyPanel.again();
    this.affect.draw();
    this.lag.draw();
    this.sums.replaceChildren(shares(this.record));
  }
}

function panel(id, title, ...children) {
  const heading = element("h2", { id: `${id}-title`, textContent: title });
  return element(
    "section",
    { id, className: "panel", attributes: { "aria-labelledby": heading.id } },
    heading,
    ...children,
  );
}

function hint() {
  return element("p", {
    className: "small",
    textContent:
      "Higher is surer; faint is an interim estimate, hatched an unsure one. The band below a mark is " +
      "the label in the light of the dialogue, ↺ where a later utterance revised it. " +
      "Arrow keys go from mark to mark.",
  });
}

function derived() {
  return element("p", {
    className: "small",
    textContent:
      "Derived from the labels by a fixed table, not measured: the same estimates in other words.",
  });
}
