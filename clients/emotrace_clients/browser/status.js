// What the page says of the session as a whole, in words: its state, its connection, what it can
// hear and see, what is wrong.

import { element } from "./elements.js";
import { clock, sense } from "./wording.js";

export class Status {
  // at(name): the element with that id.
  constructor(at) {
    this.at = at;
    this.remarks = new Map(); // how often each was made
  }

  clear() {
    this.remarks.clear();
    this.at("remarks").replaceChildren();
    this.at("modalities").replaceChildren();
    for (const id of ["problem", "connection", "degraded"]) this.say(id, "");
  }

  // live: sound is on its way.
  state(told, live = false) {
    this.at("state").textContent = told;
    this.at("state").classList.toggle("live", live);
  }

  problem(told) {
    this.say("problem", told);
  }

  remark(told) {
    const times = (this.remarks.get(told) ?? 0) + 1;
    this.remarks.set(told, times);
    if (times === 1) {
      this.at("remarks").append(element("li", { textContent: told }));
    } else {
      const n = [...this.remarks.keys()].indexOf(told);
      this.at("remarks").children[n].textContent = `${told} (${times} times)`;
    }
  }

  // camera: whether there is one that is on.
  modalities({ modalities }, camera) {
    const chip = ({ modality, live, reason }) => {
      if (!live) return ["missing", `Not used: ${sense(modality)}. ${reason ?? ""}`.trim()];
      if (modality === "facial" && !camera) return ["missing", "face: no camera is on"];
      return ["live", sense(modality)];
    };
    this.at("modalities").replaceChildren(
      ...modalities.map(chip).map(([className, textContent]) => element("li", { className, textContent })),
    );
  }

  degraded({ level, message }) {
    this.say("degraded", level > 0 ? message : "");
    this.remark(message);
  }

  // A change of the connection, at a position of the sound.
  connection({ state, attempt, retry_in_ms: wait }, ms) {
    if (state === "lost") {
      this.say("connection", "The connection broke. Sound is kept until it is there again.");
    } else if (state === "reconnecting") {
      this.say(
        "connection",
        `The connection broke. Trying again in ${((wait ?? 0) / 1000).toFixed(1)} s ` +
          `(attempt ${attempt}). Sound is kept meanwhile.`,
      );
    } else {
      this.say("connection", "");
    }
    if (state === "resumed") {
      this.remark(`The connection broke at ${clock(ms)}, and the session went on. Nothing was lost.`);
    }
  }

  say(id, told) {
    this.at(id).textContent = told;
    this.at(id).hidden = told === "";
  }
}
