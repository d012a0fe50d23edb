// Microphones and cameras, in menus: the browser's own choice, and each that is plugged in.

const KINDS = { audioinput: "Microphone", videoinput: "Camera" };
const PSEUDO = ["default", "communications"]; // names of Chrome for others in the list

// Fills a menu, and keeps what was chosen where it is still there. Before a page may use devices,
// a browser tells neither their names nor how to ask for one of them.
export async function offerDevices(menu, kind) {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const usable = all.filter(
    ({ kind: one, deviceId: id }) => one === kind && id !== "" && !PSEUDO.includes(id),
  );
  const chosen = menu.value;
  menu.replaceChildren(
    new Option("the browser's own choice", ""),
    ...usable.map(
      ({ deviceId, label }, n) =>
        new Option(label || `${KINDS[kind]} ${n + 1}`, deviceId, false, deviceId === chosen),
    ),
  );
}

// What getUserMedia is asked for. id: of a menu; empty for the browser's own choice.
export function asked(id, wishes) {
  return id === "" ? wishes : { ...wishes, deviceId: { exact: id } };
}

// Why a device was not given, as a sentence with the cure. what: "microphone" or "camera".
export function deviceTrouble(error, what, instead) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return (
        `The ${what} is not allowed. Allow it for this page, in the browser and in the system's ` +
        `privacy settings, and start again; or ${instead}.`
      );
    case "NotFoundError":
      return `No ${what} was found. Plug one in, and start again; or ${instead}.`;
    case "OverconstrainedError":
      return `The chosen ${what} is not there any more. Plug it in, or choose another in the settings.`;
    default:
      return (
        `The ${what} cannot be used. Another program may hold it: close that, and start again; ` +
        `or ${instead}.`
      );
  }
}

export function release(stream) {
  for (const track of stream.getTracks()) track.stop();
}
