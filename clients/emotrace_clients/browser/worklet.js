// On the audio thread: blocks of interleaved s16le, and the loudness of each channel.

const BLOCK_MS = 40;

class Capture extends AudioWorkletProcessor {
  // channels: of the blocks. speaker: null where the input has as many; else its only channel is that
  // speaker's, and the other channels are silent (-1: all are). A message names the next speaker.
  constructor({ processorOptions: { channels, speaker } }) {
    super();
    this.channels = channels;
    this.speaker = speaker;
    this.port.onmessage = ({ data }) => {
      this.speaker = data;
    };
    this.size = Math.round((sampleRate * BLOCK_MS) / 1000); // samples a channel
    this.start();
  }

  start() {
    this.view = new DataView(new ArrayBuffer(this.size * this.channels * 2));
    this.filled = 0;
    this.power = new Array(this.channels).fill(0);
  }

  process([input]) {
    if (input.length === 0) return true; // nothing is connected yet
    for (let i = 0; i < input[0].length; i += 1) {
      for (let channel = 0; channel < this.channels; channel += 1) {
        const sample = this.sample(input, channel, i);
        const scaled = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
        this.view.setInt16((this.filled * this.channels + channel) * 2, scaled, true);
        this.power[channel] += sample * sample;
      }
      this.filled += 1;
      if (this.filled === this.size) {
        const levels = this.power.map((sum) => Math.sqrt(sum / this.size));
        this.port.postMessage({ block: this.view.buffer, levels }, [this.view.buffer]);
        this.start();
      }
    }
    return true;
  }

  sample(input, channel, i) {
    if (this.speaker === null) return (input[channel] ?? input[0])[i];
    return channel === this.speaker ? input[0][i] : 0;
  }
}

registerProcessor("capture", Capture);
