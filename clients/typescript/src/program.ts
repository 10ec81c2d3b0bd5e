/** The `devenv` program: what needs a profile to be read, or a daemon to be started, is its work. */
import { spawn } from "node:child_process";
import { DevenvError } from "./errors.js";
import type { DaemonStatus, ErrorDocument } from "./types.js";

/** Milliseconds, added to the limit that devenv itself keeps. */
const GRACE = 60_000;

/** The document that a command prints with `--json`. Throws the error that it prints instead. */
export async function run<Answer>(words: string[], timeout: number): Promise<Answer> {
  const program = process.env["DEVENV_BIN"] || "devenv";
  const shown = `devenv ${words.join(" ")}`;
  const { code, stdout, stderr } = await output(program, [...words, "--json", "--quiet"], shown, timeout + GRACE);
  let document: unknown;
  try {
    document = JSON.parse(stdout);
  } catch {
    throw new DevenvError("unexpected", `\`${shown}\` failed: ${stderr.trim() || `exit code ${code}`}`);
  }
  if (code !== 0) {
    const { error } = document as Partial<ErrorDocument>;
    throw error ? DevenvError.of(error) : new DevenvError("failed", `\`${shown}\` failed: ${stderr.trim() || `exit code ${code}`}`);
  }
  return document as Answer;
}

/** Where the daemon listens. */
export async function socketPath(): Promise<string> {
  return (await run<DaemonStatus>(["daemon", "status"], 30_000)).socket;
}

function output(program: string, words: string[], shown: string, timeout: number): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr, late] = ["", "", false];
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, timeout);
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const what = error.code === "ENOENT" ? `devenv not found (tried \`${program}\`)` : `cannot run \`${program}\`: ${error.message}`;
      reject(new DevenvError("no-program", what, "set DEVENV_BIN to the program, or add it to PATH"));
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      if (late) reject(new DevenvError("timed-out", `\`${shown}\` did not end within ${timeout / 1000} s`));
      else resolve({ code, stdout, stderr });
    });
  });
}
