// Pictures of a speaker for a session that can use them: small JPEGs, a few a second.

import { Problem } from "./problem.js";

const PERIOD_MS = 250;
const WIDTH = 320;
const QUALITY = 0.8;

export class Camera {
  // Asks the person for the camera. preview: a <video> that shows what is sent.
  static async open(preview) {
    const stream = await navigator.mediaDevices
      .getUserMedia({ video: { width: { ideal: 2 * WIDTH }, facingMode: "user" } })
      .catch((error) => {
        throw new Problem(trouble(error));
      });
    return new Camera(stream, preview);
  }

  constructor(stream, preview) {
    this.stream = stream;
    this.preview = preview;
    this.canvas = document.createElement("canvas");
    preview.srcObject = stream;
  }

  // onPicture(jpeg): base64, without what a data URL has before it.
  async start(onPicture) {
    await this.preview.play();
    if (!this.stream.active) return; // stopped meanwhile
    this.preview.hidden = false;
    this.timer = setInterval(() => onPicture(this.picture()), PERIOD_MS);
  }

  picture() {
    const { videoWidth, videoHeight } = this.preview;
    this.canvas.width = WIDTH;
    this.canvas.height = Math.round((WIDTH * videoHeight) / videoWidth);
    const { width, height } = this.canvas;
    this.canvas.getContext("2d").drawImage(this.preview, 0, 0, width, height);
    return this.canvas.toDataURL("image/jpeg", QUALITY).split(",")[1];
  }

  stop() {
    clearInterval(this.timer);
    for (const track of this.stream.getTracks()) track.stop();
    this.preview.srcObject = null;
    this.preview.hidden = true;
  }
}

function trouble(error) {
  if (error.name === "NotAllowedError") {
    return "The camera is not allowed. Allow it for this page in the browser, or leave it out.";
  }
  if (error.name === "NotFoundError") {
    return "No camera was found. Plug one in, or leave it out.";
  }
  return "The camera cannot be used. Another program may hold it: close that, or leave it out.";
}
