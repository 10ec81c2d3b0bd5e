// @ts-check
// The log lines that this page keeps: the newest of all services, followed while the page is open.
import { plain } from "./ansi.js";
import { endless, pause, shown } from "./net.js";
import { store } from "./store.js";

/** @typedef {{number: number, time: string, service: string, stream: string, text: string, run: number, plain: string, level: string, skipped?: number}} Line */

/** Lines that are kept; the oldest fifth goes when there are more. */
const KEPT = 50_000;
const HISTORY = 5000;

/** @type {Line[]} */
export let lines = [];
let owner = "";
let numbered = 0;
let stop = new AbortController();
/** @type {Set<(added: Line[], removed: number) => void>} */
const listeners = new Set();

/** @param {(added: Line[], removed: number) => void} listener */
export function onLines(listener) {
  listeners.add(listener);
  begin();
  return () => void listeners.delete(listener);
}

export function clear() {
  const removed = lines.length;
  lines = [];
  for (const listener of listeners) listener([], removed);
}

/** Follows the environment that is looked at; goes on for ever. */
export function begin() {
  const target = store.target;
  const key = JSON.stringify(target);
  if (!target || owner === key) return;
  stop.abort();
  stop = new AbortController();
  owner = key;
  clear();
  void follow(target, stop.signal);
}

/** @param {{project: string, instance: string}} target @param {AbortSignal} signal */
async function follow(target, signal) {
  let last = "";
  /** Lines of the last moment, which a new stream repeats. @type {Set<string>} */
  let latest = new Set();
  while (!signal.aborted) {
    try {
      const body = last ? { target, since: last } : { target, tail: HISTORY };
      for await (const part of endless("/logs", body, { signal })) {
        const added = [];
        for (const text of part) {
          if (!text) continue;
          const line = JSON.parse(text);
          if (line.skipped) {
            added.push({ number: ++numbered, time: last, service: "", stream: "", text: "", run: 0, plain: `${line.skipped} lines left out: they came faster than this page reads`, level: "", skipped: line.skipped });
            continue;
          }
          const same = line.service + "\n" + line.text;
          if (line.time < last || (line.time === last && latest.has(same))) {
            if (latest.has(same)) continue;
          }
          if (line.time !== last) latest = new Set();
          last = line.time > last ? line.time : last;
          latest.add(same);
          const shown = plain(line.text);
          added.push({ number: ++numbered, ...line, plain: shown, level: levelOf(shown) });
        }
        if (added.length) take(added);
      }
    } catch {
      if (signal.aborted) return;
    }
    await shown(signal);
    await pause(700, signal);
  }
}

/** @param {Line[]} added */
function take(added) {
  let removed = 0;
  lines.push(...added);
  if (lines.length > KEPT) {
    removed = lines.length - Math.floor(KEPT * 0.8);
    lines = lines.slice(removed);
  }
  for (const listener of listeners) listener(added, removed);
}

const LEVEL = /\b(FATAL|PANIC|CRITICAL|ERROR|ERR|SEVERE|WARNING|WARN|INFO|NOTICE|LOG|DEBUG|TRACE)\b/i;
const RANK = { fatal: "error", panic: "error", critical: "error", error: "error", err: "error", severe: "error", warning: "warn", warn: "warn", debug: "debug", trace: "debug" };

/** `error`, `warn`, `info`, `debug`, or nothing. @param {string} text */
export function levelOf(text) {
  const found = LEVEL.exec(text.length > 300 ? text.slice(0, 300) : text);
  return found ? (RANK[found[1].toLowerCase()] ?? "info") : "";
}

/** A line that is a JSON object, as one. @param {string} text @returns {Record<string, any> | null} */
export function folded(text) {
  if (!text.startsWith("{") || !text.endsWith("}")) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The ids of traces in a line. @param {string} text @returns {string[]} */
export function traceIds(text) {
  return [...new Set(text.match(/\b[0-9a-f]{32}\b/gi) ?? [])].map((id) => id.toLowerCase());
}
