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
    try {
      const text = await (await send(path, body, { signal })).text();
      const value = text ? JSON.parse(text) : null;
      if (value?.error) throw new Refused(value.error);
      return value;
    } catch (error) {
      // A browser gives up what is under way when an interface of the machine comes or goes, as those of containers do.
      if (!(error instanceof TypeError) || attempt > 1 || WRITES.test(path) || signal?.aborted) throw error;
      await pause(200, signal);
    }
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
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} options
 */
export async function* events(path, body, options) {
  let kind = "message", id = "", data = "";
  for await (const part of lines(path, body, options)) {
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
