/** A fixture for Vitest: `devenv-testing/vitest`, for files of tests. Each test has leases of its own, also with `test.concurrent`. */
import { test as base } from "vitest";
import { Environment } from "./environment.js";
import { Scope } from "./scope.js";

export * from "./index.js";

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
