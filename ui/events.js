// @ts-check
// Events: what happened in the environment, as a timeline with a lane for each service, and as a list with causes.
import { html, useEffect, useRef, useState } from "./html.js";
import { Chosen, CursorLines, Moment, pointing } from "./cursor.js";
import { Empty, Filter, Head, Scroll, When, clock, duration, marked, matcher, number } from "./parts.js";
import { Plot } from "./plot.js";
import { go, replace, to, useRoute } from "./route.js";
import { useAnswer, useStore } from "./store.js";

/** @typedef {import("./store.js").Event} Event */

/** Rows that are shown at first, and more at each request. */
const ROWS = 300;
/** Lanes of services; further services share one. */
const LANES = 12;
/** In milliseconds. A longer pause between two events is shown as such. */
const PAUSE = 60_000;

const BAD = /failed|crash-loop|unhealthy|unreachable|out-of-memory|not-healed|refused|feedback-loop|shadowed|inject/;
const GOOD = /ready|completed|healed|recovered|applied|finished|made|restored|swapped|synced|adopted/;

/** @param {string} kind */
const meaning = (kind) => (BAD.test(kind) ? "bad" : GOOD.test(kind) ? "good" : "busy");

/** @param {Event} event */
const laneOf = (event) => (/^(fault|chaos)/.test(event.kind) ? "faults" : (event.service ?? "environment"));

export function Events() {
  const { query } = useRoute();
  const events = useStore((state) => state.events);
  const filter = query.get("filter") ?? "";
  const [rows, more] = useState(ROWS);
  const [chosen, choose] = useState(-1);
  const wanted = matcher(filter);
  const found = events.filter((event) => wanted.matches(`${event.service ?? ""} ${event.kind} ${event.message}`));
  const shown = found.slice(-rows).reverse();
  const known = new Map(events.map((event) => [event.sequence, event]));
  useEffect(() => document.getElementById(`event-${chosen}`)?.scrollIntoView({ block: "center" }), [chosen]);
  const reveal = (event) => {
    more(Math.max(rows, found.length - found.indexOf(event)));
    choose(event.sequence);
  };
  return html`
    <${Head} title="Events"><${Filter} value=${filter} bad=${wanted.bad} onInput=${(text) => replace(["events"], { filter: text })} /><${Chosen} />
      <small class="count">${found.length === events.length ? `${number(found.length)} events` : `${number(found.length)} of ${number(events.length)} events`}</small></${Head}>
    ${found.length > 1 && html`<${Timeline} events=${found} reveal=${reveal} />`}
    ${!found.length && html`<${Empty}>${filter ? "No event matches." : "Nothing has happened yet."}</${Empty}>`}
    ${found.length > 0 && html`<${Scroll} label="Events"><table class="events" aria-label="Events">
      <thead><tr><th>Time</th><th>Service</th><th>What happened</th><th class="optional">Event</th></tr></thead>
      <tbody>${shown.map((event, at) => html`<${Row} key=${event.sequence} event=${event} before=${shown[at + 1]} cause=${known.get(event.data?.cause)} chosen=${chosen === event.sequence} />`)}
      </tbody></table></${Scroll}>`}
    ${found.length > rows && html`<p><button type="button" onClick=${() => more(rows + ROWS)}>Older events</button></p>`}`;
}

/** One event, and the pause before it. @param {{event: Event, before?: Event, cause?: Event, chosen: boolean}} properties */
function Row({ event, before, cause, chosen }) {
  const pause = before ? Date.parse(event.time) - Date.parse(before.time) : 0;
  return html`<tr id=${`event-${event.sequence}`} class=${chosen ? "chosen" : ""}><td><${Moment} time=${event.time}><${When} time=${event.time} exact /></${Moment}></td>
      <td>${event.service && html`<a href=${to(["services", event.service])}>${event.service}</a>`}</td>
      <td class="wide"><span class=${`dot ${meaning(event.kind)}`} />${marked(event.message)}
        ${cause && cause !== before && html`<div class="reason">caused by: ${marked(cause.message)}</div>`}</td>
      <td class="optional"><small>${event.kind}</small></td></tr>
    ${pause > PAUSE && html`<tr class="pause"><td colspan="4">${duration(pause)} without an event</td></tr>`}`;
}

/** The figures of services beside their events. */
const BESIDE = [["devenv_service_cpu_ratio", "CPU", "ratio"], ["devenv_service_memory_bytes", "Memory", "bytes"]];

/** CPU and memory over the same time, as far as the daemon has measured it. @param {{begin: number, end: number, left: number}} properties In milliseconds since 1970. */
function Beside({ begin, end, left }) {
  const target = useStore((state) => state.target);
  const seconds = Math.min(86_400, Math.ceil((Date.now() - begin) / 10_000) * 10 + 20);
  const past = useAnswer("/metrics/history", { target, names: BESIDE.map(([name]) => name), seconds }, [], 15_000);
  return BESIDE.map(([name, title, unit]) => {
    const found = (past.value ?? []).filter((one) => one.name === name && one.times.some((time) => time * 1000 >= begin && time * 1000 <= end)).slice(0, 8);
    if (!found.length) return null;
    const times = [...new Set(found.flatMap((one) => one.times))].sort((a, b) => a - b);
    const series = found.map((one) => {
      const at = new Map(one.times.map((time, index) => [time, one.values[index]]));
      return { label: one.service, values: times.map((time) => at.get(time) ?? null) };
    });
    return html`<h2 key=${name}>${title}</h2><${Plot} key=${name + "plot"} times=${times} series=${series} unit=${unit} label=${`${title} of services at the same time`} range=${[begin / 1000, end / 1000]} left=${left} height=${120} />`;
  });
}

