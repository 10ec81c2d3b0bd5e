// @ts-check
// Metrics: what Prometheus has kept of the services if the environment has one, else what the daemon has measured in the last hour, and
// measures now. Figures of a kind that matter most come first. Alert rules, and which of them fire.
import { html, useState } from "./html.js";
import { Chosen } from "./cursor.js";
import { Choose, Empty, Filter, Head, Problem, Scroll, State, When, duration, matcher, number } from "./parts.js";
import { Plot } from "./plot.js";
import { READY_NAMES, readyMade } from "./plots.js";
import { replace, useRoute } from "./route.js";
import { figure, grows, keyOf, rate, useSeries } from "./samples.js";
import { useAnswer, useStore } from "./store.js";

/** Names of the figures to look at first. */
const FIRST = /cpu|memory|connections|backends|xact|tup_|commands|keyspace_(hits|misses)|evicted|clients|lag|offset|messages|queue|aof|disk|volume/;
const AT_ONCE = 18;
/** Of the past that is shown, in seconds; the daemon itself keeps an hour. */
const TIMES = [[900, "15 minutes"], [3600, "1 hour"], [21_600, "6 hours"], [86_400, "1 day"]];
const USUAL = 3600;

export function Metrics() {
  const { query } = useRoute();
  const services = useStore((state) => state.status?.services ?? []);
  const [filter, of] = [query.get("filter") ?? "", query.get("of") ?? ""];
  const [count, more] = useState(AT_ONCE);
  const target = useStore((state) => state.target);
  const { series, error, turn } = useSeries(true);
  const alerts = useAnswer("/metrics/alerts", { target }, [], 5000);
  const keeps = Array.isArray(alerts.value);
  const over = query.get("over") ?? "";
  const seconds = over === "live" || !(alerts.value || alerts.error) ? 0 : keeps ? Number(over) || USUAL : Math.min(Number(over) || USUAL, USUAL);
  const offered = keeps ? TIMES : TIMES.filter(([of]) => Number(of) <= USUAL);
  const wanted = matcher(filter);
  const groups = new Map();
  for (const one of series.values()) {
    const { service, name } = one.sample;
    if ((of && service !== of) || !wanted.matches(`${service} ${name}`)) continue;
    if (!filter && READY_NAMES.has(name) && services.some((one) => one.name === service)) continue;
    const key = service + " " + name;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  // The same figure twice: as a share, and as seconds.
  for (const key of [...groups.keys()]) if (key.endsWith("devenv_service_cpu_seconds_total") && groups.has(key.replace("seconds_total", "ratio"))) groups.delete(key);
  const moves = (group) => group.some((one) => one.values.some((value) => value !== one.values[0]));
  const score = ([key, group]) => (FIRST.test(key) ? 0 : 2) + (moves(group) ? 0 : 1);
  const found = [...groups].sort((a, b) => score(a) - score(b) || a[0].localeCompare(b[0]));
  const set = (next) => replace(["metrics"], { filter, of, over, ...next });
  const shown = found.slice(0, count);
  // Sought figures are shown as they are.
  const isReady = !filter;
  const ready = isReady ? [...series.values()].filter((one) => READY_NAMES.has(one.sample.name) && (!of || one.sample.service === of)).map((one) => one.sample.name) : [];
  const names = [...new Set(shown.flatMap(([, group]) => group.map((one) => one.sample.name)).concat(ready))].sort();
  const past = useAnswer("/metrics/history", seconds && names.length ? { target, names, seconds } : null, [], 10_000);
  const kept = new Map();
  for (const { times, values, ...sample } of past.value ?? []) kept.set(keyOf(sample), { times, values, sample });
  // What the daemon kept goes on with what this page has measured since, which is finer.
  const whole = (one) => {
    const before = kept.get(keyOf(one.sample));
    if (!before || keeps) return before ?? one;
    const first = one.times[0] ?? Infinity, since = Date.now() / 1000 - seconds;
    const [old, mine] = [before.times.findIndex((time) => time >= first), one.times.findIndex((time) => time >= since)];
    const end = old < 0 ? before.times.length : old;
    return { sample: one.sample, times: [...before.times.slice(0, end), ...(mine < 0 ? [] : one.times.slice(mine))], values: [...before.values.slice(0, end), ...(mine < 0 ? [] : one.values.slice(mine))] };
  };
  return html`<${Head} title="Metrics">
      <${Choose} label="Service" value=${of} onChange=${(value) => set({ of: value })}><option value="">all</option>
        ${services.map((service) => html`<option key=${service.name} value=${service.name}>${service.name}</option>`)}</${Choose}>
      ${html`<${Choose} label="Time" value=${over} onChange=${(value) => set({ over: value })}><option value="live">since this page is open</option>
        ${offered.map(([of, title]) => html`<option key=${of} value=${of === USUAL ? "" : String(of)}>${title}</option>`)}</${Choose}>`}
      <${Filter} value=${filter} hint="service or figure" bad=${wanted.bad} onInput=${(text) => set({ filter: text })} />
      <${Chosen} /><small class="count">${number(found.length + new Set(ready).size)} figures</small></${Head}>
    <${Problem} error=${error ?? past.error} />
    ${keeps && html`<${Alerts} rules=${alerts.value} />`}
    ${!error && turn === 0 && html`<${Empty}>Measuring…</${Empty}>`}
    ${turn > 0 && !found.length && !ready.length && html`<${Empty}>${series.size ? "No figure matches." : "Nothing is measured: no service runs that has figures."}</${Empty}>`}
    ${isReady && services.filter((service) => !of || service.name === of).map((service) => html`<${OfService} key=${service.name} service=${service} all=${[...series.values()].filter((one) => one.sample.service === service.name).map((one) => (seconds ? whole(one) : one))} />`)}
    ${isReady && found.length > 0 && html`<h2>All figures</h2>`}
    <div class="cards">${shown.map(([key, group]) => html`<${Card} key=${key + seconds} group=${seconds ? group.map(whole) : group} />`)}</div>
    ${found.length > count && html`<p><button type="button" onClick=${() => more(count + AT_ONCE)}>More figures</button></p>`}`;
}

/** The plots of a service that its kind is watched by. @param {{service: import("./store.js").Service, all: import("./samples.js").Series[]}} properties */
function OfService({ service, all }) {
  const plots = readyMade(all);
  if (!plots.length) return null;
  return html`<h2>${service.name} <small>${service.kind}</small></h2><div class="cards">${plots.map(({ title, unit, times, series }) => {
    const last = series.length === 1 ? series[0].values.at(-1) : null;
    return html`<section class="card" key=${title}><header><h3>${title}</h3>${last != null && html`<strong>${figure(last, unit)}</strong>`}</header>
      <${Plot} times=${times} series=${series} unit=${unit} label=${`${title} of ${service.name}`} /></section>`;
  })}</div>`;
}

/** @param {{group: import("./samples.js").Series[]}} properties */
function Card({ group }) {
  const { sample } = group[0];
  const isRate = grows(sample);
  const isShare = isRate && /cpu_seconds/.test(sample.name);
  const unit = isShare ? "ratio" : isRate ? undefined : (sample.unit ?? unitOf(sample.name));
  const drawn = group.slice(0, 8);
  const times = [...new Set(drawn.flatMap((one) => one.times))].sort((a, b) => a - b);
  const series = drawn.map((one) => {
    const values = isRate ? rate(one) : one.values;
    const at = new Map(one.times.map((time, index) => [time, values[index]]));
    return { label: labelOf(one.sample), values: times.map((time) => at.get(time) ?? null) };
  });
  const last = series.length === 1 ? series[0].values.at(-1) : null;
  const title = sample.name.replace(new RegExp(`^(devenv|${sample.service})_`), "").replace(/^service_|_(total|bytes|seconds|ratio)$/g, "").replaceAll("_", " ");
  return html`<section class="card"><header><h2 title=${sample.name}>${isShare ? "cpu" : isRate ? `${title} / s` : title}</h2><small>${sample.service}</small>
      ${last != null && html`<strong>${figure(last, unit)}</strong>`}</header>
    <${Plot} times=${times} series=${series} unit=${unit} label=${`${title} of ${sample.service}`} />
    ${group.length > 8 && html`<small>and ${group.length - 8} more</small>`}</section>`;
}

/** Those that fire first. @param {{rules: {group: string, name: string, expression: string, for_s: number, state: string, summary?: string, error?: string, alerts: {state: string, since?: string, value: string, labels: Record<string, string>, summary?: string}[]}[]}} properties */
function Alerts({ rules }) {
  const order = ["firing", "pending"];
  const rank = (rule) => (order.indexOf(rule.state) + order.length + 1) % (order.length + 1);
  const sorted = [...rules].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  const firing = rules.filter((rule) => rule.state === "firing").length;
  if (!rules.length) return html`<p class="empty">Prometheus has no alert rules. Files of rules are named under <code>rules</code> in the profile.</p>`;
  return html`<details class="rules" open=${firing > 0}><summary>Alert rules: ${number(rules.length)}${firing > 0 ? html`, <strong class="state bad">${number(firing)} firing</strong>` : ", none fires"}</summary>
    <${Scroll} label="Alert rules"><table aria-label="Alert rules"><thead><tr><th>Rule</th><th>State</th><th>What it says</th><th class="optional">Since</th></tr></thead>
      <tbody>${sorted.map((rule) => html`<tr key=${rule.group + rule.name}><td class="name">${rule.name}<div class="reason">${rule.group}</div></td><td><${State} state=${rule.state} /></td>
        <td class="wide">${rule.error ? html`<span class="state bad">${rule.error}</span>` : rule.alerts.length ? rule.alerts.map((alert, at) => html`<div key=${at}>${alert.summary ?? rule.summary ?? ""} <small>${Object.entries(alert.labels).map(([name, value]) => `${name}=${value}`).join(" ")} value ${alert.value}</small></div>`) : (rule.summary ?? "")}
          <div class="expression"><code>${rule.expression}</code>${rule.for_s > 0 ? ` for ${duration(rule.for_s * 1000)}` : ""}</div></td>
        <td class="optional"><${When} time=${rule.alerts[0]?.since} /></td></tr>`)}</tbody></table></${Scroll}></details>`;
}

/** @param {string} name */
const unitOf = (name) => (/bytes/.test(name) ? "bytes" : /seconds/.test(name) ? "seconds" : /ratio/.test(name) ? "ratio" : undefined);

/** @param {import("./samples.js").Sample} sample */
function labelOf(sample) {
  const labels = Object.entries(sample.labels ?? {}).filter(([name]) => !["service", "environment", "instance", "job"].includes(name));
  return labels.map(([, value]) => value).join(" ") || sample.name;
}
