// @ts-check
// Traces: a list, a map of the services in them, and one of them as a waterfall with the log lines of the same id.
import { html, useEffect, useState } from "./html.js";
import { Chosen, CursorLines, Moment, pointing } from "./cursor.js";
import { lines, onLines } from "./lines.js";
import { Text } from "./logs.js";
import { Choose, Empty, Filter, Head, Problem, Scroll, clock, duration, matcher, number, opens } from "./parts.js";
import { Map as ServiceMap } from "./map.js";
import { go, replace, to, useRoute } from "./route.js";
import { useAnswer, useStore } from "./store.js";

/** @typedef {{id: string, parent?: string, service: string, operation: string, start_us: number, duration_us: number, error: boolean, tags: Record<string, any>}} Span */
/** @typedef {{id: string, start_us: number, duration_us: number, spans: Span[]}} Trace */

/** Rows of a waterfall that show the moment that is pointed at. */
const MOST_LINED = 300;

export function Traces() {
  const { path } = useRoute();
  return path[0] ? html`<${One} id=${path[0]} />` : html`<${List} />`;
}

function List() {
  const { query } = useRoute();
  const target = useStore((state) => state.target);
  const [filter, service, least, show] = ["filter", "service", "least", "show"].map((name) => query.get(name) ?? "");
  // A tag with its value is sought by Jaeger, in all traces that it keeps; other words in those that it gives.
  const tag = /^([\w.:-]+)=(\S.*)$/.exec(filter);
  const body = { target, limit: 100, service: service || undefined, min_duration_ms: least ? Number(least) : undefined, tags: tag ? { [tag[1]]: tag[2] } : undefined };
  const answer = useAnswer("/v1/environment/traces", body, [], 2500);
  const wanted = matcher(tag ? "" : filter);
  const traces = /** @type {Trace[]} */ (answer.value?.traces ?? []);
  const shown = traces.filter((trace) => wanted.matches(`${trace.id} ${trace.spans.map((span) => `${span.service} ${span.operation} ${JSON.stringify(span.tags ?? {})}`).join(" ")}`))
    .sort((a, b) => b.start_us - a.start_us);
  const longest = Math.max(1, ...shown.map((trace) => trace.duration_us));
  const set = (more) => replace(["traces"], { filter, service, least, show, ...more });
  return html`<${Head} title="Traces">
      <div class="group" role="group" aria-label="View as">
        <button type="button" aria-pressed=${!show} onClick=${() => set({ show: "" })}>List</button>
        <button type="button" aria-pressed=${!!show} onClick=${() => set({ show: "map" })}>Map</button></div>
      <${Choose} label="Service" value=${service} onChange=${(value) => set({ service: value })}><option value="">all</option>
        ${(answer.value?.services ?? []).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</${Choose}>
      <${Choose} label="At least" value=${least} onChange=${(value) => set({ least: value })}><option value="">any</option>
        ${[10, 100, 1000].map((ms) => html`<option key=${ms} value=${String(ms)}>${duration(ms)}</option>`)}</${Choose}>
      <${Filter} value=${filter} hint="operation, id or tag=value" bad=${wanted.bad} onInput=${(text) => set({ filter: text })} /><${Chosen} /></${Head}>
    ${answer.error?.code === "not-found" ? html`<${Empty}>No service of this environment collects traces. Add one of the kind jaeger to the profile.</${Empty}>` : html`<${Problem} error=${answer.error} />`}
    ${answer.value && !shown.length && html`<${Empty}>${traces.length ? "No trace matches." : "No trace has arrived yet. Programs send them to OTEL_EXPORTER_OTLP_ENDPOINT."}</${Empty}>`}
    ${shown.length > 0 && show && html`<${ServiceMap} traces=${shown} />`}
    ${shown.length > 1 && !show && html`<${Spread} traces=${shown} longest=${longest} />`}
    ${shown.length > 0 && !show && html`<${Scroll} label="Traces"><table aria-label="Traces">
      <thead><tr><th>Operation</th><th>Service</th><th>Time</th><th>Duration</th><th>Spans</th><th class="optional">Id</th></tr></thead>
      <tbody>${shown.map((trace) => {
        const root = rootOf(trace);
        const errors = trace.spans.filter((span) => span.error).length;
        return html`<tr key=${trace.id} ...${opens(() => go(["traces", trace.id]))}><td class="name"><a href=${to(["traces", trace.id])}>${root?.operation ?? trace.id}</a></td>
          <td>${root?.service ?? ""}</td><td><${Moment} time=${trace.start_us / 1000}><time>${clock(trace.start_us / 1000)}</time></${Moment}></td>
          <td class="figure"><span class="bar"><span style=${{ width: `${(100 * trace.duration_us) / longest}%` }} /></span>${duration(trace.duration_us / 1000)}</td>
          <td class="figure">${trace.spans.length}${errors > 0 && html` <span class="state bad">${errors} failed</span>`}</td><td class="optional"><code>${trace.id.slice(0, 16)}</code></td></tr>`;
      })}</tbody></table></${Scroll}>`}`;
}

