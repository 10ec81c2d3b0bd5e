/** HTTP over the daemon's Unix socket. It never starts a daemon and never retries. */
import { lstatSync, statSync } from "node:fs";
import http from "node:http";
import type { Socket } from "node:net";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { DevenvError } from "./errors.js";
import type { ErrorDocument } from "./types.js";

/** Milliseconds without a byte. Long operations report progress, and the daemon limits each of its own steps. */
const TIMEOUT = 600_000;

/** Talks to the daemon at one socket. Every request has a connection of its own. */
export class Connection {
  constructor(
    readonly path: string,
    readonly timeout: number = TIMEOUT,
  ) {}

  /** One document for another. */
  async call<Answer>(method: string, path: string, request?: unknown): Promise<Answer> {
    const response = await this.ask(method, path, request);
    return decoded<Answer>(await text(response));
  }

  /** One document a line. Leaving the loop closes the connection. */
  async *lines<Answer>(method: string, path: string, request?: unknown): AsyncIterable<Answer> {
    const response = await this.ask(method, path, request);
    let failure: Error | undefined;
    response.on("error", (error) => (failure = error));
    try {
      for await (const line of createInterface({ input: response, crlfDelay: Infinity })) {
        yield decoded<Answer>(line);
      }
      if (failure || !response.complete) throw lost(failure);
    } finally {
      response.destroy();
    }
  }

  /** A connection that speaks another protocol from here on, and what of it has been received. */
  upgrade(path: string, protocol: string, request: unknown): Promise<{ socket: Socket; received: Buffer }> {
    return new Promise((resolve, reject) => {
      const asked = this.request("POST", path, request, { connection: "upgrade", upgrade: protocol }, reject);
      asked?.on("upgrade", (_response, socket, received) => {
        socket.setTimeout(0);
        resolve({ socket: socket as Socket, received });
      });
      asked?.on("response", (response) => refusal(response).then(reject, reject));
    });
  }

  private ask(method: string, path: string, request: unknown): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const asked = this.request(method, path, request, {}, reject);
      asked?.on("response", (response) => {
        if ((response.statusCode ?? 0) < 400) resolve(response);
        else refusal(response).then(reject, reject);
      });
    });
  }

  private request(method: string, path: string, request: unknown, headers: Record<string, string>, reject: (error: Error) => void) {
    try {
      checkPlace(this.path);
    } catch (error) {
      reject(error as Error);
      return undefined;
    }
    const body = request === undefined ? undefined : JSON.stringify(request);
    const about: http.OutgoingHttpHeaders = { host: "devenv", ...headers };
    if (body !== undefined) Object.assign(about, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    // No agent: what it would keep open keeps a test runner from ending.
    const asked = http.request({ socketPath: this.path, method, path, headers: about, agent: false });
    asked.setTimeout(this.timeout, () => {
      asked.destroy(new DevenvError("timed-out", "the daemon did not answer in time", "`devenv operations` shows what it does"));
    });
    asked.on("error", (error: NodeJS.ErrnoException) => {
      if (error instanceof DevenvError) reject(error);
      else if (error.code === "ENOENT" || error.code === "ECONNREFUSED") reject(noDaemon(this.path));
      else reject(lost(error));
    });
    asked.end(body);
    return asked;
  }
}

/** Sends nothing to a socket that another user could own: the runtime directory is often below /tmp. */
function checkPlace(path: string): void {
  const directory = dirname(path);
  const user = process.geteuid?.();
  for (const place of [directory, path]) {
    const link = lstatSync(place, { throwIfNoEntry: false });
    const found = statSync(place, { throwIfNoEntry: false });
    if (!link || !found) throw noDaemon(path);
    if (link.uid !== user || found.uid !== user) {
      throw new DevenvError("foreign-socket", `${place} belongs to another user (user id ${found.uid}): it is not used`);
    }
    if (place === directory && found.mode & 0o022) {
      throw new DevenvError("foreign-socket", `${place} is writable by other users (mode ${(found.mode & 0o7777).toString(8)}): it is not used`);
    }
  }
}

async function text(response: http.IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  try {
    for await (const part of response) parts.push(part as Buffer);
  } catch (error) {
    throw lost(error as Error);
  }
  return Buffer.concat(parts).toString("utf8");
}

async function refusal(response: http.IncomingMessage): Promise<DevenvError> {
  const body = await text(response);
  try {
    const { error } = JSON.parse(body) as ErrorDocument;
    if (typeof error.message === "string") return DevenvError.of(error);
  } catch {
    // Not the daemon's own answer.
  }
  return new DevenvError("unexpected", `the daemon answered with status ${response.statusCode}: ${body.slice(0, 200)}`);
}

export function decoded<Answer>(line: string): Answer {
  try {
    return JSON.parse(line) as Answer;
  } catch {
    throw new DevenvError("unexpected", `cannot decode the daemon's answer: ${line.slice(0, 200)}`);
  }
}

function noDaemon(path: string): DevenvError {
  return new DevenvError("no-daemon", `no daemon answers at ${path}`, "`devenv up` starts one");
}

export function lost(cause?: Error): DevenvError {
  if (cause instanceof DevenvError) return cause;
  const error = new DevenvError("lost", "the daemon stopped before it answered", "`devenv daemon status` checks it");
  if (cause) Object.assign(error, { cause });
  return error;
}
