/** The environment that tests share: found or started once for each process, used by all. */
import { Api } from "./api.js";
import { Connection } from "./connection.js";
import { DevenvError } from "./errors.js";
import { Lease, PrivateDatabase, PrivateRedis, PrivateTopics, PrivateVirtualHost, lease } from "./leases.js";
import { run, socketPath } from "./program.js";
import type { EnvironmentTarget, Fault, Service, Status } from "./types.js";

/** Milliseconds for `up`, in which images may be pulled. */
const UP_TIMEOUT = 600_000;
const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** Set by a global setup, for the processes that the runner starts after it. */
const VARIABLE = "DEVENV_TESTING";

export interface Options {
  /** Default: the one that the environment runs, else `default`. */
  profile?: string;
  /** The directory that holds `profiles/`. Default: found from the current one upwards. */
  project?: string;
  /** Default: `default`. */
  instance?: string;
  /** Milliseconds for `up`. Default: ten minutes. */
  timeout?: number;
}

export interface FaultOptions {
  /** As `300ms`, `30s`, `5m`, or milliseconds. Default: the fault's own. The fault heals then, also if this process is killed. */
  for?: string | number;
  /** As `--set` takes them: `{ delay: "80ms" }`. */
  set?: Record<string, string | number | boolean>;
}

/** Where a service listens on this machine. */
export interface Address {
  host: string;
  port: number;
}

interface Place {
  socket: string;
  target: EnvironmentTarget;
  /** It belongs to the `devenv test` that this process runs under. */
  given: boolean;
}

const known = new Map<string, Promise<Environment>>();

/** One environment that is up. */
export class Environment {
  /** Every route of the daemon, typed. */
  readonly api: Api;
  readonly target: EnvironmentTarget;
  private readonly connection: Connection;

  private constructor(private readonly place: Place) {
    this.connection = new Connection(place.socket);
    this.api = new Api(this.connection);
    this.target = place.target;
  }

  /**
   * The environment of that profile: the one that the global setup has started, under `devenv test` the one that the command
   * runs in, else the project's own, started if it is not up. Several processes that ask at once share one start.
   */
  static shared(options: Options | string = {}): Promise<Environment> {
    const wanted = typeof options === "string" ? { profile: options } : options;
    const key = JSON.stringify([wanted, process.env[VARIABLE], process.env["DEVENV_PROJECT"], process.env["DEVENV_INSTANCE"], process.cwd()]);
    let found = known.get(key);
    if (!found) {
      found = find(wanted).then((place) => new Environment(place));
      known.set(key, found);
      // The next caller tries again.
      found.catch(() => known.delete(key));
    }
    return found;
  }

  /** For the processes that a test runner starts after this: `Environment.shared()` there is this environment. */
  share(): void {
    process.env[VARIABLE] = JSON.stringify(this.place);
  }

  status(): Promise<Status> {
    return this.api.environmentStatus(this.target);
  }

  /** What `devenv env` prints: the variables of the shared services, or those that one service gets. */
  async variables(service?: string): Promise<Record<string, string>> {
    const { variables } = await this.api.environmentVariables({ target: this.target, for: "host", service: service ?? null });
    return Object.fromEntries(Object.entries(variables).map(([name, variable]) => [name, variable.value]));
  }

  /** Where the service listens: its first port, or the one that is `containerPort` in its container. */
  async address(service: string, containerPort?: number): Promise<Address> {
    const { services } = await this.status();
    const found = services.find(({ name }) => name === service);
    if (!found) throw new DevenvError("not-found", `there is no service \`${service}\``, `there are ${services.map(({ name }) => name).join(", ")}`);
    const port = found.ports.find(({ container }) => containerPort === undefined || container === containerPort);
    if (!port) throw new DevenvError("not-found", `the service \`${service}\` publishes no port${containerPort === undefined ? "" : ` ${containerPort}`}`);
    return { host: port.address, port: port.host };
  }

  /** Resolved when these services (all, unless said) are ready. */
  async wait(services: string[] = [], timeout = 60_000): Promise<void> {
    for await (const message of this.api.environmentWait({ target: this.target, services, timeout_ms: timeout })) {
      if ("failed" in message) throw DevenvError.of(message.failed);
    }
  }

  /** Private parts of these services, or of all that support it. */
  lease(services: string[] = [], database?: string): Promise<Lease> {
    return lease(this.connection, { target: this.target, services, database: database ?? null }, Lease);
  }

  /** A copy of a database as it was seeded: the one of that name, or the first of the first PostgreSQL service. */
  postgres(database?: string): Promise<PrivateDatabase> {
    return this.private(PrivateDatabase, ["postgres"], database);
  }

  /** As `postgres`, of MariaDB. */
  mariadb(database?: string): Promise<PrivateDatabase> {
    return this.private(PrivateDatabase, ["mariadb"], database);
  }

