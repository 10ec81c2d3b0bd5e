/** What the global setups of Vitest and Jest have in common. */
import { Environment, type Options } from "./environment.js";

export interface SetupOptions extends Options {
  /** Stop the environment when the run is over. Default: it stays up for the next run. */
  close?: boolean;
}

let closing: Environment | undefined;

/** Starts the environment before any worker, and tells them which it is. */
export async function start(options: SetupOptions | string): Promise<Environment> {
  const { close = false, ...wanted } = typeof options === "string" ? { profile: options } : options;
  const environment = await Environment.shared(wanted);
  environment.share();
  closing = close ? environment : undefined;
  return environment;
}

/** The end of the run. */
export async function stop(): Promise<void> {
  const environment = closing;
  closing = undefined;
  await environment?.close();
}
