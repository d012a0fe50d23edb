// The report of a session, made of its events when it is opened: the page's views in one document.

import { element } from "./elements.js";
import { Record } from "./record.js";
import { Views } from "./views.js";
import { farewell, sense } from "./wording.js";

// root: where it goes. title: its heading. events: as the server sent them, in order.
export function renderReport(root, { title, events }) {
  const record = new Record();
  const views = new Views(root);
  for (const event of events) {
    const utterance = record.take(event);
    if (event.type === "session.started") views.begin(record);
    if (utterance !== null && record.started !== null) views.show(utterance, event);
  }
  document.title = title;
  root.prepend(opening(title, record));
  if (record.started === null) {
    views.tell("The events begin without session.started: there is nothing to show.");
    return;
  }
  if (record.utterances.size === 0) views.tell("Nobody spoke.");
  views.reach(record.endMs);
  views.draw();
  views.timeline.fit();
  const first = record.estimated()[0];
  if (first !== undefined) views.choose(first.number, true);
}

function opening(title, { started, ended, events }) {
  const facts = [];
  if (started !== null) {
    const { bundle, labels, speakers, modalities } = started;
    facts.push(
      ["Bundle", `${bundle.name} ${bundle.version} (${bundle.licence})`],
      ["Labels", labels.join(", ")],
      ["Speakers", speakers.join(", ")],
      ...modalities
        .filter(({ live }) => !live)
        .map(({ modality, reason }) => [`Without ${sense(modality)}`, reason ?? "no reason was given"]),
      ["Heard", ended === null ? "The session was cut off: its end is not in here." : farewell(ended)],
    );
  }
  for (const [told, times] of remarks(events)) {
    facts.push(["Note", times > 1 ? `${told} (${times} times)` : told]);
  }
  return element(
    "header",
    { className: "report-head" },
    element("h1", { textContent: title, dir: "auto" }),
    started === null ? null : element("p", { className: "notice", textContent: started.notice }),
    element(
      "dl",
      { className: "facts" },
      ...facts.flatMap(([term, told]) => [
        element("dt", { textContent: term }),
        element("dd", { textContent: told, dir: "auto" }),
      ]),
    ),
  );
}

// What went wrong in the whole, each sentence once, with how often it came.
function remarks(events) {
  const counted = new Map();
  for (const { type, message, utterance = null } of events) {
    if (utterance === null && ["warning", "service.degraded", "error"].includes(type)) {
      counted.set(message, (counted.get(message) ?? 0) + 1);
    }
  }
  return counted;
}
