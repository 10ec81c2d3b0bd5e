// A private database for each test, from one environment that all test processes share. `../vitest` uses it too.
import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";

const devenv = process.env.DEVENV_BIN ?? "devenv";
const project = process.env.DEVENV_PROJECT ?? new URL("../project", import.meta.url).pathname;
const place = ["--project", project, "--instance", process.env.DEVENV_INSTANCE ?? "default"];

let isUp = process.env.DEVENV_INSTANCE !== undefined; // under `devenv test` it is up already

/** Brings the environment up, or finds it up: however many processes ask at once, the daemon does it once. */
export function up() {
  if (isUp) return;
  execFileSync(devenv, [...place, "up", "ci", "--quiet"], { stdio: ["ignore", "ignore", "inherit"] });
  isUp = true;
}

/** All variables, with values that are the caller's alone, until end() or the death of this process. */
export async function lease() {
  up();
  const holder = spawn(devenv, [...place, "lease", "--json"], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => holder.once("exit", resolve));
  const [line] = await Promise.race([
    new Promise((resolve) => createInterface(holder.stdout).once("line", (text) => resolve([text]))),
    ended.then((code) => Promise.reject(new Error(`devenv lease exited ${code}`))),
  ]);
  const granted = JSON.parse(line);
  if (granted.error) throw new Error(granted.error.message);
  return { ...granted, end: () => (holder.stdin.end(), ended) };
}
