// Pictures of a speaker for a session that can use them: small JPEGs, a few a second.

import { asked, deviceTrouble, release } from "./devices.js";
import { faceFinder } from "./faces.js";
import { Problem } from "./problem.js";

const PERIOD_MS = 250;
const MAX_PX = 320;
const QUALITY = 0.8;

export class Camera {
  // Asks the person for the camera. preview: a <video> that shows what it sees.
  static async open(id, preview) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Problem(
        "This browser gives the camera only to pages from this computer or over HTTPS. " +
          "Open the page that way, or switch the camera off in the settings.",
      );
    }
    const video = asked(id, { width: { ideal: 2 * MAX_PX }, facingMode: "user" });
    const stream = await navigator.mediaDevices.getUserMedia({ video }).catch((error) => {
      throw new Problem(deviceTrouble(error, "camera", "switch it off in the settings"));
    });
    return new Camera(stream, preview, await faceFinder());
  }

  constructor(stream, preview, findFace) {
    this.stream = stream;
    this.preview = preview;
    this.findFace = findFace;
    this.canvas = document.createElement("canvas");
    preview.srcObject = stream;
  }

  // What leaves the browser, in a sentence.
  get told() {
    return this.findFace === null
      ? "This browser cannot find faces by itself: the whole picture is sent, small, four times a second."
      : "Only the face is sent, cut out of the picture in this browser, four times a second.";
  }

  // Gives pictures until `stop`. see(jpeg): base64, without what a data URL has before it.
  // ended(trouble): no more pictures.
  async start({ see, ended }) {
    const [track] = this.stream.getVideoTracks();
    track.onended = () => ended("The camera was unplugged: the session goes on without pictures.");
    await this.preview.play();
    while (this.stream.active) {
      const box = await this.box();
      if (box !== null && this.stream.active) see(this.picture(box));
      await new Promise((next) => setTimeout(next, PERIOD_MS));
    }
  }

  // The part of the picture that is sent, or null where no face is in it.
  async box() {
    const { videoWidth: width, videoHeight: height } = this.preview;
    return this.findFace === null ? { x: 0, y: 0, width, height } : this.findFace(this.preview);
  }

  picture({ x, y, width, height }) {
    const scale = Math.min(1, MAX_PX / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const { width: w, height: h } = this.canvas;
    this.canvas.getContext("2d").drawImage(this.preview, x, y, width, height, 0, 0, w, h);
    return this.canvas.toDataURL("image/jpeg", QUALITY).split(",")[1];
  }

  stop() {
    release(this.stream);
    this.preview.srcObject = null;
  }
}
