// @ts-check
// Figures over the last minutes: taken from the daemon while a view shows them, kept in this page.
import { html, useEffect, useState } from "./html.js";
import { ask } from "./net.js";
import { duration, number, size } from "./parts.js";
import { store, useStore } from "./store.js";

/** Seconds between two samples, and how many are kept. */
const EVERY = 3000, KEPT = 200;

/** @typedef {{service: string, name: string, labels: Record<string, string>, value: number, unit?: string}} Sample */
/** @typedef {{times: number[], values: number[], sample: Sample}} Series */

/** By environment, service, name and labels. @type {Map<string, Series>} */
const known = new Map();
let owner = "";

/** @param {Sample} sample */
export const keyOf = (sample) => `${sample.service} ${sample.name} ${JSON.stringify(sample.labels ?? {})}`;

/** One more sample of everything. @param {AbortSignal} signal */
async function take(signal) {
  const target = store.target;
  const answer = await ask("/v1/environment/metrics", { target }, signal);
  const now = Date.now() / 1000;
  if (owner !== JSON.stringify(target)) {
    known.clear();
    owner = JSON.stringify(target);
  }
  for (const sample of answer.samples) {
    const key = keyOf(sample);
    let series = known.get(key);
    if (!series) known.set(key, (series = { times: [], values: [], sample }));
    series.times.push(now);
    series.values.push(sample.value);
    if (series.times.length > KEPT) series.times.shift(), series.values.shift();
  }
}

/**
 * All series, renewed while the caller is shown.
 * @param {boolean} wanted
 * @returns {{series: Map<string, Series>, error: any, turn: number}}
 */
export function useSeries(wanted) {
  const target = useStore((state) => state.target);
  const [state, set] = useState({ turn: 0, error: /** @type {any} */ (null) });
  useEffect(() => {
    if (!wanted || !target) return;
    const stop = new AbortController();
    let timer = 0;
    const go = async () => {
      try {
        await take(stop.signal);
        if (!stop.signal.aborted) set((now) => ({ turn: now.turn + 1, error: null }));
      } catch (error) {
        if (!stop.signal.aborted) set((now) => ({ turn: now.turn, error }));
      }
      if (!stop.signal.aborted) timer = window.setTimeout(go, document.hidden ? 30_000 : EVERY);
    };
    void go();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [wanted, JSON.stringify(target)]);
  return { series: owner === JSON.stringify(target) ? known : new Map(), ...state };
}

/** What changes per second, of values that only grow. @param {Series} series */
export function rate(series) {
  return series.values.map((value, at) => {
    if (!at) return null;
    const step = (value - series.values[at - 1]) / Math.max(0.001, series.times[at] - series.times[at - 1]);
    return step < 0 ? null : step;
  });
}

/** @param {Sample} sample */
export const grows = (sample) => /_total$|_sum$|_count$|xact_(commit|rollback)$|tup_(returned|fetched|inserted|updated|deleted)$|blks_(hit|read)$/.test(sample.name);

/** CPU and memory by service. @param {boolean} wanted */
export function useSamples(wanted) {
  const { series } = useSeries(wanted);
  /** @type {Map<string, {cpu?: (number | null)[], memory?: (number | null)[]}>} */
  const found = new Map();
  for (const one of series.values()) {
    const { service, name } = one.sample;
    const entry = found.get(service) ?? {};
    // The share that the daemon computes is there from the first sample on; a rate needs two.
    if (/cpu/.test(name) && (!entry.cpu || name === "devenv_service_cpu_ratio")) entry.cpu = grows(one.sample) ? rate(one) : one.values;
    if (/memory.*(bytes|usage|working)|memory$/.test(name) && !/limit/.test(name) && !entry.memory) entry.memory = one.values;
    found.set(service, entry);
  }
  return found;
}

/** @param {{samples?: (number | null)[], of: string, unit: string}} properties */
export function Spark({ samples, of, unit }) {
  const values = (samples ?? []).filter((value) => value != null).slice(-40);
  if (!values.length) return html`<span class="null" title=${`${of} is not measured`}>–</span>`;
  const last = Number(values[values.length - 1]);
  const text = unit === "bytes" ? size(last) : `${(last * 100).toFixed(last < 0.1 ? 1 : 0)} %`;
  const top = Math.max(...values.map(Number), unit === "bytes" ? 1 : 0.05);
  const points = values.map((value, at) => `${((at / Math.max(1, values.length - 1)) * 48).toFixed(1)},${(17 - (Number(value) / top) * 15).toFixed(1)}`);
  return html`<span class="spark"><svg width="48" height="18" aria-hidden="true"><polyline points=${points.join(" ")} /></svg>
    <span title=${of}>${text}</span></span>`;
}

/** @param {number} value @param {string} [unit] */
export function figure(value, unit) {
  if (unit === "bytes") return size(value);
  if (unit === "seconds") return value < 1 ? `${(value * 1000).toPrecision(3)} ms` : `${value.toPrecision(4)} s`;
  if (unit === "ms") return duration(value);
  if (unit === "ratio") return `${(value * 100).toFixed(1)} %`;
  return Number.isInteger(value) ? number(value) : String(Number(value.toPrecision(Math.abs(value) < 1 ? 2 : 4)));
}
