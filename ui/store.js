// @ts-check
// What every view shows: the environment that is looked at, its status, events and operations, and the connection. One object, changed only
// here, and read with `useStore`.
import { useEffect, useState } from "./html.js";
import { Refused, ask, events, pause, shown } from "./net.js";

/** @typedef {{project: string, instance: string}} Target */
/** @typedef {{name: string, kind: string, state: string, reason?: string, ready_after_ms?: number, restarts: number, optional?: boolean, container?: string, pid?: number, image?: string, ports: {container: number, host: number, address: string}[], urls: Record<string, string>, depends_on: Record<string, string>}} Service */
/** @typedef {{id: string, fault: string, service: string, parameters: any, injected_at: string, heals_at?: string, healed_at?: string, witness?: {observed: boolean, what: string, after_ms?: number}}} Fault */
/** @typedef {{environment: string, project: string, instance: string, profile?: string, phase: string, services: Service[], faults: Fault[], operations: any[]}} Status */
/** @typedef {{sequence: number, time: string, service?: string, kind: string, message: string, data: any}} Event */

export const store = {
  /** @type {Target | null} */ target: null,
  /** The environment of `devenv ui`. @type {Target | null} */ home: null,
  version: "",
  /** @type {Status | null} */ status: null,
  /** @type {Event[]} */ events: [],
  /** @type {Map<string, any>} */ operations: new Map(),
  /** @type {"connecting" | "live" | "lost" | "ended"} */ connection: "connecting",
  /** @type {{id: number, text: string, hint?: string, bad: boolean}[]} */ notices: [],
};

/** Events that are kept. */
const KEPT = 5000;
const listeners = new Set();
let scheduled = false;

/** Tells every view, at most once a frame. */
export function changed() {
  if (scheduled) return;
  scheduled = true;
  const tell = () => {
    scheduled = false;
    for (const listener of [...listeners]) listener();
  };
  // A page in the background has no frames.
  if (document.hidden) setTimeout(tell, 100);
  else requestAnimationFrame(tell);
}

/**
 * Renders again whenever the selected part is another.
 * @template T
 * @param {(state: typeof store) => T} select
 * @returns {T}
 */
export function useStore(select) {
  const [value, set] = useState(() => select(store));
  useEffect(() => {
    const listen = () => set(() => select(store));
    listen();
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  return value;
}

let numbered = 0;

/** @param {string} text @param {string} [hint] */
export function tell(text, hint) {
  notice(text, hint, false);
}

/** @param {unknown} error */
export function fail(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (error instanceof Refused) notice(error.message, error.hint, true);
  else notice("The daemon does not answer.", String(error), true);
}

/** @param {string} text @param {string | undefined} hint @param {boolean} bad */
function notice(text, hint, bad) {
  const id = ++numbered;
  store.notices = [...store.notices.slice(-3), { id, text, hint, bad }];
  changed();
  setTimeout(() => dismiss(id), bad ? 15000 : 5000);
}

/** @param {number} id */
export function dismiss(id) {
  store.notices = store.notices.filter((notice) => notice.id !== id);
  changed();
}

let following = new AbortController();

/** Asks what to show, and follows it for ever. */
export async function begin() {
  for (;;) {
    try {
      const about = await ask("/page");
      store.home = about.target;
      store.version = about.version;
      break;
    } catch (error) {
      lost(error);
      await pause(1000);
    }
  }
  if (!store.target) look(/** @type {Target} */ (store.home));
}

/** Shows another environment. @param {Target} target */
export function look(target) {
  if (store.target && same(store.target, target)) return;
  following.abort();
  following = new AbortController();
  Object.assign(store, { target, status: null, events: [], operations: new Map(), connection: "connecting" });
  changed();
  void follow(target, following.signal);
}

/** @param {Target} one @param {Target} other */
export const same = (one, other) => one.project === other.project && one.instance === other.instance;

/** @param {Target} target @param {AbortSignal} signal */
async function follow(target, signal) {
  let last = "";
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      const headers = last ? { "last-event-id": last } : undefined;
      for await (const messages of events("/live", target, { signal, headers })) {
        attempt = 0;
        store.connection = "live";
        const news = [];
        for (const { kind, id, data } of messages) {
          if (kind === "status") store.status = data;
          else if (kind === "operation") store.operations = new Map(store.operations).set(data.id, data);
          else if (kind === "reset") (store.events = []), news.splice(0);
          else if (kind === "event") {
            last = id;
            news.push(data);
          }
        }
        if (news.length) store.events = store.events.concat(news).slice(-KEPT);
        changed();
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!document.hidden) lost(error);
      if (store.connection === "ended") return;
    }
    if (document.hidden) {
      await shown(signal);
      continue;
    }
    if (!signal.aborted && store.connection === "live") lost(null);
    await pause(Math.min(300 * 2 ** Math.min(attempt, 3), 2000), signal);
  }
}

/** @param {unknown} error */
function lost(error) {
  store.connection = error instanceof Refused && error.code === "ended" ? "ended" : "lost";
  changed();
}

/**
 * The answer to a question, asked again when an input changes, or every so often.
 * @param {string} path
 * @param {object | null} body `null` asks nothing.
 * @param {readonly unknown[]} [inputs]
 * @param {number} [every] In milliseconds.
 * @returns {{value: any, error: any, loading: boolean, again: () => void}}
 */
export function useAnswer(path, body, inputs = [], every = 0) {
  const [state, set] = useState(/** @type {{value: any, error: any, loading: boolean}} */ ({ value: null, error: null, loading: true }));
  const [turn, again] = useState(0);
  const key = JSON.stringify(body);
  useEffect(() => {
    if (body === null) return void set({ value: null, error: null, loading: false });
    const stop = new AbortController();
    let timer = 0;
    const go = async () => {
      try {
        const value = await ask(path, body, stop.signal);
        if (!stop.signal.aborted) set({ value, error: null, loading: false });
      } catch (error) {
        if (!stop.signal.aborted) set((now) => ({ ...now, error, loading: false }));
      }
      if (every && !stop.signal.aborted) timer = window.setTimeout(go, document.hidden ? every * 4 : every);
    };
    set((now) => ({ ...now, loading: true }));
    void go();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [path, key, turn, ...inputs]);
  return { ...state, again: () => again((n) => n + 1) };
}
