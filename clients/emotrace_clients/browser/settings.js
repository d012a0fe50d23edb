// What a person chose under Settings, and the menus there.

import { deviceTrouble, offerDevices, release } from "./devices.js";
import { Problem } from "./problem.js";
import { sense } from "./wording.js";

const CHANNELS = { one: 1, stereo: 2, two: 2 };
const MAX_CHANNELS = 8;

export class Settings {
  // at(name): the element with that id.
  constructor(at) {
    this.at = at;
    this.models = []; // that the server offers
    for (const choice of this.modes()) choice.addEventListener("change", () => this.fit());
    at("camera").addEventListener("change", () => this.fit());
    at("bundle").addEventListener("change", () => this.offerWhatItCan());
    navigator.mediaDevices?.addEventListener("devicechange", () => this.offerDevices());
    this.fit();
    this.offerDevices();
  }

  get mode() {
    return this.modes().find((choice) => choice.checked).value;
  }

  get aloud() {
    return this.at("aloud").checked;
  }

  // For Microphone.open. Throws a Problem where names and channels do not fit.
  get microphone() {
    const { mode } = this;
    const channels = CHANNELS[mode] ?? Math.max(2, this.names().length);
    const menus = mode === "two" ? ["microphone", "second-microphone"] : ["microphone"];
    if (channels > MAX_CHANNELS) throw new Problem(`At most ${MAX_CHANNELS} speakers can take part.`);
    return { mode, channels, devices: menus.map((name) => this.at(name).value) };
  }

  // The chosen camera's id, or null for none.
  get camera() {
    const wanted = this.at("camera").checked && !this.at("camera-choice").hidden;
    return wanted ? this.at("camera-menu").value : null;
  }

  // Fields of session.start.
  get model() {
    const chosen = { bundle: this.at("bundle").value, labels: this.at("labels").value };
    return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== ""));
  }

  // The names that a person gave, or null. Throws a Problem where they do not fit the channels.
  speakers(channels) {
    const given = this.names();
    if (given.length === 0) return null;
    if (given.length !== channels) {
      throw new Problem(
        `The settings name ${count(given.length, "speaker")} and the sound has ` +
          `${count(channels, "channel")}. Name one a channel, or none.`,
      );
    }
    return given;
  }

  names() {
    return this.at("speakers").value.split(",").map((name) => name.trim()).filter(Boolean);
  }

  modes() {
    return [...document.querySelectorAll('input[name="mode"]')];
  }

  // Shows what belongs to the choices made.
  fit() {
    this.at("second-choice").hidden = this.mode !== "two";
    this.at("camera-device").hidden = this.at("camera-choice").hidden || !this.at("camera").checked;
  }

  async offerDevices() {
    for (const name of ["microphone", "second-microphone"]) {
      await offerDevices(this.at(name), "audioinput");
    }
    await offerDevices(this.at("camera-menu"), "videoinput");
  }

  // Browsers tell the devices' names only to pages that may use them: asks for that.
  async findDevices() {
    const camera = !this.at("camera-choice").hidden;
    if (!navigator.mediaDevices?.getUserMedia) throw new Problem("This page may not use devices.");
    const stream = await navigator.mediaDevices
      .getUserMedia({ audio: true, video: camera })
      .catch((error) => {
        const what = camera ? "microphone or camera" : "microphone";
        throw new Problem(deviceTrouble(error, what, "play the demo or a file"));
      });
    await this.offerDevices();
    release(stream);
  }

  // A choice of models and of their label sets, where there are several. What /v1/models answers.
  offerModels({ default: first, models }) {
    this.models = models;
    this.at("bundle").replaceChildren(
      ...models.map(({ name, model, modalities }) => {
        const told = `${name}: ${model} from ${modalities.map(sense).join(" and ")}`;
        return new Option(told, name, false, name === first);
      }),
    );
    this.at("bundles").hidden = models.length < 2;
    this.offerWhatItCan();
  }

  // What the chosen model can be asked for: its label sets, and a camera if it reads faces.
  offerWhatItCan() {
    const model = this.models.find(({ name }) => name === this.at("bundle").value);
    const sets = Object.entries(model?.label_sets ?? {});
    this.at("labels").replaceChildren(
      ...sets.map(([scheme, labels]) => {
        const own = labels.join() === model.labels.join();
        return new Option(`${scheme}: ${labels.join(", ")}`, scheme, false, own);
      }),
    );
    this.at("label-sets").hidden = sets.length < 2;
    this.at("models").hidden = this.at("bundles").hidden && this.at("label-sets").hidden;
    this.at("camera-choice").hidden = !model?.modalities.includes("facial");
    this.fit();
  }
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
