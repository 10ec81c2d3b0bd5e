// @ts-check
// Requests to the daemon: answers, streams of lines, and server-sent events. Every request is a POST with JSON.

/** What the daemon refused, in its own words. */
export class Refused extends Error {
  /** @param {{message: string, hint?: string, code?: string}} error */
  constructor(error) {
    super(error.message);
    this.hint = error.hint;
    this.code = error.code;
  }
}

/** Milliseconds in which a question is answered. The slowest one is about the sizes of all volumes. */
const ANSWERED = 45_000;
/** Milliseconds between two parts of a stream: the daemon sends a sign of life every ten seconds. */
const QUIET = 30_000;
/** Milliseconds for which a page out of sight keeps its streams: a browser has six connections for all pages of this address. */
const OUT_OF_SIGHT = 10_000;

/** What is not asked twice. */
const WRITES = /submit|cancel|inject|heal|produce|ledger\/|query|chaos\/(run|end)$/;

/**
 * @param {string} path
 * @param {unknown} body
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} options
 */
async function send(path, body, { signal, headers } = {}) {
  const answer = await fetch("/api" + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body ?? {}),
    signal,
  });
  if (answer.status === 403) throw new Refused({ code: "ended", message: "This page's session has ended.", hint: "Run `devenv ui` for a new address." });
  if (!answer.ok) throw new Refused({ message: `The daemon answered with status ${answer.status}.` });
  return answer;
}

/**
 * One question, one answer.
 * @param {string} path
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function ask(path, body, signal) {
  for (let attempt = 0; ; attempt++) {
    const limit = limited(signal);
    // What changes something takes the time that it takes.
    const timer = WRITES.test(path) ? 0 : setTimeout(() => limit.abort(), ANSWERED);
    try {
      const text = await (await send(path, body, { signal: limit.signal })).text();
      const value = text ? JSON.parse(text) : null;
      if (value?.error) throw new Refused(value.error);
      return value;
    } catch (error) {
      if (limit.signal.aborted && !signal?.aborted) throw new Refused({ message: `The daemon has not answered within ${ANSWERED / 1000} s.` });
      // A browser gives up what is under way when an interface of the machine comes or goes, as those of containers do.
      if (!(error instanceof TypeError) || attempt > 1 || WRITES.test(path) || signal?.aborted) throw error;
      await pause(200, signal);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Aborts with another. @param {AbortSignal} [signal] */
function limited(signal) {
  const own = new AbortController();
  if (signal?.aborted) own.abort();
  signal?.addEventListener("abort", () => own.abort(), { once: true, signal: own.signal });
  return own;
}

/** Returns when the page is in sight. @param {AbortSignal} signal */
export function shown(signal) {
  return new Promise((resolve) => {
    if (!document.hidden || signal.aborted) return resolve(undefined);
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve(undefined);
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}

/**
 * The lines of a stream that goes on for ever: it ends if the daemon gives no sign of life, or while the page is out of sight.
 * @param {string} path
 * @param {unknown} body
 * @param {{signal: AbortSignal, headers?: Record<string, string>}} options
 * @returns {AsyncGenerator<string[]>}
 */
export async function* endless(path, body, { signal, headers }) {
  const own = limited(signal);
  let heard = Date.now(), hidden = 0;
  const watch = setInterval(() => {
    hidden = document.hidden ? hidden || Date.now() : 0;
    if (Date.now() - heard > QUIET || (hidden && Date.now() - hidden > OUT_OF_SIGHT)) own.abort();
  }, 1000);
  try {
    for await (const part of lines(path, body, { signal: own.signal, headers })) {
      heard = Date.now();
      yield part;
    }
  } finally {
    clearInterval(watch);
    own.abort();
  }
}

/**
 * The lines of a long answer, in the pieces in which they arrive.
 * @param {string} path
 * @param {unknown} body
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} options
 * @returns {AsyncGenerator<string[]>}
 */
export async function* lines(path, body, options) {
  const answer = await send(path, body, options);
  if (answer.headers.get("content-type")?.startsWith("application/json")) {
    const value = await answer.json();
    throw new Refused(value.error ?? { message: "The daemon gave an answer that is no stream." });
  }
  if (!answer.body) return;
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    if (parts.length) yield parts;
  }
}

/**
 * Server-sent events: `{kind, id, data}`.
 * @param {string} path
 * @param {unknown} body
 * @param {{signal: AbortSignal, headers?: Record<string, string>}} options
 */
export async function* events(path, body, options) {
  let kind = "message", id = "", data = "";
  for await (const part of endless(path, body, options)) {
    const whole = [];
    for (const line of part) {
      if (line === "") {
        if (data) whole.push({ kind, id, data: JSON.parse(data) });
        kind = "message";
        id = data = "";
      } else if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (whole.length) yield whole;
  }
}

/**
 * Submits an operation, and waits for its end.
 * @param {string} kind
 * @param {object} request
 * @param {(message: string) => void} [progress]
 */
export async function operate(kind, request, progress) {
  const body = { request: { [kind]: request } };
  for await (const part of lines("/v1/operations/submit", body, {})) {
    for (const line of part) {
      if (!line) continue;
      const message = JSON.parse(line);
      if (message.failed) throw new Refused(message.failed.error);
      if (message.done) return message.done.result;
      if (message.progress) progress?.(message.progress.message);
    }
  }
  throw new Refused({ message: "The daemon stopped before the operation ended.", hint: "Operations show how it ended." });
}

/** @param {number} ms @param {AbortSignal} [signal] */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve(undefined)), { once: true });
  });
}
