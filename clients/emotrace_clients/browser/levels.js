// A level meter for each speaker, in decibels of full scale.

import { element } from "./elements.js";

const FLOOR_DB = -60;

export class Levels {
  constructor(root) {
    this.root = root;
    this.fills = [];
  }

  show(speakers) {
    this.fills = speakers.map(() => element("span", { className: "fill" }));
    this.root.replaceChildren(
      ...speakers.map((name, n) =>
        element(
          "div",
          {},
          element("span", { className: "name", textContent: name }),
          element("span", { className: "track" }, this.fills[n]),
        ),
      ),
    );
  }

  update(levels) {
    levels.forEach((level, n) => {
      const decibels = Math.max(FLOOR_DB, 20 * Math.log10(level + 1e-9));
      this.fills[n]?.style.setProperty("--share", 1 - decibels / FLOOR_DB);
    });
  }
}
