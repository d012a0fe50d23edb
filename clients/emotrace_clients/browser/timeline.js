// The timeline: a lane a speaker, a mark an utterance. Height is confidence; the band under a mark is
// the label in the light of the dialogue. For a screen reader it is a list of options.

import { element, letters } from "./elements.js";
import { lastWord } from "./record.js";
import { clock, story } from "./wording.js";

const SCALES = [1, 2, 4, 8, 16, 32, 64]; // pixels a second
const START = SCALES.indexOf(32);
const FIT_PX = 1100;
const TICK_PX = 72;
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const NEAR_END_PX = 48;

export class Timeline {
  // onChosen(number): a person chose an utterance.
  constructor(root, onChosen) {
    this.onChosen = onChosen;
    this.ruler = element("div", { className: "ruler", attributes: { "aria-hidden": "true" } });
    this.extent = element("div", { className: "extent", attributes: { "aria-hidden": "true" } });
    this.lanes = element("div", {
      className: "lanes",
      attributes: { role: "listbox", "aria-label": "Utterances in time" },
    });
    this.names = element("div", { className: "names", attributes: { "aria-hidden": "true" } });
    this.view = element("div", { className: "tracks" }, this.lanes, this.ruler, this.extent);
    this.follow = tool("To the end", "Follow the newest sound again", () => this.toEnd());
    root.replaceChildren(
      element(
        "div",
        { className: "tools" },
        this.follow,
        tool("−", "Show more time", () => this.zoom(this.scale - 1)),
        tool("+", "Show less time, larger", () => this.zoom(this.scale + 1)),
      ),
      element("div", { className: "stage" }, this.names, this.view),
    );
    this.view.addEventListener("scroll", () => this.moved());
    this.lanes.addEventListener("keydown", (event) => this.steer(event));
    this.clear([]);
  }

  clear(speakers) {
    this.marks = new Map(); // by number: { utterance, root, bar, verdict }
    this.groups = new Map(); // by speaker
    this.chosen = null;
    this.endMs = 0;
    this.ticked = 0; // seconds that the ruler reaches
    this.following = true;
    this.follow.hidden = true;
    this.lanes.replaceChildren();
    this.names.replaceChildren();
    this.ruler.replaceChildren();
    for (const speaker of speakers) this.lane(speaker);
    this.zoom(START);
  }

  // Utterances that are new, or of which more is known; and how far the session's audio has come.
  show(utterances, endMs) {
    for (const utterance of utterances) this.put(utterance);
    this.reach(Math.max(endMs, ...utterances.map(({ end }) => end)));
  }

  put(utterance) {
    const mark = this.marks.get(utterance.number) ?? this.mark(utterance);
    const { state, speaker, start, end, interim, final, revisions } = utterance;
    const estimate = final ?? interim;
    mark.root.className = `mark ${state}`;
    mark.root.classList.toggle("interim", final === null && interim !== null);
    mark.root.classList.toggle("unsure", estimate?.abstained ?? false);
    mark.root.classList.toggle("revised", revisions.length > 0);
    mark.root.style.setProperty("--for", (end - start) / 1000);
    mark.root.style.setProperty("--height", estimate?.confidence ?? 0);
    mark.root.setAttribute(
      "aria-label",
      `${speaker}, ${clock(start)} to ${clock(end)}: ${story(utterance)}`,
    );
    mark.root.title = `${clock(start)} ${story(utterance)}`;
    if (state === "rejected" || state === "failed") {
      mark.bar.textContent = "–";
    } else if (estimate !== null) {
      mark.bar.textContent = letters(estimate.label) + (estimate.abstained ? "?" : "");
      mark.bar.dataset.emotion = estimate.label;
    }
    if (final !== null) {
      const last = lastWord(utterance);
      mark.verdict.dataset.emotion = last;
      mark.verdict.textContent = `${revisions.length > 0 ? "↺" : ""}${letters(last)}`;
    }
  }

  reach(ms) {
    if (ms <= this.endMs) return;
    this.endMs = ms;
    this.extent.style.setProperty("--end", ms / 1000);
    this.tick();
    if (this.following) this.toEnd();
  }

  // So small that all can be seen at once.
  fit() {
    const fitting = SCALES.findLastIndex((scale) => (scale * this.endMs) / 1000 <= FIT_PX);
    this.following = false;
    this.zoom(Math.min(Math.max(0, fitting), START));
    this.view.scrollLeft = 0;
  }

  choose(number) {
    this.marks.get(this.chosen)?.root.setAttribute("aria-selected", "false");
    this.chosen = number;
    const { root } = this.marks.get(number);
    root.setAttribute("aria-selected", "true");
    this.reachable(root);
  }

