/** A global setup and a fixture for Vitest. Each test has leases of its own, also with `test.concurrent`. */
import { test as base } from "vitest";
import { Environment } from "./environment.js";
import { Scope } from "./scope.js";
import { start, stop, type SetupOptions } from "./setup.js";

export type { SetupOptions } from "./setup.js";
export * from "./index.js";

/** The default export of the file that `test.globalSetup` names. */
export function globalSetup(options: SetupOptions | string = {}): () => Promise<() => Promise<void>> {
  return async () => {
    await start(options);
    return stop;
  };
}

/** Vitest's `test` with the fixture `devenv`: what a test asks of it ends with the test. */
export const test = base.extend<{ devenv: Scope }>({
  // Vitest reads the names of fixtures from the first parameter.
  devenv: async ({}, use) => {
    const scope = new Scope(() => Environment.shared());
    try {
      await use(scope);
    } finally {
      await scope.end();
    }
  },
});
