// @ts-check
// What the servers of the environment hold, asked of every service that runs.
import { useEffect, useState } from "./html.js";
import { Refused, ask } from "./net.js";
import { store, useStore } from "./store.js";

/** @typedef {{name: string, kind: string, rows?: number, bytes?: number, detail?: string}} Item */
/** @typedef {{name: string, kind: string, items: Item[], more: boolean}} Group */
/** @typedef {{service: string, kind: string, groups: Group[], error: Error | null}} Outline */

/** Services that hold nothing that can be shown, by the daemon's answer. */
const without = new Set();

/**
 * @param {number} every In milliseconds.
 * @returns {{outlines: Outline[], loading: boolean, again: () => void}}
 */
export function useOutlines(every) {
  const target = useStore((state) => state.target);
  const ready = useStore((state) => (state.status?.services ?? []).filter((service) => service.state === "ready").map((service) => `${service.name} ${service.kind}`).join("\n"));
  const [outlines, set] = useState(/** @type {Outline[]} */ ([]));
  const [loading, wait] = useState(true);
  const [turn, again] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const one = async (line) => {
      const [service, kind] = line.split(" ");
      try {
        const { groups } = await ask("/v1/environment/data/outline", { target: store.target, service }, stop.signal);
        return { service, kind, groups, error: null };
      } catch (error) {
        if (error instanceof Refused && error.code === "usage") without.add(line);
        if (error instanceof Refused && (error.code === "usage" || error.code === "not-found")) return null;
        // A program on the host holds nothing that the daemon can show.
        if (kind === "process") return null;
        return { service, kind, groups: [], error: /** @type {Error} */ (error) };
      }
    };
    const go = async () => {
      const wanted = ready.split("\n").filter((line) => line && !without.has(line));
      // Each is shown as soon as it has answered.
      const all = await Promise.all(wanted.map(async (line) => {
        const outline = await one(line);
        if (outline && !stop.signal.aborted) set((now) => [...now.filter((other) => other.service !== outline.service), outline].sort(order(wanted)));
        return outline;
      }));
      if (stop.signal.aborted) return;
      set((now) => now.filter((outline) => all.some((other) => other?.service === outline.service)));
      wait(!store.status);
      if (every) timer = window.setTimeout(go, document.hidden ? every * 5 : every);
    };
    void go();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [JSON.stringify(target), ready, turn]);
  return { outlines, loading, again: () => again((n) => n + 1) };
}

/** @param {string[]} wanted */
const order = (wanted) => (a, b) => place(wanted, a) - place(wanted, b);
/** @param {string[]} wanted @param {Outline} outline */
const place = (wanted, outline) => wanted.findIndex((line) => line.startsWith(outline.service + " "));