  // Brings an utterance that was chosen elsewhere into sight.
  reveal(number) {
    const { offsetLeft, offsetWidth } = this.marks.get(number).root;
    const { scrollLeft, clientWidth } = this.view;
    if (offsetLeft < scrollLeft || offsetLeft + offsetWidth > scrollLeft + clientWidth) {
      this.view.scrollLeft = offsetLeft - clientWidth / 2;
    }
  }

  lane(speaker) {
    const known = this.groups.get(speaker);
    if (known !== undefined) return known;
    const attributes = { role: "group", "aria-label": speaker };
    const group = element("div", { className: "lane", attributes });
    this.groups.set(speaker, group);
    this.lanes.append(group);
    this.names.append(element("div", { className: "lane-name", textContent: speaker, dir: "auto" }));
    return group;
  }

  mark(utterance) {
    const bar = element("span", { className: "bar" });
    const verdict = element("span", { className: "verdict" });
    const root = element(
      "div",
      {
        tabIndex: this.marks.size === 0 ? 0 : -1,
        style: { "--from": utterance.start / 1000 },
        attributes: { role: "option", "aria-selected": "false" },
      },
      element("span", { className: "room", attributes: { "aria-hidden": "true" } }, bar),
      element("span", { className: "floor", attributes: { "aria-hidden": "true" } }, verdict),
    );
    root.addEventListener("click", () => this.take(utterance.number));
    this.lane(utterance.speaker).append(root);
    const made = { utterance, root, bar, verdict };
    this.marks.set(utterance.number, made);
    return made;
  }

  take(number) {
    this.reachable(this.marks.get(number).root);
    if (this.marks.get(number).utterance.final !== null) this.onChosen(number);
  }

  // The one mark that Tab stops at.
  reachable(root) {
    this.lanes.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    root.tabIndex = 0;
  }

  // Arrow keys: left and right in time, up and down between the speakers.
  steer(event) {
    const from = [...this.marks.values()].find(({ root }) => root === event.target);
    const found = from && this.beside(from.utterance, event.key);
    if (!found) return;
    event.preventDefault();
    const { root } = this.marks.get(found.number);
    this.take(found.number);
    root.focus({ preventScroll: true });
  }

  beside(utterance, key) {
    const all = [...this.marks.values()].map((mark) => mark.utterance);
    const order = all.sort((one, other) => one.start - other.start || one.number - other.number);
    const at = order.indexOf(utterance);
    const speakers = [...this.groups.keys()];
    const other = (step) => {
      const speaker = speakers[speakers.indexOf(utterance.speaker) + step];
      const away = (one) => Math.abs(one.start - utterance.start);
      return order
        .filter((one) => one.speaker === speaker)
        .sort((one, another) => away(one) - away(another))[0];
    };
    switch (key) {
      case "ArrowRight":
        return order[at + 1];
      case "ArrowLeft":
        return order[at - 1];
      case "Home":
        return order[0];
      case "End":
        return order.at(-1);
      case "ArrowUp":
        return other(-1);
      case "ArrowDown":
        return other(1);
      case "Enter":
      case " ":
        return utterance;
      default:
        return undefined;
    }
  }

  zoom(scale) {
    const { scrollLeft, clientWidth } = this.view;
    const middle = (scrollLeft + clientWidth / 2) / SCALES[this.scale ?? scale];
    this.scale = Math.max(0, Math.min(SCALES.length - 1, scale));
    this.view.style.setProperty("--scale", `${SCALES[this.scale]}px`);
    this.ruler.replaceChildren();
    this.ticked = 0;
    this.tick();
    if (this.following) this.toEnd();
    else this.view.scrollLeft = middle * SCALES[this.scale] - clientWidth / 2;
  }

  tick() {
    const step = TICKS_S.find((one) => one * SCALES[this.scale] >= TICK_PX) ?? TICKS_S.at(-1);
    const made = [];
    for (; this.ticked * 1000 <= this.endMs; this.ticked += step) {
      const told = `${Math.floor(this.ticked / 60)}:${String(this.ticked % 60).padStart(2, "0")}`;
      made.push(element("span", { textContent: told, style: { "--from": this.ticked } }));
    }
    this.ruler.append(...made);
  }

  moved() {
    const { scrollLeft, clientWidth, scrollWidth } = this.view;
    this.following = scrollLeft + clientWidth >= scrollWidth - NEAR_END_PX;
    this.follow.hidden = this.following;
  }

  toEnd() {
    this.following = true;
    this.follow.hidden = true;
    this.view.scrollLeft = this.view.scrollWidth;
  }
}

function tool(textContent, label, act) {
  const attributes = textContent.length > 1 ? { title: label } : { title: label, "aria-label": label };
  const made = element("button", { type: "button", textContent, attributes });
  made.addEventListener("click", act);
  return made;
}
