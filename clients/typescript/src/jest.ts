/** Global setup and teardown, and a helper for the tests of a file, for Jest. */
import { Environment, type Options } from "./environment.js";
import { Scope } from "./scope.js";
import { start, stop, type SetupOptions } from "./setup.js";

export type { SetupOptions } from "./setup.js";
export * from "./index.js";

/** The default export of the file that `globalSetup` names. */
export function globalSetup(options: SetupOptions | string = {}): () => Promise<void> {
  return async () => {
    await start(options);
  };
}

/** The default export of the file that `globalTeardown` names. Needed only with `close: true`. */
export function globalTeardown(): Promise<void> {
  return stop();
}

/**
 * Call it once in a file or a `describe`, outside of the tests: what a test asks of the result ends after that test. Tests of
 * `test.concurrent` make a `Scope` of their own, since Jest runs `afterEach` for all of them together.
 */
export function useDevenv(options: Options = {}): Scope {
  const scope = new Scope(() => Environment.shared(options));
  const { afterEach } = globalThis as unknown as { afterEach?: (body: () => Promise<void>) => void };
  if (!afterEach) throw new TypeError("useDevenv() is for files of tests: there is no global afterEach");
  afterEach(() => scope.end());
  return scope;
}
