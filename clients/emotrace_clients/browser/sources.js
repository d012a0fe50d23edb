// Where sound comes from: the microphone, or a file at the pace of time.
// Both give blocks of interleaved s16le to `onBlock(buffer, levels)` from `start` until `stop`.

import { Problem } from "./problem.js";

const RATES = [16000, 48000, 44100, 24000, 8000]; // what the protocol carries
const FILE_RATE = 16000;
const BLOCK_MS = 40;
const MAX_LATE_MS = 2000; // a page that slept goes on from where it was
const MAX_CHANNELS = 8;

export class Microphone {
  // Asks the person for the microphone. channels: 1, or 2 for left and right.
  static async open(channels) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Problem(
        "This browser gives the microphone only to pages from this computer (http://localhost) " +
          "or over HTTPS. Open the page that way.",
      );
    }
    const stream = await navigator.mediaDevices
      .getUserMedia({
        audio: {
          channelCount: { ideal: channels },
          echoCancellation: false, // these three reshape a voice, and with it what it expresses
          noiseSuppression: false,
          autoGainControl: false,
        },
      })
      .catch((error) => {
        throw new Problem(microphoneTrouble(error));
      });
    const given = stream.getAudioTracks()[0].getSettings().channelCount ?? 1;
    if (given < channels) {
      stop(stream);
      throw new Problem(
        "This microphone has one channel, and two speakers need two. " +
          "Choose a stereo input in the browser, or switch stereo off in the settings.",
      );
    }
    return connectMicrophone(stream, channels);
  }

  constructor(stream, context, channels) {
    this.stream = stream;
    this.context = context;
    this.channels = channels;
    this.sampleRate = context.sampleRate;
  }

  async start(onBlock, onEnd) {
    await this.context.audioWorklet.addModule("worklet.js");
    const source = this.context.createMediaStreamSource(this.stream);
    const node = new AudioWorkletNode(this.context, "capture", {
      numberOfOutputs: 0,
      channelCount: this.channels,
      channelCountMode: "explicit",
      processorOptions: { channels: this.channels },
    });
    node.port.onmessage = ({ data }) => onBlock(data.block, data.levels);
    this.stream.getAudioTracks()[0].onended = () => onEnd("The microphone was unplugged.");
    source.connect(node);
    await this.context.resume();
  }

  stop() {
    stop(this.stream);
    if (this.context.state !== "closed") this.context.close();
  }
}

export class SoundFile {
  // data: the bytes of any format that the browser can decode.
  static async open(data, aloud) {
    const context = new AudioContext({ sampleRate: FILE_RATE }); // decoding resamples to it
    let buffer;
    try {
      buffer = await context.decodeAudioData(data);
    } catch {
      context.close();
      throw new Problem(
        "The browser cannot decode this file. WAV, FLAC, MP3 and Ogg work in most browsers.",
      );
    }
    if (buffer.numberOfChannels > MAX_CHANNELS) {
      context.close();
      throw new Problem(`The file has more than ${MAX_CHANNELS} channels, one for each speaker.`);
    }
    return new SoundFile(context, buffer, aloud);
  }

  constructor(context, buffer, aloud) {
    this.context = context;
    this.buffer = buffer;
    this.aloud = aloud;
    this.channels = buffer.numberOfChannels;
    this.sampleRate = FILE_RATE;
  }

  async start(onBlock, onEnd) {
    const size = (FILE_RATE * BLOCK_MS) / 1000;
    let next = 0;
    let begin = performance.now();
    if (this.aloud) {
      this.playing = new AudioBufferSourceNode(this.context, { buffer: this.buffer });
      this.playing.connect(this.context.destination);
      this.playing.start();
    }
    this.timer = setInterval(() => {
      const late = performance.now() - begin - (next * 1000) / FILE_RATE;
      if (late > MAX_LATE_MS) begin += late;
      while (next < this.buffer.length) {
        const due = begin + ((next + size) * 1000) / FILE_RATE;
        if (performance.now() < due) return;
        onBlock(...interleaved(this.buffer, next, size));
        next += size;
      }
      this.stop();
      onEnd(null);
    }, BLOCK_MS / 2);
  }

  stop() {
    clearInterval(this.timer);
    this.playing?.stop();
    if (this.context.state !== "closed") this.context.close();
  }
}

function interleaved(buffer, from, size) {
  const channels = buffer.numberOfChannels;
  const length = Math.min(size, buffer.length - from);
  const view = new DataView(new ArrayBuffer(length * channels * 2));
  const levels = [];
  for (let channel = 0; channel < channels; channel += 1) {
    const samples = buffer.getChannelData(channel);
    let power = 0;
    for (let i = 0; i < length; i += 1) {
      const sample = samples[from + i];
      const scaled = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      view.setInt16((i * channels + channel) * 2, scaled, true);
      power += sample * sample;
    }
    levels.push(Math.sqrt(power / length));
  }
  return [view.buffer, levels];
}

// At 16 kHz where the browser resamples the microphone, else at the sound card's own rate.
function connectMicrophone(stream, channels) {
  for (const options of [{ sampleRate: FILE_RATE }, {}]) {
    const context = new AudioContext(options);
    try {
      context.createMediaStreamSource(stream); // Firefox refuses a rate unlike the microphone's
      if (RATES.includes(context.sampleRate)) return new Microphone(stream, context, channels);
    } catch (error) {
      if (error.name !== "NotSupportedError") throw error;
    }
    context.close();
  }
  stop(stream);
  throw new Problem(
    `The sound card runs at a rate that cannot be sent. Set it to ${RATES[1]} Hz in the system's ` +
      "sound settings.",
  );
}

function microphoneTrouble(error) {
  if (error.name === "NotAllowedError") {
    return "The microphone is not allowed. Allow it for this page in the browser, and start again.";
  }
  if (error.name === "NotFoundError") {
    return "No microphone was found. Plug one in, or play the demo or a file instead.";
  }
  return "The microphone cannot be used. Another program may hold it: close that, and start again.";
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
