// The part of a picture that holds the face, where the browser can find faces by itself.

const MARGIN = 0.35; // of the face, on each side: the server looks for it again

// A function that gives the place of the largest face of a video's picture, or null where there is
// none; null where this browser finds no faces.
export async function faceFinder() {
  if (!("FaceDetector" in globalThis)) return null;
  try {
    const detector = new FaceDetector({ fastMode: true });
    await detector.detect(document.createElement("canvas")); // some know the name and cannot do it
    return async (video) => widened(largest(await detector.detect(video)), video);
  } catch {
    return null;
  }
}

function largest(faces) {
  const boxes = faces.map(({ boundingBox }) => boundingBox);
  return boxes.sort((one, other) => other.width * other.height - one.width * one.height)[0] ?? null;
}

function widened(box, { videoWidth, videoHeight }) {
  if (box === null) return null;
  const x = Math.max(0, box.x - MARGIN * box.width);
  const y = Math.max(0, box.y - MARGIN * box.height);
  return {
    ...{ x, y },
    width: Math.min(videoWidth, box.x + (1 + MARGIN) * box.width) - x,
    height: Math.min(videoHeight, box.y + (1 + MARGIN) * box.height) - y,
  };
}
