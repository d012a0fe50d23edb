// Wires the page: controls, a source of sound, a session, and the views.

import { Access } from "./access.js";
import { Camera } from "./camera.js";
import { element } from "./elements.js";
import { connect, EmotraceError, streamUrl, TurnMatcher } from "./emotrace/index.js";
import { asCsv, asJson, asReport, fetchParts, save } from "./exports.js";
import { Levels } from "./levels.js";
import { Microphone } from "./microphone.js";
import { Problem } from "./problem.js";
import { Record } from "./record.js";
import { Settings } from "./settings.js";
import { Silence } from "./silence.js";
import { SoundFile } from "./soundfile.js";
import { Status } from "./status.js";
import { limitation, shortcoming } from "./support.js";
import { Views } from "./views.js";
import { farewell, nothingFound, sentence } from "./wording.js";

const at = (id) => document.getElementById(id);
const START_BUTTONS = ["play-demo", "start-microphone", "choose-file", "find-devices"];
const SAVE_BUTTONS = ["save-report", "save-csv", "save-json"];

const settings = new Settings(at);
const status = new Status(at);
const levels = new Levels(at("levels"));
const views = new Views(at("views"));
const parts = fetchParts(); // of the report, while the server is there
const served = fetchServed();
const access = new Access(at, served);

let record = new Record(); // of the session that runs, or of the last one
let running = null; // { source, camera, turns, session, ... }; null between sessions

// open(): gives { source, camera, start, turns }. start: fields of session.start; turns: the words
// that are known before; camera and turns may be null.
async function run(open) {
  if (running !== null) return;
  const here = { started: false, stopping: false, reads: false, heardMs: 0, loudest: 0, problem: null };
  const begun = document.activeElement; // a button, or the body where a file was dropped
  running = here;
  busy(true);
  status.clear();
  status.state("Connecting …");
  try {
    Object.assign(here, await open());
    const { sampleRate, channels } = here.source;
    const audio = { encoding: "s16le", sample_rate: sampleRate, channels };
    here.silence = new Silence(channels);
    const token = await access.ticket();
    here.session = connect(streamUrl(), { audio, ...settings.model, ...here.start, token });
    here.session.addEventListener("event", ({ detail }) => take(here, detail));
    here.session.addEventListener("connection", ({ detail }) => status.connection(detail, here.heardMs));
    here.session.started.catch(() => {}); // `finished` tells
    at("stop").hidden = false;
    if (begun.disabled) at("stop").focus();
    await here.session.finished;
    over(here, null);
  } catch (error) {
    over(here, here.problem ?? error);
  }
  if (document.activeElement === document.body) begun.focus(); // what had the focus is gone
}

function take(here, event) {
  if (event.type === "session.started") record = new Record();
  const utterance = record.take(event);
  switch (event.type) {
    case "session.started":
      begin(here, event);
      break;
    case "speech.started":
    case "emotion.interim":
    case "transcript.final":
    case "speech.rejected":
    case "emotion.revised":
      break; // the views show them
    case "speech.ended":
      if (here.turns !== null && here.reads) {
        here.session.sendText(here.turns.take(event), { utterance: event.utterance });
      }
      break;
    case "emotion.final":
      at("announcer").textContent = sentence(event);
      break;
    case "warning":
      status.remark(event.message);
      break;
    case "service.degraded":
      status.degraded(event);
      break;
    case "error":
      if (utterance === null && !event.fatal) status.remark(event.message);
      break;
    case "session.ended":
      status.state(`Ended. ${farewell(event)}`);
      break;
    default: // marker.reached, heartbeat, session.resumed and input.ack have nothing to show; newer
    // events are skipped
  }
  if (utterance !== null) views.show(utterance, event);
}

function begin(here, started) {
  const { bundle, labels, speakers, modalities, notice } = started;
  here.started = true;
  here.reads = modalities.some((one) => one.modality === "lexical" && one.live);
  at("notice").textContent = notice;
  for (const id of SAVE_BUTTONS) at(id).disabled = false;
  at("intro").hidden = true;
  at("views").hidden = false;
  views.begin(record);
  levels.show(speakers);
  status.modalities(started, here.camera !== null);
  status.state(`Live: bundle ${bundle.name} ${bundle.version}, ${labels.length} labels`, true);
  if (here.source.mode === "turns") offerTurns(here, speakers);
  here.source
    .start({
      hear: (block, loudness) => hear(here, block, loudness),
      ended: (trouble) => ended(here, trouble),
      ready: () => here.session.ready(),
    })
    .catch((error) => fail(here, error));
  watch(here, started);
}

// Who speaks, where several take turns at one microphone.
function offerTurns(here, speakers) {
  const choice = (name, channel) => {
    const input = element("input", { type: "radio", name: "speaker", checked: channel === 0 });
    input.addEventListener("change", () => here.source.letSpeak(channel));
    return element("label", {}, input, element("span", { textContent: name, dir: "auto" }));
  };
  const choices = [...speakers.map(choice), choice("nobody", null)];
  at("talk").replaceChildren(at("talk").querySelector("legend"), ...choices);
  at("talk").hidden = false;
  here.source.letSpeak(0);
  at("talk").querySelector("input").focus();
}

// Pictures of who speaks, if there is a camera and the session can use them.
function watch(here, { speakers, modalities }) {
  const { camera, source, session } = here;
  if (camera === null) return;
  if (!modalities.some((one) => one.modality === "facial" && one.live)) {
    camera.stop();
    return;
  }
  at("camera-view").hidden = false;
  at("camera-told").textContent = camera.told;
  const see = (jpeg) => {
    const speaker = source.mode === "turns" ? speakers[source.speaker] : speakers[0];
    if (speaker !== undefined && !here.stopping) session.sendImage(jpeg, speaker);
  };
  const blind = (trouble) => {
    status.remark(trouble);
    at("camera-view").hidden = true;
  };
  camera.start({ see, ended: blind }).catch((error) => {
    if (!here.stopping) blind(`The camera fails (${error.message}): the session goes on without pictures.`);
  });
}

