// The way in to a server with keys: a person types one, and each session gets a ticket for it. The key
// is nowhere but in its field.

import { Problem } from "./problem.js";

const SENDABLE = /^[\x21-\x7e]+$/; // in a header

export class Access {
  // at(name): the element with that id. served: promises what /v1/models answers, or null.
  constructor(at, served) {
    this.key = at("key");
    this.wanted = served.then((answer) => answer?.open === false);
    this.wanted.then((wanted) => (at("access").hidden = !wanted));
    this.key.addEventListener("input", () => this.key.removeAttribute("aria-invalid"));
  }

  // Lets one session in, within a minute; null where none is asked for. Throws a Problem.
  async ticket() {
    if (!(await this.wanted)) return null;
    const key = this.key.value.trim();
    if (key === "") throw this.refused("This server asks for a key. Type it, and start again.");
    const answer = SENDABLE.test(key) ? await trade(key) : { status: 401 };
    if (answer?.ok) return (await answer.json()).ticket;
    if (answer?.status === 401) {
      throw this.refused(
        "The server does not know this key. Check that all of it is there, or ask whoever runs the " +
          "server for another, and start again.",
      );
    }
    throw new Problem("The server gives no access now. Is it still running? Try again in a moment.");
  }

  refused(told) {
    this.key.setAttribute("aria-invalid", "true");
    this.key.focus();
    this.key.select();
    return new Problem(told);
  }
}

function trade(key) {
  const headers = { Authorization: `Bearer ${key}` };
  return fetch("v1/tickets", { method: "POST", headers }).catch(() => null);
}