  /** An empty numbered database of the first Redis service. */
  redis(): Promise<PrivateRedis> {
    return this.private(PrivateRedis, ["redis"]);
  }

  /** A private prefix on the first Kafka or Redpanda service. */
  kafka(): Promise<PrivateTopics> {
    return this.private(PrivateTopics, ["kafka", "redpanda"]);
  }

  /** A private virtual host on the first RabbitMQ service. */
  rabbitmq(): Promise<PrivateVirtualHost> {
    return this.private(PrivateVirtualHost, ["rabbitmq"]);
  }

  /** Injects a fault, and throws unless its effect was observed. Everyone who shares the environment meets it. */
  async inject(fault: string, service: string, options: FaultOptions = {}): Promise<Fault> {
    const parameters = Object.fromEntries(Object.entries(options.set ?? {}).map(([name, value]) => [name, String(value)]));
    const for_ms = options.for === undefined ? null : milliseconds(options.for);
    const injected = await this.api.environmentChaosInject({ target: this.target, fault, service, for_ms, parameters });
    if (injected.witness?.observed) return injected;
    await this.heal(injected.id);
    const detail = injected.witness ? `: ${injected.witness.what}` : "";
    throw new DevenvError("not-observed", `the fault \`${fault}\` of \`${service}\` had no effect that devenv observed${detail}`);
  }

  /** Undoes these faults, or all, and returns those that it undid. */
  async heal(...ids: string[]): Promise<Fault[]> {
    return (await this.api.environmentChaosHeal({ target: this.target, ids })).faults;
  }

  /** Those that are not healed. */
  async faults(): Promise<Fault[]> {
    return (await this.api.environmentChaosStatus({ target: this.target })).faults;
  }

  /** `inject`, then the body, then heals. */
  async withFault<Result>(fault: string, service: string, options: FaultOptions, body: (fault: Fault) => Result | Promise<Result>): Promise<Result> {
    const injected = await this.inject(fault, service, options);
    try {
      return await body(injected);
    } finally {
      if ((await this.faults()).some(({ id }) => id === injected.id)) await this.heal(injected.id);
    }
  }

  /**
   * Stops the environment for everyone who shares it; its volumes stay in the trash for a day. Nothing happens under
   * `devenv test`, whose environment it is. Without this it stays up, for the next run to find.
   */
  async close(): Promise<void> {
    known.clear();
    delete process.env[VARIABLE];
    if (this.place.given) return;
    const request = { down: { target: this.target, volumes: true } };
    for await (const message of this.api.operationsSubmit({ request, asked_by: { command: "devenv-testing (Node)", pid: process.pid } })) {
      if ("failed" in message) throw DevenvError.of(message.failed.error);
      if ("done" in message) return;
    }
    throw new DevenvError("lost", "the daemon stopped before it answered");
  }

  private async private<Kind extends Lease>(Kind: new (...parts: ConstructorParameters<typeof Lease>) => Kind, kinds: string[], database?: string): Promise<Kind> {
    const services = (await this.status()).services.filter(({ kind }: Service) => kinds.includes(kind)).map(({ name }) => name);
    if (!services.length) throw new DevenvError("no-service", `the environment has no ${kinds[0]} service`, "add one to the profile");
    // With a database's name, the daemon finds the server that has it.
    const request = { target: this.target, services: database === undefined ? services.slice(0, 1) : services, database: database ?? null };
    return lease(this.connection, request, Kind);
  }
}

async function find({ profile, project, instance, timeout = UP_TIMEOUT }: Options): Promise<Place> {
  const unnamed = project === undefined && instance === undefined;
  const shared = process.env[VARIABLE];
  if (unnamed && shared) return JSON.parse(shared) as Place;
  const [givenProject, givenInstance] = [process.env["DEVENV_PROJECT"], process.env["DEVENV_INSTANCE"]];
  if (unnamed && givenProject && givenInstance) {
    return { socket: await socketPath(), target: { project: givenProject, instance: givenInstance }, given: true };
  }
  const words = ["up", ...(profile ? [profile] : []), "--timeout", `${Math.max(1, Math.round(timeout / 1000))}s`];
  if (project) words.push("--project", project);
  if (instance) words.push("--instance", instance);
  const status = await run<Status>(words, timeout);
  return { socket: await socketPath(), target: { project: status.project, instance: status.instance }, given: false };
}

/** Of what the command line takes (`300ms`, `30s`, `5m`, `24h`), or of milliseconds. */
export function milliseconds(duration: string | number): number {
  if (typeof duration === "number") return Math.round(duration);
  const match = /^(\d+)(ms|s|m|h)$/.exec(duration);
  const unit = UNITS[match?.[2] ?? ""];
  if (!match || !unit) throw new TypeError(`${JSON.stringify(duration)} is no duration: write 300ms, 30s, 5m or 24h`);
  return Number(match[1]) * unit;
}
