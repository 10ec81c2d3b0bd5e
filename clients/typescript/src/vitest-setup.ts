/** A global setup for Vitest: `devenv-testing/vitest/setup`. It runs where Vitest lets nobody import `vitest` itself. */
import { start, stop, type SetupOptions } from "./setup.js";

export type { SetupOptions } from "./setup.js";

/** The default export of the file that `test.globalSetup` names. */
export function globalSetup(options: SetupOptions | string = {}): () => Promise<() => Promise<void>> {
  return async () => {
    await start(options);
    return stop;
  };
}
