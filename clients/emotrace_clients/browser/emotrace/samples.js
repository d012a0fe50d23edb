// Samples as a program has them to bytes as the wire wants them.

const ARRAYS = { s16le: Int16Array, f32le: Float32Array };

/**
 * One block of interleaved s16le from channels of floats in -1 to 1 (an AudioBuffer's, say, or a
 * worklet's input): rounded, and clipped at full scale.
 * @param {readonly ArrayLike<number>[]} channels
 * @param {number} from the first sample
 * @param {number} [length] samples a channel
 */
export function toS16le(channels, from = 0, length = (channels[0]?.length ?? 0) - from) {
  const view = new DataView(new ArrayBuffer(length * channels.length * 2));
  channels.forEach((samples, channel) => {
    for (let i = 0; i < length; i += 1) {
      const scaled = Math.round((samples[from + i] ?? 0) * 32768);
      const clipped = Math.max(-32768, Math.min(32767, scaled));
      view.setInt16((i * channels.length + channel) * 2, clipped, true);
    }
  });
  return view.buffer;
}

/**
 * A copy of samples that are in the declared format, as bytes. Throws TypeError for an array that is
 * of another format by its type.
 * @param {ArrayBuffer | ArrayBufferView} samples
 * @param {import("./events.d.ts").AudioEncoding} encoding
 */
export function wireBytes(samples, encoding) {
  if (!ArrayBuffer.isView(samples)) return new Uint8Array(samples.slice(0));
  const isBytes = samples instanceof Uint8Array || samples instanceof DataView;
  const array = encoding === "s16le" || encoding === "f32le" ? ARRAYS[encoding] : Uint8Array;
  if (!isBytes && !(samples instanceof array)) {
    throw new TypeError(
      `The session was declared as ${encoding}: give bytes or ${array.name}, and not ` +
        `${samples.constructor.name}; toS16le() makes s16le from floats.`,
    );
  }
  return new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength).slice();
}
