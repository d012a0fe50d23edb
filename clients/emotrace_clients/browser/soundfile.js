// Sound of a file, as blocks of interleaved s16le: one channel a speaker. Heard at the pace of time,
// or unheard and as fast as the server takes it.

import { toS16le } from "./emotrace/index.js";
import { Problem } from "./problem.js";

const RATE = 16000; // decoding resamples to it
const BLOCK_MS = 40;
const FAST_BLOCK_MS = 200;
const MAX_LATE_MS = 2000; // a page that slept goes on from where it was
const MAX_CHANNELS = 8;
const MAX_MINUTES = 30; // decoded sound lies in memory: half an hour of stereo is up to a gigabyte
const MAX_BYTES = 400 * 1024 * 1024;

const TOO_LONG =
  `The page takes files of up to ${MAX_MINUTES} minutes, since a browser holds all of their sound in ` +
  "memory. For a longer one use the command line, emotrace stream FILE or emotrace report FILE, or cut it.";

export class SoundFile {
  // blob: a file of any format that the browser can decode, video too.
  static async open(blob, aloud) {
    const { seconds, pictures } = await measure(blob);
    if (seconds > MAX_MINUTES * 60) {
      throw new Problem(`This file has ${Math.round(seconds / 60)} minutes. ${TOO_LONG}`);
    }
    if (blob.size > MAX_BYTES) throw new Problem(`This file is very large. ${TOO_LONG}`);
    const decoder = new OfflineAudioContext(1, 1, RATE);
    let buffer;
    try {
      buffer = await decoder.decodeAudioData(await blob.arrayBuffer());
    } catch {
      throw new Problem(
        pictures
          ? "This video has no sound that the browser can decode. Choose one with a sound track."
          : "The browser cannot decode this file. WAV, FLAC, MP3 and Ogg work in most browsers: " +
              "convert it to one of them.",
      );
    }
    if (buffer.numberOfChannels > MAX_CHANNELS) {
      throw new Problem(`The file has more than ${MAX_CHANNELS} channels, one for each speaker.`);
    }
    return new SoundFile(buffer, aloud);
  }

  constructor(buffer, aloud) {
    this.buffer = buffer;
    this.aloud = aloud;
    this.channels = buffer.numberOfChannels;
    this.sampleRate = RATE;
    this.next = 0; // sample
    this.stopped = false;
  }

  // hear(block, levels); ended(trouble): no more; ready(): a promise of room for more.
  async start({ hear, ended, ready }) {
    if (this.aloud) await this.play(hear);
    else await this.hurry(hear, ready);
    if (this.stopped) return;
    this.stop();
    ended(null);
  }

  async hurry(hear, ready) {
    while (!this.stopped && this.next < this.buffer.length) {
      await ready();
      if (!this.stopped) this.give(hear, FAST_BLOCK_MS);
    }
  }

  async play(hear) {
    this.context = new AudioContext({ sampleRate: RATE });
    const player = new AudioBufferSourceNode(this.context, { buffer: this.buffer });
    player.connect(this.context.destination);
    player.start();
    let begin = performance.now();
    await new Promise((done) => {
      this.timer = setInterval(() => {
        const late = performance.now() - begin - (this.next * 1000) / RATE;
        if (late > MAX_LATE_MS) begin += late;
        while (this.next < this.buffer.length) {
          if (performance.now() < begin + (this.next * 1000) / RATE + BLOCK_MS) return;
          this.give(hear, BLOCK_MS);
        }
        done();
      }, BLOCK_MS / 2);
    });
  }

  give(hear, ms) {
    const size = (RATE * ms) / 1000;
    const channels = Array.from({ length: this.channels }, (_, channel) =>
      this.buffer.getChannelData(channel).subarray(this.next, this.next + size),
    );
    hear(toS16le(channels), channels.map(loudness));
    this.next += size;
  }

  stop() {
    this.stopped = true;
    clearInterval(this.timer);
    if (this.context !== undefined && this.context.state !== "closed") this.context.close();
  }
}

// How long a file is, and whether it has pictures, without decoding it; as far as its head says so.
async function measure(blob) {
  const address = URL.createObjectURL(blob);
  const video = document.createElement("video");
  try {
    await new Promise((done) => {
      video.onloadedmetadata = done;
      video.onerror = done;
      video.preload = "metadata";
      video.src = address;
    });
    return { seconds: video.duration || 0, pictures: video.videoWidth > 0 };
  } finally {
    video.removeAttribute("src");
    URL.revokeObjectURL(address);
  }
}

function loudness(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}
