// What this browser cannot do here, in sentences with the cure.

// Without these nothing works.
export function shortcoming() {
  const missing = ["WebSocket", "AudioContext", "OfflineAudioContext"].filter(
    (name) => !(name in globalThis),
  );
  return missing.length === 0
    ? null
    : `This browser lacks what the page needs (${missing.join(", ")}). Use a current Firefox, Chrome, ` +
        "Edge or Safari.";
}

// Without these there is no microphone and no camera.
export function limitation() {
  if (!globalThis.isSecureContext) {
    return (
      "This page came over plain HTTP from another machine, and browsers give it no microphone and " +
      "no camera then. Open it over HTTPS, or through a tunnel as http://localhost. Demo and files work."
    );
  }
  if (!navigator.mediaDevices?.getUserMedia || !("AudioWorkletNode" in globalThis)) {
    return (
      "This browser gives pages no microphone (it lacks getUserMedia or AudioWorklet). Use a current " +
      "Firefox, Chrome, Edge or Safari. Demo and files work."
    );
  }
  return null;
}
