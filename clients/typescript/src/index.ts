/**
 * Real services for tests: one devenv environment for all test processes, and a private part of it for each test.
 *
 * `devenv` is found by `DEVENV_BIN`, else in `PATH`. `devenv-testing/vitest` and `devenv-testing/jest` fit it to these runners.
 */
export { Api } from "./api.js";
export { Connection } from "./connection.js";
export { Environment, type Address, type FaultOptions, type Options } from "./environment.js";
export { DevenvError, type OwnCode } from "./errors.js";
export { Lease, PrivateDatabase, PrivateRedis, PrivateTopics, PrivateVirtualHost } from "./leases.js";
export { Scope } from "./scope.js";
export type * from "./types.js";
