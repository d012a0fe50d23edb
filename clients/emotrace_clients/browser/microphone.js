// Sound of microphones, as blocks of interleaved s16le: one channel a speaker, on one clock.

import { asked, deviceTrouble, release } from "./devices.js";
import { Problem } from "./problem.js";

const RATES = [16000, 48000, 44100, 24000, 8000]; // what the protocol carries; the first is preferred
const NO_SPEAKER = -1;

export class Microphone {
  // Asks the person for the microphones. devices: an id each, one or two; channels: how many speakers;
  // mode: "one"; "stereo", channels of one device; "two", a device each; "turns", one device whose
  // sound goes to the channel of who speaks, and the others get silence.
  static async open({ mode, devices, channels }) {
    if (!navigator.mediaDevices?.getUserMedia || !("AudioWorkletNode" in globalThis)) {
      throw new Problem(
        "This browser gives the microphone only to pages from this computer (http://localhost) " +
          "or over HTTPS. Open the page that way, or play a file.",
      );
    }
    const streams = [];
    try {
      for (const id of devices) streams.push(await listen(id, mode === "stereo" ? 2 : 1));
      check(mode, streams);
      return new Microphone({ mode, streams, channels });
    } catch (error) {
      streams.forEach(release);
      throw error;
    }
  }

  constructor({ mode, streams, channels }) {
    this.mode = mode;
    this.streams = streams;
    this.channels = channels;
    this.context = contextFor(streams);
    this.sampleRate = this.context.sampleRate;
    this.speaker = NO_SPEAKER;
  }

  // hear(block, levels): 40 ms of s16le, and the loudness of each channel. ended(trouble): no more.
  async start({ hear, ended }) {
    await this.context.audioWorklet.addModule("worklet.js").catch(() => {
      throw new Problem("A part of the page cannot be fetched. Is the server still running?");
    });
    if (this.context.state === "closed") return; // stopped meanwhile
    const turns = this.mode === "turns";
    this.node = new AudioWorkletNode(this.context, "capture", {
      numberOfOutputs: 0,
      channelCount: turns ? 1 : this.channels,
      channelCountMode: "explicit",
      processorOptions: { channels: this.channels, speaker: turns ? this.speaker : null },
    });
    this.node.port.onmessage = ({ data }) => hear(data.block, data.levels);
    for (const stream of this.streams) {
      const [track] = stream.getAudioTracks();
      track.onended = () =>
        ended(`The microphone${track.label ? ` (${track.label})` : ""} was unplugged.`);
    }
    this.join();
    await this.context.resume();
  }

  join() {
    const sources = this.streams.map((stream) => this.context.createMediaStreamSource(stream));
    if (this.mode !== "two") {
      sources[0].connect(this.node);
      return;
    }
    const merger = new ChannelMergerNode(this.context, { numberOfInputs: sources.length });
    sources.forEach((source, channel) => source.connect(merger, 0, channel));
    merger.connect(this.node);
  }

  // Who speaks from now on, where speakers take turns: a channel's number, or null for nobody.
  letSpeak(channel) {
    this.speaker = channel ?? NO_SPEAKER;
    this.node?.port.postMessage(this.speaker);
  }

  stop() {
    this.streams.forEach(release);
    if (this.context.state !== "closed") this.context.close();
  }
}

async function listen(id, channels) {
  const audio = asked(id, {
    channelCount: { ideal: channels },
    echoCancellation: false, // these three reshape a voice, and with it what it expresses
    noiseSuppression: false,
    autoGainControl: false,
  });
  return navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
    throw new Problem(deviceTrouble(error, "microphone", "play the demo or a file"));
  });
}

function check(mode, streams) {
  const given = streams.map((stream) => stream.getAudioTracks()[0].getSettings());
  if (mode === "stereo" && (given[0].channelCount ?? 1) < 2) {
    throw new Problem(
      "This microphone has one channel, and two speakers need two. Choose a stereo input, " +
        "or another way to tell the speakers apart in the settings.",
    );
  }
  if (mode === "two" && given[0].deviceId === given[1].deviceId) {
    throw new Problem(
      "Both speakers have the same microphone. Choose another for the second speaker in the settings, " +
        "or let a button say who speaks.",
    );
  }
}

// At 16 kHz where the browser resamples the microphones, else at the sound card's own rate.
function contextFor(streams) {
  for (const options of [{ sampleRate: RATES[0] }, {}]) {
    const context = new AudioContext(options);
    try {
      // Firefox refuses a rate unlike the microphone's.
      for (const stream of streams) context.createMediaStreamSource(stream);
      if (RATES.includes(context.sampleRate)) return context;
    } catch (error) {
      if (error.name !== "NotSupportedError") throw error;
    }
    context.close();
  }
  throw new Problem(
    `The sound card runs at a rate that cannot be sent. Set it to ${RATES[1]} Hz in the system's ` +
      "sound settings.",
  );
}
