// @ts-check
// The graph of services: columns by what they depend on, edges by condition, and the path that the last `up` waited for longest.
import { html } from "./html.js";
import { Empty, duration, tone } from "./parts.js";
import { to } from "./route.js";

/** @typedef {import("./store.js").Service} Service */

const WIDTH = 168, HEIGHT = 46, ACROSS = 76, DOWN = 18;

/**
 * Where each service is, and which of them made the others wait.
 * @param {Service[]} services
 * @param {number} [across] Between two columns.
 */
export function layout(services, across = ACROSS) {
  const known = new Map(services.map((service) => [service.name, service]));
  const columns = new Map();
  const column = (name, above = new Set()) => {
    if (columns.has(name)) return columns.get(name);
    if (above.has(name)) return 0;
    above.add(name);
    const needs = Object.keys(known.get(name)?.depends_on ?? {}).filter((other) => known.has(other));
    const at = needs.length ? 1 + Math.max(...needs.map((other) => column(other, above))) : 0;
    columns.set(name, at);
    return at;
  };
  const rows = [];
  const places = new Map();
  for (const { name } of services) {
    const at = column(name);
    rows[at] = (rows[at] ?? 0) + 1;
    places.set(name, { x: at * (WIDTH + across), y: (rows[at] - 1) * (HEIGHT + DOWN) });
  }
  // A service that waits for itself leaves a column empty.
  const longest = Math.max(0, ...Array.from(rows, (count) => count ?? 0));
  // When each was ready: after the latest of those it waits for, plus its own time.
  const ready = new Map();
  const latest = new Map();
  for (const service of [...services].sort((a, b) => columns.get(a.name) - columns.get(b.name))) {
    let begin = 0;
    for (const [other, condition] of Object.entries(service.depends_on)) {
      if (condition === "started" || !known.has(other)) continue;
      if ((ready.get(other) ?? 0) >= begin) {
        begin = ready.get(other) ?? 0;
        latest.set(service.name, other);
      }
    }
    ready.set(service.name, begin + (service.ready_after_ms ?? 0));
  }
  const critical = new Set();
  let last = [...ready].sort((a, b) => b[1] - a[1])[0]?.[0];
  const total = last === undefined ? 0 : ready.get(last);
  for (; last !== undefined && !critical.has(last); last = latest.get(last)) critical.add(last);
  return { places, critical, total, width: rows.length * (WIDTH + across) - across, height: longest * (HEIGHT + DOWN) - DOWN };
}

/** @param {{services: Service[], chosen?: string}} properties */
export function Graph({ services, chosen }) {
  if (!services.length) return html`<${Empty}>No service matches.</${Empty}>`;
  const { places, critical, total, width, height } = layout(services);
  const edges = services.flatMap((service) =>
    Object.entries(service.depends_on).filter(([other]) => places.has(other)).map(([other, condition]) => ({ from: other, to: service.name, condition })));
  return html`<div class="graph scroll" tabindex="0" role="region" aria-label="Graph">
    ${total > 0 && html`<p class="legend">Critical path: <strong>${duration(total)}</strong> over ${[...critical].reverse().join(" → ")}.
      A solid line waits for ready, a dashed one for started, a dotted one for completed.</p>`}
    <svg width=${width + 8} height=${height + 8} role="group" aria-label="Services and what they depend on">
      <g transform="translate(4 4)">
      ${edges.map(({ from, to: end, condition }) => {
        const a = places.get(from), b = places.get(end);
        const [x, y, u, v] = [a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
        const bend = Math.max(30, (u - x) / 2);
        return html`<path key=${from + ">" + end} class=${`edge ${condition} ${critical.has(from) && critical.has(end) ? "critical" : ""}`}
          d=${`M${x} ${y}C${x + bend} ${y} ${u - bend} ${v} ${u} ${v}`}><title>${end} waits until ${from} is ${condition}</title></path>`;
      })}
      ${services.map((service) => {
        const place = places.get(service.name);
        return html`<a key=${service.name} href=${to(["services", service.name], { show: "graph" })}
            class=${`node ${tone(service.state)} ${critical.has(service.name) ? "critical" : ""} ${chosen === service.name ? "chosen" : ""}`}>
          <rect x=${place.x} y=${place.y} width=${WIDTH} height=${HEIGHT} rx="6" />
          <text x=${place.x + 12} y=${place.y + 19}>${short(service.name)}</text>
          <text class="second" x=${place.x + 12} y=${place.y + 36}>${service.state}${service.ready_after_ms ? ` · ${duration(service.ready_after_ms)}` : ""}</text></a>`;
      })}</g></svg></div>`;
}

/** @param {string} name */
const short = (name) => (name.length > 19 ? name.slice(0, 18) + "…" : name);
