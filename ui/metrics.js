// @ts-check
// Metrics: what the daemon measures of the services, from the moment this view is open. Figures of a kind that matter most come first.
import { html, useState } from "./html.js";
import { Choose, Empty, Filter, Head, Problem, matcher, number } from "./parts.js";
import { Plot } from "./plot.js";
import { replace, useRoute } from "./route.js";
import { figure, grows, rate, useSeries } from "./samples.js";
import { useStore } from "./store.js";

/** Names of the figures to look at first. */
const FIRST = /cpu|memory|connections|backends|xact|tup_|commands|keyspace_(hits|misses)|evicted|clients|lag|offset|messages|queue|aof|disk|volume/;
const AT_ONCE = 18;

export function Metrics() {
  const { query } = useRoute();
  const services = useStore((state) => state.status?.services ?? []);
  const [filter, of] = [query.get("filter") ?? "", query.get("of") ?? ""];
  const [count, more] = useState(AT_ONCE);
  const { series, error, turn } = useSeries(true);
  const wanted = matcher(filter);
  const groups = new Map();
  for (const one of series.values()) {
    const { service, name } = one.sample;
    if ((of && service !== of) || !wanted.matches(`${service} ${name}`)) continue;
    const key = service + " " + name;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  // The same figure twice: as a share, and as seconds.
  for (const key of [...groups.keys()]) if (key.endsWith("devenv_service_cpu_seconds_total") && groups.has(key.replace("seconds_total", "ratio"))) groups.delete(key);
  const moves = (group) => group.some((one) => one.values.some((value) => value !== one.values[0]));
  const score = ([key, group]) => (FIRST.test(key) ? 0 : 2) + (moves(group) ? 0 : 1);
  const found = [...groups].sort((a, b) => score(a) - score(b) || a[0].localeCompare(b[0]));
  const set = (next) => replace(["metrics"], { filter, of, ...next });
  return html`<${Head} title="Metrics">
      <${Choose} label="Service" value=${of} onChange=${(value) => set({ of: value })}><option value="">all</option>
        ${services.map((service) => html`<option key=${service.name} value=${service.name}>${service.name}</option>`)}</${Choose}>
      <${Filter} value=${filter} hint="service or figure" bad=${wanted.bad} onInput=${(text) => set({ filter: text })} />
      <small class="count">${number(found.length)} figures</small></${Head}>
    <${Problem} error=${error} />
    ${!error && turn === 0 && html`<${Empty}>Measuring…</${Empty}>`}
    ${turn > 0 && !found.length && html`<${Empty}>${series.size ? "No figure matches." : "Nothing is measured: no service runs that has figures."}</${Empty}>`}
    <div class="cards">${found.slice(0, count).map(([key, group]) => html`<${Card} key=${key} group=${group} />`)}</div>
    ${found.length > count && html`<p><button type="button" onClick=${() => more(count + AT_ONCE)}>More figures</button></p>`}`;
}

/** @param {{group: import("./samples.js").Series[]}} properties */
function Card({ group }) {
  const { sample } = group[0];
  const isRate = grows(sample);
  const isShare = isRate && /cpu_seconds/.test(sample.name);
  const unit = isShare ? "ratio" : isRate ? undefined : (sample.unit ?? unitOf(sample.name));
  const times = group.reduce((longest, one) => (one.times.length > longest.length ? one.times : longest), /** @type {number[]} */ ([]));
  const series = group.slice(0, 8).map((one) => {
    const values = isRate ? rate(one) : one.values;
    return { label: labelOf(one.sample), values: Array(times.length - values.length).fill(null).concat(values) };
  });
  const last = series.length === 1 ? series[0].values.at(-1) : null;
  const title = sample.name.replace(new RegExp(`^(devenv|${sample.service})_`), "").replace(/^service_|_(total|bytes|seconds|ratio)$/g, "").replaceAll("_", " ");
  return html`<section class="card"><header><h2 title=${sample.name}>${isShare ? "cpu" : isRate ? `${title} / s` : title}</h2><small>${sample.service}</small>
      ${last != null && html`<strong>${figure(last, unit)}</strong>`}</header>
    <${Plot} times=${times} series=${series} unit=${unit} label=${`${title} of ${sample.service}`} />
    ${group.length > 8 && html`<small>and ${group.length - 8} more</small>`}</section>`;
}

/** @param {string} name */
const unitOf = (name) => (/bytes/.test(name) ? "bytes" : /seconds/.test(name) ? "seconds" : /ratio/.test(name) ? "ratio" : undefined);

/** @param {import("./samples.js").Sample} sample */
function labelOf(sample) {
  const labels = Object.entries(sample.labels ?? {}).filter(([name]) => !["service", "environment", "instance", "job"].includes(name));
  return labels.map(([, value]) => value).join(" ") || sample.name;
}
