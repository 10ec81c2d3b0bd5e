// @ts-check
// Events: the one timeline of the environment, with what led to each.
import { html, useEffect, useRef, useState } from "./html.js";
import { Empty, Filter, Head, When, clock, marked, matcher, number } from "./parts.js";
import { replace, to, useRoute } from "./route.js";
import { useStore } from "./store.js";

/** Rows that are shown at first, and more at each request. */
const ROWS = 300;
const LANES = { fault: /^(fault|chaos)/, operation: /^operation/, reload: /^(reload|file|build|save)/, script: /^(script|seed|init)/, service: /^service/ };

/** @param {string} kind */
const lane = (kind) => Object.entries(LANES).find(([, form]) => form.test(kind))?.[0] ?? "other";

export function Events() {
  const { query } = useRoute();
  const events = useStore((state) => state.events);
  const filter = query.get("filter") ?? "";
  const [rows, more] = useState(ROWS);
  const wanted = matcher(filter);
  const found = events.filter((event) => wanted.matches(`${event.service ?? ""} ${event.kind} ${event.message}`));
  const shown = found.slice(-rows).reverse();
  const known = new Map(events.map((event) => [event.sequence, event]));
  return html`
    <${Head} title="Events"><${Filter} value=${filter} bad=${wanted.bad} onInput=${(text) => replace(["events"], { filter: text })} />
      <small class="count">${number(found.length)} of ${number(events.length)}</small></${Head}>
    ${found.length > 1 && html`<${Timeline} events=${found} />`}
    ${!found.length && html`<${Empty}>${filter ? "No event matches." : "Nothing has happened yet."}</${Empty}>`}
    ${found.length > 0 && html`<div class="scroll"><table aria-label="Events">
      <thead><tr><th>Event</th><th>Time</th><th>Service</th><th>What happened</th></tr></thead>
      <tbody>${shown.map((event) => html`<tr key=${event.sequence} id=${`event-${event.sequence}`}>
        <td class="name"><span class=${`chip ${lane(event.kind)}`}>${event.kind}</span></td><td><${When} time=${event.time} /></td>
        <td>${event.service && html`<a href=${to(["services", event.service])}>${event.service}</a>`}</td>
        <td class="wide">${marked(event.message)}${event.data?.cause && known.has(event.data.cause) && html`<div class="reason">because: ${marked(known.get(event.data.cause)?.message ?? "")}</div>`}</td></tr>`)}
      </tbody></table></div>`}
    ${found.length > rows && html`<p><button type="button" onClick=${() => more(rows + ROWS)}>Older events</button></p>`}`;
}

/** Dots in lanes over time; the wheel or + and − zoom. @param {{events: import("./store.js").Event[]}} properties */
function Timeline({ events }) {
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
  const lanes = Object.keys(LANES).concat("other");
  const x = (time) => 76 + ((time - begin) / length) * (width - 92);
  return html`<div class="timeline" ref=${box}>
    <div class="buttons"><button type="button" class="small quiet" aria-label="Zoom in" onClick=${() => zoom(length / 2)}>+</button>
      <button type="button" class="small quiet" aria-label="Zoom out" onClick=${() => zoom(length * 2 >= all ? 0 : length * 2)}>−</button></div>
    <svg width=${width} height=${lanes.length * 16 + 22} role="img" aria-label=${`${events.length} events in ${Math.round(length / 1000)} seconds`}>
      ${lanes.map((name, at) => html`<g key=${name}><text x="0" y=${at * 16 + 13}>${name}</text><line x1="76" x2=${width - 8} y1=${at * 16 + 9} y2=${at * 16 + 9} /></g>`)}
      ${events.map((event, at) => times[at] >= begin && html`<circle key=${event.sequence} class=${lane(event.kind)} cx=${x(times[at])} cy=${lanes.indexOf(lane(event.kind)) * 16 + 9} r="4">
        <title>${clock(event.time)} ${event.message}</title></circle>`)}
      <text x="76" y=${lanes.length * 16 + 16}>${clock(new Date(begin).toISOString(), false)}</text>
      <text x=${width - 8} y=${lanes.length * 16 + 16} text-anchor="end">${clock(new Date(end).toISOString(), false)}</text></svg></div>`;
}
