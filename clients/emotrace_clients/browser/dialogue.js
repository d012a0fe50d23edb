// The list of utterances: a card appears when speech starts, fills while it goes on, and stays.

import { bars, element, sign } from "./elements.js";
import { basis, clock, decided, doubts, emotion, percent, rejected } from "./wording.js";

const MAX_CARDS = 500;
const NEAR_END_PX = 80;

export class Dialogue {
  // onChosen(final, revision, byPerson): an utterance is chosen, or the chosen one was revised.
  constructor(list, names, onChosen) {
    this.list = list;
    this.names = names;
    this.onChosen = onChosen;
    this.clear([]);
  }

  clear(speakers) {
    this.speakers = speakers;
    this.cards = new Map();
    this.followed = true; // the newest final is shown until a person chooses another
    this.chosen = null;
    this.list.replaceChildren();
    this.list.style.setProperty("--columns", Math.min(Math.max(speakers.length, 1), 4));
    this.names.style.setProperty("--columns", Math.min(Math.max(speakers.length, 1), 4));
    this.names.replaceChildren(
      ...(speakers.length <= 4 ? speakers : []).map((name) =>
        element("span", { textContent: name }),
      ),
    );
  }

  speechStarted(event) {
    const card = this.card(event);
    card.state.textContent = "speaking …";
  }

  interim(event) {
    const card = this.card(event);
    this.keepingEnd(() => {
      card.state.textContent = `so far: ${emotion(event)} ${percent(event.confidence)}`;
      card.body.replaceChildren(bars(event.posterior, event.label));
    });
  }

  speechEnded(event) {
    this.card(event).state.textContent = "thinking …";
  }

  transcript(event) {
    const card = this.card(event);
    card.words.textContent = event.text ? `“${event.text}”` : "";
  }

  final(event) {
    const card = this.card(event);
    this.keepingEnd(() => this.fill(card, event));
    if (this.followed) this.choose(event.utterance, false);
  }

  fill(card, event) {
    card.final = event;
    card.root.classList.remove("pending");
    card.root.classList.toggle("unsure", event.abstained);
    card.root.dataset.emotion = event.label;
    card.time.textContent = `${clock(event.start_ms)} – ${clock(event.end_ms)}`;
    card.state.replaceChildren(
      sign(event.label),
      element("strong", { className: "emotion", textContent: emotion(event) }),
      ` ${percent(event.confidence)} sure, ${basis(event)}`,
    );
    card.doubts.textContent = doubts(event);
    card.body.replaceChildren(bars(event.posterior, event.label));
    this.tell(card, event.decoder.label, null);
    card.why.hidden = false;
  }

  revised(event) {
    const card = this.cards.get(event.utterance);
    if (card === undefined) return; // too old to be on the page
    card.root.classList.add("revised");
    this.tell(card, event.label, event);
    if (this.chosen === event.utterance) this.onChosen(card.final, event, false);
  }

  failed(event) {
    const card = this.cards.get(event.utterance);
    if (card === undefined) return;
    card.root.classList.remove("pending");
    card.state.textContent = `No estimate: ${event.message}`;
  }

  rejected(event) {
    const card = this.card(event);
    card.root.classList.remove("pending");
    card.root.classList.add("rejected");
    card.time.textContent = `${clock(event.start_ms)} – ${clock(event.end_ms)}`;
    card.state.textContent = rejected(event);
    card.words.textContent = ""; // words heard in what is no speech are invented
    card.body.replaceChildren();
  }

  choose(utterance, byPerson) {
    const card = this.cards.get(utterance);
    if (card?.final === undefined) return;
    if (byPerson) this.followed = utterance === [...this.cards.keys()].at(-1);
    for (const other of this.cards.values()) {
      other.root.classList.toggle("selected", other === card);
      other.why.setAttribute("aria-pressed", String(other === card));
    }
    this.chosen = utterance;
    this.onChosen(card.final, card.revision, byPerson);
  }

  tell(card, label, revision) {
    card.revision = revision;
    card.decoder.dataset.emotion = label;
    card.decoder.replaceChildren(
      "in the dialogue: ",
      element("strong", { className: "emotion", textContent: label }),
    );
    if (revision !== null) {
      card.decoder.append(
        element("span", {
          className: "mark",
          textContent: ` ↺ revised from ${revision.previous}, after utterance ${revision.cause}`,
        }),
      );
    }
  }

  card(event) {
    const known = this.cards.get(event.utterance);
    if (known !== undefined) return known;
    const card = {
      revision: null,
      time: element("span", { className: "time", textContent: clock(event.start_ms) }),
      state: element("p", { className: "estimate" }),
      words: element("p", { className: "words", dir: "auto" }),
      body: element("div"),
      doubts: element("p", { className: "doubts" }),
      decoder: element("p", { className: "decoder" }),
      why: element("button", {
        type: "button",
        textContent: "Why?",
        hidden: true,
        attributes: { "aria-pressed": "false", "aria-controls": "why" },
      }),
    };
    const title = element(
      "h3",
      {},
      element("span", { className: "speaker", textContent: event.speaker, dir: "auto" }),
      card.time,
      element("span", { className: "number", textContent: `no. ${event.utterance}` }),
      card.why,
    );
    const column = Math.max(0, this.speakers.indexOf(event.speaker)) % 4;
    card.root = element(
      "li",
      { className: "card pending", style: { "--column": column + 1 } },
      ...[title, card.words, card.state, card.doubts, card.body, card.decoder],
    );
    card.root.addEventListener("click", () => this.choose(event.utterance, true));
    this.cards.set(event.utterance, card);
    this.keepingEnd(() => this.list.append(card.root));
    if (this.cards.size > MAX_CARDS) {
      const [oldest, gone] = this.cards.entries().next().value;
      gone.root.remove();
      this.cards.delete(oldest);
    }
    return card;
  }

  // Where the end of the list is in sight, it stays in sight.
  keepingEnd(change) {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    change();
    if (scrollTop + clientHeight > scrollHeight - NEAR_END_PX) {
      this.list.scrollTop = this.list.scrollHeight;
    }
  }
}

export function sentence(final) {
  const told = [emotion(final), percent(final.confidence), doubts(final)].filter(Boolean);
  return `${final.speaker}: ${told.join(", ")}. ${decided(final)}`;
}
