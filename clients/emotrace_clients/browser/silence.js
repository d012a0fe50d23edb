// Notices a microphone that gives nothing at all: muted, or not the one that is meant. Pure.

const SILENT = 1e-4; // -80 dB of full scale: a microphone that is on has more noise than that
const PATIENCE_BLOCKS = 200; // of 40 ms

export class Silence {
  constructor(channels) {
    this.blocks = new Array(channels).fill(0); // without sound, by channel
  }

  // levels: the loudness of each channel in a block, or null where it is meant to be silent. Gives
  // the channels that have just been silent for too long; each once.
  update(levels) {
    levels.forEach((level, channel) => {
      if (level === null) return;
      this.blocks[channel] = level < SILENT ? this.blocks[channel] + 1 : Number.NEGATIVE_INFINITY;
    });
    return [...this.blocks.keys()].filter((channel) => this.blocks[channel] === PATIENCE_BLOCKS);
  }
}
