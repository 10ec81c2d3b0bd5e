/** The one error of this package. */
import type { ApiError, ErrorCode, Problem } from "./types.js";

/** What can fail before the daemon answers, or without its own word for it. */
export type OwnCode = "no-program" | "no-daemon" | "foreign-socket" | "lost" | "unexpected" | "not-observed" | "no-service";

/** devenv refused or failed. */
export class DevenvError extends Error {
  override readonly name = "DevenvError";

  constructor(
    readonly code: ErrorCode | OwnCode,
    readonly reason: string,
    readonly hint?: string | null,
    readonly problems: Problem[] = [],
  ) {
    const places = problems.map((problem) => `${problem.file}:${problem.line}:${problem.column}: ${problem.message}`);
    super([hint ? `${reason} (${hint})` : reason, ...places].join("\n"));
  }

  /** From the `error` of an answer. */
  static of(error: ApiError): DevenvError {
    return new DevenvError(error.code, error.message, error.hint, error.problems ?? []);
  }
}