/** Traces over time; the longer, the higher. @param {{traces: Trace[], longest: number}} properties */
function Spread({ traces, longest }) {
  const times = traces.map((trace) => trace.start_us / 1000);
  const begin = Math.min(...times), length = Math.max(1, Math.max(...times) - begin);
  const timeAt = (at, wide) => begin + ((at - 8) / Math.max(1, wide - 16)) * length;
  // By orders of magnitude: one long trace must not hide the others.
  const height = (us) => Math.log10(1 + us) / Math.log10(1 + longest);
  return html`<div class="spread under" role="img" aria-label=${`${traces.length} traces in ${duration(length)}, the longest took ${duration(longest / 1000)}`} ...${pointing(timeAt)}>
    ${traces.map((trace) => html`<span key=${trace.id} class=${trace.spans.some((span) => span.error) ? "spot bad" : "spot"} onClick=${() => go(["traces", trace.id])}
      title=${`${clock(trace.start_us / 1000)} ${rootOf(trace)?.operation ?? ""} ${duration(trace.duration_us / 1000)}`}
      style=${{ left: `calc(8px + (100% - 16px) * ${(trace.start_us / 1000 - begin) / length})`, bottom: `${22 + height(trace.duration_us) * 46}px` }} />`)}
    <small class="first">${clock(begin, false)}</small><small class="last">${clock(begin + length, false)}</small>
    <${CursorLines} begin=${begin} end=${begin + length} left=${8} right=${8} /></div>`;
}

/** @param {Trace} trace */
function rootOf(trace) {
  const ids = new Set(trace.spans.map((span) => span.id));
  return trace.spans.find((span) => !span.parent || !ids.has(span.parent)) ?? trace.spans[0];
}

/** The spans as a tree, each after its parent. @param {Trace} trace @returns {{span: Span, depth: number}[]} */
export function ordered(trace) {
  const ids = new Set(trace.spans.map((span) => span.id));
  const below = new Map();
  for (const span of trace.spans) {
    const parent = span.parent && ids.has(span.parent) && span.parent !== span.id ? span.parent : "";
    below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const rows = [];
  const seen = new Set();
  const add = (parent, depth) => {
    for (const span of (below.get(parent) ?? []).sort((a, b) => a.start_us - b.start_us)) {
      if (seen.has(span.id) || rows.length >= 2000) continue;
      seen.add(span.id);
      rows.push({ span, depth });
      add(span.id, depth + 1);
    }
  };
  add("", 0);
  return rows;
}

/** @param {{id: string}} properties */
function One({ id }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/v1/environment/traces", { target, limit: 1, id }, [], 4000);
  const [chosen, choose] = useState("");
  const trace = /** @type {Trace | undefined} */ (answer.value?.traces?.[0]);
  const rows = trace ? ordered(trace) : [];
  const begin = Math.min(...rows.map(({ span }) => span.start_us));
  const length = Math.max(1, ...rows.map(({ span }) => span.start_us + span.duration_us - begin));
  const services = [...new Set(rows.map(({ span }) => span.service))];
  // A click opens the row.
  const follows = { ...pointing((at, wide) => (begin + (at / wide) * length) / 1000), onClick: undefined };
  return html`<${Head} title="Traces"><a class="button" href=${to(["traces"])}>All traces</a><code class="wide">${id}</code><${Chosen} />
      ${trace && html`<span>${duration(length / 1000)}, ${number(rows.length)} ${rows.length === 1 ? "span" : "spans"} in ${services.length} ${services.length === 1 ? "service" : "services"}</span>`}</${Head}>
    <${Problem} error=${answer.error} />
    ${answer.value && !trace && html`<${Empty}>Jaeger does not have this trace (any more).</${Empty}>`}
    ${trace && html`<${Scroll} label="Traces"><table class="waterfall" aria-label="Traces">
      <thead><tr><th>Span</th><th class="optional">Service</th><th>Duration</th><th class="time"><span>0</span><span>${duration(length / 2000)}</span><span>${duration(length / 1000)}</span></th></tr></thead>
      <tbody>${rows.map(({ span, depth }) => html`<tr key=${span.id} class=${span.error ? "failed" : ""} ...${opens(() => choose(chosen === span.id ? "" : span.id))}>
          <td class="name"><span style=${{ paddingLeft: `${Math.min(depth, 20) * 14}px` }}><button type="button" class="link" aria-expanded=${chosen === span.id}
            onClick=${() => choose(chosen === span.id ? "" : span.id)}>${span.operation}</button></span></td>
          <td class="optional">${span.service}</td><td class="figure">${duration(span.duration_us / 1000)}</td>
          <td class="time under" ...${follows}>${rows.length <= MOST_LINED && html`<${CursorLines} begin=${begin / 1000} end=${(begin + length) / 1000} />`}<span class="span" style=${{ left: `${(100 * (span.start_us - begin)) / length}%`, width: `max(2px, ${(100 * span.duration_us) / length}%)`, background: `var(--of-${services.indexOf(span.service) % 8})` }} /></td></tr>
        ${chosen === span.id && html`<tr class="tags"><td colspan="4"><dl><dt>begins</dt><dd>${duration((span.start_us - begin) / 1000)} after the trace</dd>
          ${Object.entries(span.tags ?? {}).map(([name, value]) => html`<dt>${name}</dt><dd>${typeof value === "string" ? value : JSON.stringify(value)}</dd>`)}</dl></td></tr>`}`)}
      </tbody></table></${Scroll}><${Mentions} id=${id} />`}`;
}

/** The log lines that name the trace. @param {{id: string}} properties */
function Mentions({ id }) {
  const [, again] = useState(0);
  useEffect(() => onLines(() => again((n) => n + 1)), []);
  const found = lines.filter((line) => line.plain.includes(id)).slice(-200);
  return html`<h2>Log lines of this trace</h2>${!found.length && html`<${Empty}>No line of the kept logs names ${id}.</${Empty}>`}
    <div class="lines plain" tabindex="0" role="region" aria-label="Log lines of this trace">${found.map((line) => html`<div key=${line.number} class=${`line ${line.level}`}><time>${clock(line.time)}</time><span class="of">${line.service}</span><span class="text"><${Text} line=${line} /></span></div>`)}</div>`;
}
