/** What belongs to one test: everything that is asked of a scope ends with it. */
import { Environment, type Address, type FaultOptions } from "./environment.js";
import type { Lease, PrivateDatabase, PrivateRedis, PrivateTopics, PrivateVirtualHost } from "./leases.js";
import type { Fault } from "./types.js";

export class Scope {
  private ends: (() => Promise<unknown>)[] = [];

  /** The environment is asked for at first use. */
  constructor(readonly environment: () => Promise<Environment>) {}

  lease = (services?: string[], database?: string): Promise<Lease> => this.leased((environment) => environment.lease(services, database));
  postgres = (database?: string): Promise<PrivateDatabase> => this.leased((environment) => environment.postgres(database));
  mariadb = (database?: string): Promise<PrivateDatabase> => this.leased((environment) => environment.mariadb(database));
  redis = (): Promise<PrivateRedis> => this.leased((environment) => environment.redis());
  kafka = (): Promise<PrivateTopics> => this.leased((environment) => environment.kafka());
  rabbitmq = (): Promise<PrivateVirtualHost> => this.leased((environment) => environment.rabbitmq());

  /** Injects a fault, which heals with the scope. */
  inject = async (fault: string, service: string, options?: FaultOptions): Promise<Fault> => {
    const environment = await this.environment();
    const injected = await environment.inject(fault, service, options);
    this.ends.push(async () => {
      if ((await environment.faults()).some(({ id }) => id === injected.id)) await environment.heal(injected.id);
    });
    return injected;
  };

  variables = async (service?: string): Promise<Record<string, string>> => (await this.environment()).variables(service);
  address = async (service: string, containerPort?: number): Promise<Address> => (await this.environment()).address(service, containerPort);

  /** Ends all, the last first. Tries each, and throws the first failure. */
  end = async (): Promise<void> => {
    const ends = this.ends.reverse();
    this.ends = [];
    const failures: unknown[] = [];
    for (const end of ends) await end().catch((error: unknown) => failures.push(error));
    if (failures.length) throw failures[0];
  };

  private async leased<Kind extends Lease>(ask: (environment: Environment) => Promise<Kind>): Promise<Kind> {
    const lease = await ask(await this.environment());
    this.ends.push(() => lease.release());
    return lease;
  }
}
