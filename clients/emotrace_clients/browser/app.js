// Wires the page: buttons, a source of sound, a session, and the views.

import { Camera } from "./camera.js";
import { Dialogue, sentence } from "./dialogue.js";
import { element, sign } from "./elements.js";
import { Levels } from "./levels.js";
import { Problem } from "./problem.js";
import { Session, streamUrl } from "./session.js";
import { Microphone, SoundFile } from "./sources.js";
import { TurnMatcher } from "./turns.js";
import { WhyPanel } from "./why.js";
import { farewell, sense } from "./wording.js";

const at = (id) => document.getElementById(id);
const oneColumn = matchMedia("(max-width: 60rem)"); // as in style.css
const why = new WhyPanel(at("why-body"), at("why-empty"));
const dialogue = new Dialogue(at("dialogue"), at("names"), (final, revision, byPerson) => {
  why.show(final, revision);
  if (byPerson && oneColumn.matches) at("why").scrollIntoView();
});
const levels = new Levels(at("levels"));

let models = []; // that the server offers

// What runs: { source, camera, turns, session, reads, stopping }; null between sessions.
let running = null;

// open(): gives { source, camera, settings, turns }; settings are fields of session.start, turns the
// words that are known before; camera and turns may be null.
async function run(open) {
  if (running !== null) return;
  running = { stopping: false };
  busy(true);
  tell("Connecting …");
  at("problem").hidden = true;
  at("remarks").replaceChildren();
  try {
    const { source, camera, settings, turns } = await open();
    const { sampleRate, channels } = source;
    const audio = { encoding: "s16le", sample_rate: sampleRate, channels };
    if (at("bundle").value) settings.bundle = at("bundle").value;
    if (at("labels").value) settings.labels = at("labels").value;
    running.source = source;
    running.camera = camera;
    running.turns = turns;
    running.session = new Session(streamUrl(), { audio, ...settings }, take, over);
    at("stop").hidden = false;
  } catch (error) {
    over(error);
  }
}

function take(event) {
  const { source, session, turns } = running;
  switch (event.type) {
    case "session.started":
      begin(event);
      source.start(hear, ended).catch((error) => session.fail(error.message));
      watch(event);
      break;
    case "speech.started":
      at("empty").hidden = true;
      dialogue.speechStarted(event);
      break;
    case "emotion.interim":
      dialogue.interim(event);
      break;
    case "speech.ended":
      dialogue.speechEnded(event);
      if (turns !== null && running.reads) session.sendText(turns.take(event), event.utterance);
      break;
    case "speech.rejected":
      dialogue.rejected(event);
      break;
    case "transcript.final":
      dialogue.transcript(event);
      break;
    case "emotion.final":
      dialogue.final(event);
      at("announcer").textContent = sentence(event);
      break;
    case "emotion.revised":
      dialogue.revised(event);
      break;
    case "warning":
    case "service.degraded":
      remark(event.message);
      break;
    case "error":
      if (event.utterance !== null) dialogue.failed(event);
      else if (!event.fatal) remark(event.message);
      break;
    case "session.ended":
      tell(`Ended. ${farewell(event)}`);
      break;
    default: // marker.reached and heartbeat have nothing to show; newer events are skipped
  }
}

function begin({ bundle, labels, speakers, modalities, notice }) {
  running.reads = modalities.some((one) => one.modality === "lexical" && one.live);
  at("notice").textContent = notice;
  dialogue.clear(speakers);
  why.clear();
  at("empty").hidden = false;
  at("empty").textContent = "Listening …";
  levels.show(speakers);
  at("legend").replaceChildren(...labels.map((name) => element("li", {}, sign(name), name)));
  tell(`Live: bundle ${bundle.name} ${bundle.version}, ${labels.length} labels`);
  for (const { modality, live, reason } of modalities) {
    if (!live) remark(`Not used: ${sense(modality)}. ${reason ?? ""}`);
  }
}

// Pictures of the first speaker, if there is a camera and the session can use them.
function watch({ speakers, modalities }) {
  const { camera, session } = running;
  if (camera === null) return;
  if (modalities.some((one) => one.modality === "facial" && one.live)) {
    const see = (jpeg) => session.sendImage(jpeg, speakers[0]);
    camera.start(see).catch((error) => {
      if (running?.session === session && !running.stopping) session.fail(error.message);
    });
  } else camera.stop();
}

function hear(block, loudness) {
  if (running === null || running.stopping) return; // blocks that were on their way
  running.session.sendAudio(block);
  levels.update(loudness);
}

