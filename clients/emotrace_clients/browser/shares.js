// How long each speaker expressed what, by the estimates in the light of the dialogue.

import { element, sign, strip } from "./elements.js";
import { lastWord } from "./record.js";
import { percent } from "./wording.js";

export function shares(record) {
  return element(
    "ul",
    { className: "speakers" },
    ...record.speakers.map((speaker) => ofSpeaker(speaker, heard(record, speaker))),
  );
}

// Milliseconds by label, the most first.
function heard(record, speaker) {
  const sums = new Map();
  for (const utterance of record.estimated()) {
    if (utterance.speaker !== speaker) continue;
    const label = lastWord(utterance);
    sums.set(label, (sums.get(label) ?? 0) + utterance.end - utterance.start);
  }
  return [...sums].filter(([, ms]) => ms > 0).sort(([, one], [, other]) => other - one);
}

function ofSpeaker(speaker, sums) {
  const whole = sums.reduce((sum, [, ms]) => sum + ms, 0);
  return element(
    "li",
    {},
    element(
      "p",
      {},
      element("strong", { textContent: speaker, dir: "auto" }),
      whole > 0 ? ` ${(whole / 1000).toFixed(1)} s of speech` : " nothing yet",
    ),
    whole > 0 ? strip(Object.fromEntries(sums.map(([label, ms]) => [label, ms / whole]))) : null,
    element(
      "ul",
      { className: "legend" },
      ...sums.map(([label, ms]) =>
        element("li", {}, sign(label), `${label} ${percent(ms / whole)}`),
      ),
    ),
  );
}
