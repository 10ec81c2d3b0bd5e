/** Leases: private parts of services. The connection is the claim, and the kernel closes it however this process ends. */
import type { Socket } from "node:net";
import { decoded, lost, type Connection } from "./connection.js";
import { DevenvError } from "./errors.js";
import type { LeaseCommand, LeaseMessage, LeaseRequest, Lease as Granted } from "./types.js";

/** Private parts of services, until it is released or this process ends. */
export class Lease {
  readonly id: string;
  /** The services that it is of. */
  readonly services: string[];
  /** The name of the private database, if it has one. */
  readonly database: string | undefined;
  /**
   * All variables of the environment, with the values of the private parts: for a program that the test starts. devenv
   * ends programs that have them and still run when the lease ends.
   */
  readonly variables: Record<string, string>;
  private released: Promise<void> | undefined;

  /** Use the methods of `Environment`. */
  constructor(
    granted: Granted,
    private readonly line: Line,
  ) {
    this.id = granted.id;
    this.services = granted.services;
    this.database = granted.database ?? undefined;
    this.variables = granted.variables;
  }

  /** `SERVICE_SUFFIX` of the (first) service. */
  variable(suffix: string): string {
    const name = `${(this.services[0] ?? "").toUpperCase().replaceAll("-", "_")}_${suffix}`;
    const value = this.variables[name];
    if (value === undefined) throw new DevenvError("unexpected", `the lease of \`${this.services[0]}\` has no variable \`${name}\``);
    return value;
  }

  /** Ends the lease; resolved when all of it is removed. Released twice, it does nothing. */
  release(): Promise<void> {
    return (this.released ??= this.line.release());
  }
}

/** A copy of a PostgreSQL or MariaDB database as it was initialised and seeded. */
export class PrivateDatabase extends Lease {
  get url(): string {
    return this.variable("URL");
  }

  get name(): string {
    return this.database ?? nameIn(this.url);
  }
}

/** An empty numbered database of Redis, with a user that can select no other. */
export class PrivateRedis extends Lease {
  get url(): string {
    return this.variable("URL");
  }
}

/** Private names on Kafka or Redpanda. Topics are made at their first use, and removed with the lease. */
export class PrivateTopics extends Lease {
  get brokers(): string {
    return this.variable("BROKERS");
  }

  topic(name: string): string {
    return this.variable("TOPIC_PREFIX") + name;
  }

  group(name: string): string {
    return this.variable("GROUP_PREFIX") + name;
  }
}

/** A virtual host of RabbitMQ with a user of its own: the exchanges, queues and bindings of the first one, no messages. */
export class PrivateVirtualHost extends Lease {
  get url(): string {
    return this.variable("URL");
  }

  get name(): string {
    return nameIn(this.url);
  }
}

/** Asks for a lease, and resolves when its parts exist. */
export async function lease<Kind extends Lease>(connection: Connection, request: LeaseRequest, Kind: new (granted: Granted, line: Line) => Kind): Promise<Kind> {
  const { socket, received } = await connection.upgrade("/v1/environment/lease", "devenv-lease", request);
  const line = new Line(socket, received);
  try {
    const message = await line.next();
    if (typeof message === "string" || !("granted" in message)) throw answered(message);
    line.idle();
    return new Kind(message.granted, line);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** The connection of a lease: one message a line. */
export class Line {
  private text = "";
  private ended: DevenvError | undefined;
  private waiting: (() => void) | undefined;

  constructor(
    private readonly socket: Socket,
    received: Buffer,
  ) {
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.changed(() => (this.text += text)));
    socket.on("error", (error) => this.changed(() => (this.ended ??= lost(error))));
    socket.on("close", () => this.changed(() => (this.ended ??= lost())));
    if (received.length) socket.unshift(received);
    socket.resume();
  }

  async next(): Promise<LeaseMessage> {
    for (;;) {
      const end = this.text.indexOf("\n");
      if (end >= 0) {
        const line = this.text.slice(0, end);
        this.text = this.text.slice(end + 1);
        return decoded<LeaseMessage>(line);
      }
      if (this.ended) throw this.ended;
      await new Promise<void>((resolve) => (this.waiting = resolve));
    }
  }

  /** A test runner may end with leases held: the connection ends with it. */
  idle(): void {
    this.socket.unref();
  }

  async release(): Promise<void> {
    this.socket.ref();
    try {
      const command: LeaseCommand = "release";
      this.socket.write(`${JSON.stringify(command)}\n`);
      const message = await this.next();
      if (message !== "over") throw answered(message);
    } finally {
      this.socket.destroy();
    }
  }

  private changed(change: () => void): void {
    change();
    this.waiting?.();
    this.waiting = undefined;
  }
}

function answered(message: LeaseMessage): DevenvError {
  if (typeof message === "object" && "failed" in message) return DevenvError.of(message.failed);
  return new DevenvError("unexpected", `unexpected message of the daemon: ${JSON.stringify(message).slice(0, 200)}`);
}

function nameIn(url: string): string {
  return decodeURIComponent(new URL(url).pathname.slice(1));
}
