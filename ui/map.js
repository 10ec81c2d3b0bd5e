// @ts-check
// The map of services: who calls whom in the traces that are loaded, how often, how long it takes, and what fails.
import { html } from "./html.js";
import { layout } from "./graph.js";
import { Empty, Scroll, duration, number } from "./parts.js";
import { to } from "./route.js";

/** @typedef {import("./traces.js").Trace} Trace */
/** @typedef {{from: string, to: string, count: number, failed: number, times: number[]}} Call */
/** @typedef {{name: string, spans: number, failed: number}} Part */

/** Of a service, as in the graph, and between two. */
const WIDTH = 168, HEIGHT = 46, ACROSS = 108;
/** Services that are drawn: those with the most spans. */
const MOST = 60;

/** @param {Trace[]} traces @returns {{parts: Part[], calls: Call[]}} */
export function callsOf(traces) {
  /** @type {globalThis.Map<string, Part>} */
  const parts = new globalThis.Map();
  /** @type {globalThis.Map<string, Call>} */
  const calls = new globalThis.Map();
  for (const trace of traces) {
    const spans = new globalThis.Map(trace.spans.map((span) => [span.id, span]));
    for (const span of trace.spans) {
      const part = parts.get(span.service) ?? { name: span.service, spans: 0, failed: 0 };
      part.spans++;
      if (span.error) part.failed++;
      parts.set(span.service, part);
      const parent = span.parent ? spans.get(span.parent) : undefined;
      if (!parent || parent.service === span.service) continue;
      const key = JSON.stringify([parent.service, span.service]);
      const call = calls.get(key) ?? { from: parent.service, to: span.service, count: 0, failed: 0, times: [] };
      call.count++;
      if (span.error) call.failed++;
      call.times.push(span.duration_us / 1000);
      calls.set(key, call);
    }
  }
  const drawn = [...parts.values()].sort((a, b) => b.spans - a.spans).slice(0, MOST);
  const names = new Set(drawn.map((part) => part.name));
  for (const call of calls.values()) call.times.sort((a, b) => a - b);
  return { parts: drawn, calls: [...calls.values()].filter((call) => names.has(call.from) && names.has(call.to)).sort((a, b) => b.count - a.count) };
}

/** @param {number[]} sorted @param {number} share */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/** @param {{traces: Trace[]}} properties */
export function Map({ traces }) {
  const { parts, calls } = callsOf(traces);
  const { places, width, height } = layout(parts.map(({ name }) => /** @type {any} */ ({ name, depends_on: Object.fromEntries(calls.filter((call) => call.to === name).map((call) => [call.from, ""])) })), ACROSS);
  const most = Math.max(1, ...calls.map((call) => call.count));
  return html`<div class="graph scroll map" tabindex="0" role="region" aria-label="Map">
      <p class="legend">Calls between services in the ${number(traces.length)} ${traces.length === 1 ? "trace" : "traces"} of the list. The thicker a line, the more calls; red: some failed.</p>
      <svg width=${width + 8} height=${height + 8} role="group" aria-label="Services and the calls between them"><g transform="translate(4 4)">
        ${calls.map((call) => html`<${Line} key=${JSON.stringify([call.from, call.to])} call=${call} places=${places} most=${most} above=${calls.filter((other) => other.to === call.to).indexOf(call)} />`)}
        ${parts.map((part) => html`<${Node} key=${part.name} part=${part} place=${places.get(part.name)} />`)}</g></svg></div>
    <h2>Calls</h2>${!calls.length && html`<${Empty}>No service of these traces calls another.</${Empty}>`}
    ${calls.length > 0 && html`<${Scroll} label="Calls"><table aria-label="Calls"><thead><tr><th>From</th><th>To</th><th>Calls</th><th>Failed</th><th>Median</th><th class="optional">95 % within</th><th class="optional">Slowest</th></tr></thead>
      <tbody>${calls.map((call) => html`<tr key=${JSON.stringify([call.from, call.to])}><td class="name">${call.from}</td><td class="name">${call.to}</td><td class="figure">${number(call.count)}</td>
        <td class="figure">${call.failed > 0 && html`<span class="state bad">${number(call.failed)}</span>`}</td><td class="figure">${duration(quantile(call.times, 0.5))}</td>
        <td class="figure optional">${duration(quantile(call.times, 0.95))}</td><td class="figure optional">${duration(call.times.at(-1))}</td></tr>`)}</tbody></table></${Scroll}>`}`;
}

/** The count is at the end of the line, above those of other callers. @param {{call: Call, places: globalThis.Map<string, {x: number, y: number}>, most: number, above: number}} properties */
function Line({ call, places, most, above }) {
  const a = places.get(call.from), b = places.get(call.to);
  if (!a || !b) return null;
  const [x, y, u, v] = [a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
  const bend = Math.max(40, (u - x) / 2);
  const text = `${number(call.count)}${call.failed ? `, ${number(call.failed)} failed` : ""}`;
  return html`<path class=${`edge ${call.failed ? "failed" : ""}`} d=${`M${x} ${y}C${x + bend} ${y} ${u - bend} ${v} ${u} ${v}`} style=${{ strokeWidth: `${1.2 + (4 * call.count) / most}px` }}>
      <title>${call.from} calls ${call.to}: ${text}; median ${duration(quantile(call.times, 0.5))}</title></path>
    <text class=${`count ${call.failed ? "failed" : ""}`} x=${u - 8} y=${v - 7 - 12 * above} text-anchor="end">${text}</text>`;
}

/** @param {{part: Part, place: {x: number, y: number}}} properties */
function Node({ part, place }) {
  const [name, counts] = [part.name.length > 19 ? part.name.slice(0, 18) + "…" : part.name, `${number(part.spans)} ${part.spans === 1 ? "span" : "spans"}${part.failed ? `, ${number(part.failed)} failed` : ""}`];
  return html`<a href=${to(["traces"], { service: part.name })} class=${`node ${part.failed ? "bad" : "good"}`} aria-label=${`Traces of ${part.name === name ? name : `${part.name}: ${name}`} ${counts}`}>
    <rect x=${place.x} y=${place.y} width=${WIDTH} height=${HEIGHT} rx="6" />
    <text x=${place.x + 12} y=${place.y + 19}>${name}</text>${" "}
    <text class="second" x=${place.x + 12} y=${place.y + 36}>${counts}</text></a>`;
}