// The source has no more sound. trouble: why, where that is not as it should be.
function ended(trouble) {
  if (trouble !== null) remark(trouble);
  if (running !== null && !running.stopping) stop();
}

// Once: finish what was heard. Twice, or before anything was: cut off.
function stop() {
  if (running.stopping || running.session.received === 0) {
    running.session.fail("The session was cut off before the server had finished.");
    return;
  }
  running.stopping = true;
  running.source.stop();
  running.camera?.stop();
  tell("Finishing …");
  running.session.end();
}

function over(problem) {
  running.source?.stop();
  running.camera?.stop();
  running = null;
  busy(false);
  levels.show([]);
  if (problem === null) return;
  at("problem").textContent =
    problem instanceof Problem ? problem.message : `The page failed: ${problem.message}`;
  at("problem").hidden = false;
  tell("Not connected");
  at("empty").textContent = "Nothing was heard.";
}

function busy(is) {
  for (const id of ["play-demo", "start-microphone", "choose-file"]) at(id).disabled = is;
  at("stop").hidden = true;
}

function tell(told) {
  at("state").textContent = told;
}

function remark(told) {
  at("remarks").append(element("li", { textContent: told }));
}

// The names that a person gave, or null. Throws a Problem where they do not fit the channels.
function names(channels) {
  const given = at("speakers").value.split(",").map((name) => name.trim()).filter(Boolean);
  if (given.length === 0) return null;
  if (given.length !== channels) {
    throw new Problem(
      `The settings name ${given.length} speakers and the sound has ${channels} channels. ` +
        "Name one a channel, or none.",
    );
  }
  return given;
}

async function openDemo() {
  const [sound, words] = await Promise.all(["dialogue.flac", "dialogue.json"].map(fetched));
  const { speakers, turns } = await words.json();
  return {
    source: await SoundFile.open(await sound.arrayBuffer(), at("aloud").checked),
    camera: null,
    settings: { speakers, transcription: "client" },
    turns: new TurnMatcher(turns),
  };
}

async function openFile(file) {
  const source = await SoundFile.open(await file.arrayBuffer(), at("aloud").checked);
  return { source, camera: null, settings: { speakers: names(source.channels) }, turns: null };
}

async function openMicrophone() {
  const channels = at("stereo").checked ? 2 : 1;
  const settings = { speakers: names(channels) };
  const source = await Microphone.open(channels);
  const wanted = at("camera").checked && !at("camera-choice").hidden;
  try {
    const camera = wanted ? await Camera.open(at("preview")) : null;
    return { source, camera, settings, turns: null };
  } catch (error) {
    source.stop();
    throw error;
  }
}

// A choice of models and of their label sets, where there are several.
async function offerModels() {
  const response = await fetch("v1/models").catch(() => null);
  if (!response?.ok) return; // a session says why, if it cannot begin either
  const { default: first, models: offered } = await response.json();
  models = offered;
  at("bundle").replaceChildren(
    ...models.map(({ name, model, modalities }) =>
      element("option", {
        value: name,
        textContent: `${name}: ${model} from ${modalities.map(sense).join(" and ")}`,
        selected: name === first,
      }),
    ),
  );
  at("bundles").hidden = models.length < 2;
  offerWhatItCan();
}

// What the chosen model can be asked for: its label sets, and a camera if it reads faces.
function offerWhatItCan() {
  const model = models.find(({ name }) => name === at("bundle").value);
  at("camera-choice").hidden = !model?.modalities.includes("facial");
  const sets = Object.entries(model?.label_sets ?? {});
  at("labels").replaceChildren(
    ...sets.map(([scheme, labels]) =>
      element("option", {
        value: scheme,
        textContent: `${scheme}: ${labels.join(", ")}`,
        selected: labels.join() === model.labels.join(),
      }),
    ),
  );
  at("label-sets").hidden = sets.length < 2;
}

async function fetched(name) {
  const response = await fetch(`demo/${name}`).catch(() => null);
  if (!response?.ok) throw new Problem("The demo cannot be fetched. Is the server still running?");
  return response;
}

offerModels();
at("bundle").addEventListener("change", offerWhatItCan);
at("play-demo").addEventListener("click", () => run(openDemo));
at("start-microphone").addEventListener("click", () => run(openMicrophone));
at("choose-file").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) run(() => openFile(file));
  at("file").value = "";
});
at("stop").addEventListener("click", stop);
at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) run(() => openFile(file));
});