/** The traces of that time as a lane. @param {{begin: number, end: number}} properties */
function useTraces({ begin, end }) {
  const target = useStore((state) => state.target);
  const collects = useStore((state) => (state.status?.services ?? []).some((service) => service.kind === "jaeger" && service.state === "ready"));
  const answer = useAnswer("/v1/environment/traces", collects ? { target, limit: 100 } : null, [], 5000);
  return (answer.value?.traces ?? []).filter((trace) => trace.start_us / 1000 >= begin && trace.start_us / 1000 <= end);
}

/** Marks in lanes over time. @param {{events: Event[], reveal: (event: Event) => void}} properties */
function Timeline({ events, reveal }) {
  const [span, zoom] = useState(0);
  const [width, set] = useState(800);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const watch = new ResizeObserver(() => set((box.current?.clientWidth ?? 816) - 16));
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const times = events.map((event) => Date.parse(event.time));
  const end = times[times.length - 1];
  const all = Math.max(1000, end - times[0]);
  const length = span ? Math.min(span, all) : all;
  const begin = end - length;
  const names = [...new Set(events.map(laneOf))];
  const services = names.filter((name) => name !== "faults" && name !== "environment").sort();
  const lanes = [...["environment", "faults"].filter((name) => names.includes(name)), ...services.slice(0, LANES), ...(services.length > LANES ? ["others"] : [])];
  const traces = useTraces({ begin, end });
  if (traces.length) lanes.splice(0, 0, "traces");
  const row = (event) => (lanes.includes(laneOf(event)) ? lanes.indexOf(laneOf(event)) : lanes.length - 1) * 18 + 9;
  const left = width < 500 ? 86 : 130;
  const x = (time) => left + 6 + ((time - begin) / length) * (width - left - 18);
  const ticks = Array.from({ length: width < 500 ? 3 : 6 }, (_, at, count = width < 500 ? 2 : 5) => begin + (length * at) / count);
  const bottom = lanes.length * 18;
  const timeAt = (at, wide) => begin + ((at - left - 6) / (wide - left - 18)) * length;
  return html`<div class="timeline" ref=${box}>
    <div class="legend"><span><span class="dot good" />done</span><span><span class="dot busy" />change</span><span><span class="dot bad" />problem or fault</span>
      <span class="buttons"><button type="button" class="small" aria-label="Zoom in" disabled=${length <= 1000} onClick=${() => zoom(Math.max(1000, length / 2))}>+</button>
      <button type="button" class="small" aria-label="Zoom out" disabled=${length >= all} onClick=${() => zoom(length * 2 >= all ? 0 : length * 2)}>−</button></span></div>
    <div class="under" ...${pointing(timeAt)}><svg width=${width} height=${bottom + 20} role="img" aria-label=${`${events.length} events in ${duration(length)}`}>
      ${ticks.map((time, at) => html`<g key=${at}><line class="tick" x1=${x(time)} x2=${x(time)} y1="0" y2=${bottom} />
        <text x=${x(time)} y=${bottom + 15} text-anchor=${at === ticks.length - 1 ? "end" : at ? "middle" : "start"}>${clock(time, false)}</text></g>`)}
      ${lanes.map((name, at) => html`<g key=${name}><text x="0" y=${at * 18 + 13}>${name.length > left / 7 ? name.slice(0, left / 7 - 1) + "…" : name}</text><line x1=${left} x2=${width - 8} y1=${at * 18 + 9} y2=${at * 18 + 9} /></g>`)}
      ${events.map((event, at) => times[at] >= begin && html`<g key=${event.sequence} class=${meaning(event.kind)} onClick=${() => reveal(event)}>
        ${meaning(event.kind) === "bad" ? html`<rect x=${x(times[at]) - 4} y=${row(event) - 4} width="8" height="8" />` : html`<circle cx=${x(times[at])} cy=${row(event)} r="4" />`}
        <title>${clock(event.time)} ${event.message}</title></g>`)}
      ${traces.map((trace) => html`<g key=${trace.id} class="trace" onClick=${() => go(["traces", trace.id])}><rect class=${trace.spans.some((span) => span.error) ? "bad" : ""} x=${x(trace.start_us / 1000)} y="3"
        width=${Math.max(3, (trace.duration_us / 1000 / length) * (width - left - 18))} height="12" rx="2" /><title>${clock(trace.start_us / 1000)} ${trace.spans[0]?.operation} ${duration(trace.duration_us / 1000)}</title></g>`)}</svg>
      <${CursorLines} begin=${begin} end=${end} left=${left + 6} right=${12} /></div>
    <${Beside} begin=${begin} end=${end} left=${left + 6} /></div>`;
}