function hear(here, block, loudness) {
  if (running !== here || here.stopping) return; // blocks that were on their way
  const { source, session } = here;
  try {
    session.sendAudio(block);
  } catch {
    return; // the session is over, and `finished` tells why
  }
  here.heardMs += (1000 * block.byteLength) / (2 * source.channels * source.sampleRate);
  here.loudest = Math.max(here.loudest, ...loudness);
  levels.update(loudness);
  views.reach(here.heardMs);
  if (source.mode === undefined) return; // a file may be as silent as it likes
  const turns = source.mode === "turns";
  const meant = loudness.map((level, channel) => (turns && channel !== source.speaker ? null : level));
  for (const channel of here.silence.update(meant)) {
    status.remark(
      `Nothing at all comes from the microphone of ${record.speakers[channel]}: it may be muted, or ` +
        "not the one you mean. Switch it on, or stop and choose another in the settings.",
    );
  }
}

// The source has no more sound. trouble: why, where that is not as it should be.
function ended(here, trouble) {
  if (trouble !== null) status.remark(trouble);
  if (running === here && !here.stopping) stop();
}

// Once: finish what was heard. Twice, or before anything was: cut off.
function stop() {
  if (running.stopping || !running.started) {
    running.session.close();
    return;
  }
  running.stopping = true;
  release(running);
  status.state("Finishing …");
  running.session.end();
}

function fail(here, problem) {
  if (here.stopping || running !== here) return; // what was under way when the session ended
  here.problem = problem;
  here.session.close();
}

function release({ source, camera }) {
  source?.stop();
  camera?.stop();
  for (const id of ["camera-view", "talk"]) at(id).hidden = true;
}

function over(here, problem) {
  release(here);
  running = null;
  busy(false);
  levels.show([]);
  settings.offerDevices(); // whose names may be known now
  if (problem === null) {
    const nothing = nothingFound(record, here.loudest);
    status.problem(nothing);
    if (nothing !== "") views.tell(nothing);
    return;
  }
  const told = problem instanceof Problem || problem instanceof EmotraceError;
  status.say("connection", "");
  status.problem(told ? problem.message : `The page failed: ${problem.message}`);
  status.state("Not connected");
  if (record.utterances.size === 0) views.tell("Nothing was heard.");
}

function busy(is) {
  for (const id of START_BUTTONS) at(id).disabled = is;
  at("stop").hidden = true;
}

// What the server offers; null where it does not say, and a session says why.
async function fetchServed() {
  const response = await fetch("v1/models").catch(() => null);
  return response?.ok ? response.json() : null;
}

async function openDemo() {
  const [sound, words] = await Promise.all(["dialogue.flac", "dialogue.json"].map(fetchDemo));
  const { speakers, turns } = await words.json();
  return {
    source: await SoundFile.open(await sound.blob(), settings.aloud),
    camera: null,
    start: { speakers, transcription: "client" },
    turns: new TurnMatcher(turns),
  };
}

async function fetchDemo(name) {
  const response = await fetch(`demo/${name}`).catch(() => null);
  if (!response?.ok) throw new Problem("The demo cannot be fetched. Is the server still running?");
  return response;
}

async function openFile(file) {
  const source = await SoundFile.open(file, settings.aloud);
  return { source, camera: null, start: { speakers: settings.speakers(source.channels) }, turns: null };
}

async function openMicrophone() {
  const wanted = settings.microphone;
  const start = { speakers: settings.speakers(wanted.channels) };
  const source = await Microphone.open(wanted);
  try {
    const camera = settings.camera === null ? null : await Camera.open(settings.camera, at("preview"));
    return { source, camera, start, turns: null };
  } catch (error) {
    source.stop();
    throw error;
  }
}

async function saveReport() {
  const when = new Date().toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });
  const text = asReport(await parts, `Emotrace, ${when}`, record.events);
  save(`${fileName()}.html`, "text/html", text);
}

function fileName() {
  const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60_000); // as the clock on the wall
  return `emotrace-${now.toISOString().slice(0, 16).replace("T", "-").replace(":", "")}`;
}

function dropped(event) {
  event.preventDefault();
  at("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) run(() => openFile(file));
}

const lacks = shortcoming();
const limited = limitation();
at("unsupported").remove();
if (lacks !== null) {
  busy(true);
  status.problem(lacks);
} else if (limited !== null) {
  status.remark(limited);
}
served.then((answer) => answer && settings.offerModels(answer));
parts.catch(() => {
  at("save-report").hidden = true;
  status.remark("A part of the page could not be fetched: there will be no report. Load the page again.");
});
at("play-demo").addEventListener("click", () => run(openDemo));
at("start-microphone").addEventListener("click", () => run(openMicrophone));
at("choose-file").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) run(() => openFile(file));
  at("file").value = "";
});
at("stop").addEventListener("click", stop);
at("find-devices").addEventListener("click", () => {
  settings.findDevices().catch((error) => status.problem(error.message));
});
at("save-json").addEventListener("click", () => save(`${fileName()}.json`, "application/json", asJson(record)));
at("save-csv").addEventListener("click", () => save(`${fileName()}.csv`, "text/csv", asCsv(record)));
at("save-report").addEventListener("click", saveReport);
at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", dropped);
