// Why a connection could not be opened. A browser tells a page nothing of it; a request over HTTP
// to the same server does.

const TIMEOUT_MS = 5000;

/**
 * A code and a sentence.
 * @param {URL} url of the stream
 */
export async function diagnose(url) {
  const ready = new URL(url);
  ready.protocol = url.protocol === "wss:" ? "https:" : "http:";
  ready.pathname = url.pathname.replace(/(v1\/stream\/?)?$/, "readyz");
  const page = globalThis.location?.origin; // none in Node
  const foreign = page !== undefined && page !== ready.origin;
  let answer;
  try {
    answer = await fetch(ready, {
      mode: foreign ? "no-cors" : "cors",
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    return {
      code: "unreachable",
      message: `No server answers at ${url.host}. Is it running, and is this its address?`,
    };
  }
  if (foreign) {
    return {
      code: "origin_forbidden",
      message:
        `A server answers at ${url.host}, and gives this page (origin ${page}) no stream. Allow the ` +
        `origin at the server, EMOTRACE_ORIGINS='["${page}"]', or give another address.`,
    };
  }
  if (answer.status === 503) {
    const { reason } = await answer.json().catch(() => ({ reason: "It is starting or full." }));
    return {
      code: "not_ready",
      message: `The server at ${url.host} takes no session now. ${reason} Try again in a moment.`,
    };
  }
  return {
    code: "refused",
    message:
      `A server answers at ${url.host}, and has no stream for this client at ${url.pathname}. The ` +
      "path is usually /v1/stream.",
  };
}
