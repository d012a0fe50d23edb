// The transcript: a card an utterance. It appears when speech starts, fills while it goes on, and stays.

import { element, sign, strip } from "./elements.js";
import { lastWord } from "./record.js";
import { basis, clock, doubts, emotion, percent, rejected } from "./wording.js";

const NEAR_END_PX = 80;
const SIDES = 2; // where cards stand: the first speaker's left, the second's right, and so on

export class Transcript {
  // onChosen(number): a person chose an utterance.
  constructor(list, onChosen) {
    this.list = list;
    this.onChosen = onChosen;
    this.clear([]);
  }

  clear(speakers) {
    this.speakers = speakers;
    this.cards = new Map(); // by number
    this.chosen = null;
    this.list.replaceChildren();
  }

  // Utterances that are new, or of which more is known. Where the list's end is in sight, it stays so.
  show(utterances) {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    const atEnd = scrollTop + clientHeight > scrollHeight - NEAR_END_PX;
    const added = [];
    for (const utterance of utterances) {
      const known = this.cards.get(utterance.number);
      const card = known ?? this.card(utterance);
      fill(card, utterance);
      if (known === undefined) added.push(card.root);
    }
    this.list.append(...added);
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  choose(number) {
    for (const [one, is] of [
      [this.chosen, false],
      [number, true],
    ]) {
      const card = this.cards.get(one);
      card?.root.classList.toggle("selected", is);
      card?.why.setAttribute("aria-pressed", String(is));
    }
    this.chosen = number;
  }

  // Brings an utterance that was chosen elsewhere into sight, and moves nothing but the list.
  reveal(number) {
    const { offsetTop, offsetHeight } = this.cards.get(number).root;
    const { scrollTop, clientHeight } = this.list;
    if (offsetTop < scrollTop || offsetTop + offsetHeight > scrollTop + clientHeight) {
      this.list.scrollTop = offsetTop - (clientHeight - offsetHeight) / 2;
    }
  }

  card({ number, speaker, start }) {
    const card = {
      time: element("span", { className: "time", textContent: clock(start) }),
      words: element("p", { className: "words", dir: "auto" }),
      estimate: element("p", { className: "estimate" }),
      shares: element("div", { className: "shares" }),
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
      element("span", { className: "speaker", textContent: speaker, dir: "auto" }),
      card.time,
      element("span", { className: "number", textContent: `no. ${number}` }),
      card.why,
    );
    card.root = element(
      "li",
      { dataset: { side: Math.max(0, this.speakers.indexOf(speaker)) % SIDES } },
      ...[title, card.words, card.estimate, card.decoder, card.doubts, card.shares],
    );
    card.root.addEventListener("click", () => {
      if (!card.why.hidden) this.onChosen(number);
    });
    this.cards.set(number, card);
    return card;
  }
}

function fill(card, utterance) {
  const { state, start, end, words, interim, final } = utterance;
  const selected = card.root.classList.contains("selected");
  card.root.className = `card ${state}`;
  card.root.classList.toggle("selected", selected);
  card.root.classList.toggle("unsure", final?.abstained ?? false);
  card.words.textContent = words ? `“${words}”` : "";
  if (state !== "speaking" && end > start) card.time.textContent = `${clock(start)} – ${clock(end)}`;
  if (state === "rejected") {
    card.estimate.textContent = rejected(utterance.rejected);
    card.shares.replaceChildren();
  } else if (state === "failed") {
    card.estimate.textContent = `No estimate: ${utterance.failed.message}`;
    card.shares.replaceChildren();
  } else if (final === null) {
    card.estimate.textContent =
      interim === null || state === "waiting"
        ? { speaking: "speaking …", waiting: "thinking …" }[state]
        : `so far: ${emotion(interim)} ${percent(interim.confidence)}`;
    if (interim !== null) card.shares.replaceChildren(strip(interim.posterior));
  } else {
    estimated(card, utterance);
  }
}

function estimated(card, utterance) {
  const { final, revisions } = utterance;
  const last = lastWord(utterance);
  const revision = revisions.at(-1);
  card.root.dataset.emotion = final.label;
  card.estimate.replaceChildren(
    sign(final.label),
    element("strong", { className: "emotion", textContent: emotion(final) }),
    ` ${percent(final.confidence)} sure, ${basis(final)}`,
  );
  card.shares.replaceChildren(strip(final.posterior));
  card.doubts.textContent = doubts(final);
  card.decoder.dataset.emotion = last;
  card.decoder.replaceChildren(
    "in the dialogue: ",
    element("strong", { className: "emotion", textContent: last }),
    revision === undefined
      ? ""
      : element("span", {
          className: "revision",
          textContent: ` ↺ revised from ${revision.previous}, after no. ${revision.cause}`,
        }),
  );
  card.why.hidden = false;
}
