// @ts-check
// The report of a run of a scenario: verdict, plots of what the workloads did with the faults as bands, checks and recovery.
import { html, useMemo } from "./html.js";
import { Empty, Head, Problem, Scroll, State, duration, number } from "./parts.js";
import { ask } from "./net.js";
import { Plot } from "./plot.js";
import { to } from "./route.js";
import { fail, store, useAnswer, useStore } from "./store.js";

/** Seconds from the beginning of the timeline, of everything that has a time. @param {any} report */
export function charted(report) {
  const time = (text) => Date.parse(text) / 1000;
  const events = report.timeline ?? [];
  const zero = time((events.find((event) => event.kind === "timeline.began") ?? events[0])?.time ?? report.about?.began_at);
  const lead = Math.max(0, zero - time(events[0]?.time)) || 0;
  const bands = (report.faults ?? []).map((fault) => {
    const recovery = report.recovery.find((one) => one.fault === fault.id);
    const from = time(recovery?.fault_at ?? fault.injected_at) - zero;
    const to = recovery?.heal_ms != null ? from + recovery.heal_ms / 1000 : fault.healed_at ? time(fault.healed_at) - zero : from;
    return { from, to, label: fault.id, fault, recovery };
  }).filter((band) => Number.isFinite(band.from) && Number.isFinite(band.to));
  const workloads = (report.workloads ?? []).map((workload) => {
    const latency = workload.latency_ms ?? [];
    const count = Math.max(workload.tenths.length, latency.length);
    const at = Array.from({ length: count }, (_, index) => index / 10 - lead);
    return {
      workload, times: at, good: at.map((_, index) => (workload.tenths[index]?.[0] ?? 0) * 10), failed: at.map((_, index) => (workload.tenths[index]?.[1] ?? 0) * 10),
      // What is plotted on a logarithmic scale is above zero.
      median: at.map((_, index) => above(latency[index]?.[0])), slowest: at.map((_, index) => above(latency[index]?.[1])),
    };
  });
  const ends = [...workloads.map((one) => one.times.at(-1) ?? 0), ...bands.map((band) => band.to), 1];
  return { bands, workloads, range: /** @type {[number, number]} */ ([-lead, Math.max(...ends)]) };
}

/** @param {number | undefined} ms */
const above = (ms) => (ms == null ? null : Math.max(0.001, ms));

/** @param {{run: string}} properties */
export function RunReport({ run }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/chaos/report", { target, run });
  const report = answer.value?.report;
  const charts = useMemo(() => (report ? charted(report) : null), [report]);
  const save = async () => {
    try {
      const { html: page } = await ask("/chaos/report", { target: store.target, run, html: true });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([page], { type: "text/html" }));
      link.download = `${report.scenario}-${run}.html`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      fail(error);
    }
  };
  return html`<${Head} title="Chaos"><a class="button" href=${to(["chaos"], { show: "scenarios" })}>All scenarios</a>
      ${report && html`<strong>${report.scenario}</strong><${State} state=${report.verdict} /><div class="buttons"><button type="button" onClick=${save}>Download report</button></div>`}</${Head}>
    <${Problem} error=${answer.error} />
    ${!report && !answer.error && html`<${Empty}>Loading…</${Empty}>`}
    ${report && charts && html`<${About} report=${report} />
      <h2>What happened</h2><${Charts} charts=${charts} />
      <${Checks} checks=${report.checks} /><${Recovery} bands=${charts.bands} /><${Workloads} workloads=${report.workloads} /><${Journal} timeline=${report.timeline} />`}`;
}

/** @param {{report: any}} properties */
function About({ report }) {
  const about = report.about;
  return html`${about?.description && html`<p>${about.description}</p>`}
    ${report.reason && html`<div class="problem" role="note">${report.reason.split("; ").map((text) => html`<span key=${text}>${text}</span>`)}</div>`}
    <dl>${about && html`<dt>Began</dt><dd><time datetime=${about.began_at}>${new Date(about.began_at).toLocaleString("sv")}</time>, took ${duration(Date.parse(about.ended_at) - Date.parse(about.began_at))}</dd>
      <dt>Profile</dt><dd>${about.profile ?? ""}</dd><dt>devenv</dt><dd>${about.devenv}</dd>`}
      <dt>Seed</dt><dd>${number(report.seed)}</dd><dt>Faults</dt><dd>${report.healed ? "all are undone" : html`<span class="state bad">some are not undone</span>`}</dd>
      ${about && html`<dt>Services</dt><dd>${about.services.map((service) => html`<div key=${service.name}>${service.name}: ${service.kind}${service.image ? `, ${service.image}` : ""}</div>`)}</dd>`}</dl>`;
}

/** @param {{charts: ReturnType<typeof charted>}} properties */
function Charts({ charts }) {
  const { bands, workloads, range } = charts;
  if (!workloads.length) return html`<${Empty}>The run never reached its first operation.</${Empty}>`;
  return html`<p><small>${bands.length > 0 && html`<span class="swatch" /> a fault is active: ${bands.map((band) => `${band.label} from ${band.from.toFixed(1)} to ${band.to.toFixed(1)} s`).join("; ")}. `}Seconds of the timeline.</small></p>
    <div class="plots">${workloads.map(({ workload, times, good, failed, median, slowest }) => html`<div key=${workload.name}><h3>${workload.name}: operations per second</h3>
      <${Plot} relative range=${range} bands=${bands} times=${times} label=${`Operations per second of ${workload.name}`} series=${[{ label: "acknowledged", values: good, color: "--good" }, { label: "failed", values: failed, color: "--bad" }]} />
      ${(workload.latency_ms ?? []).length > 0 && html`<h3>${workload.name}: latency</h3><${Plot} relative log range=${range} bands=${bands} times=${times} unit="ms" label=${`Latency of ${workload.name}`}
        series=${[{ label: "median", values: median, color: "--of-1" }, { label: "slowest", values: slowest, color: "--of-2" }]} />`}</div>`)}</div>`;
}

/** @param {{checks: any[]}} properties */
const Checks = ({ checks }) => html`<h2>Checks</h2>${!checks.length && html`<${Empty}>The scenario checks nothing.</${Empty}>`}
  ${checks.length > 0 && html`<${Scroll} label="Checks"><table aria-label="Checks"><thead><tr><th>Check</th><th>Verdict</th><th>Detail</th></tr></thead>
    <tbody>${checks.map((check) => html`<tr key=${check.name}><td class="name">${check.name}</td><td><${State} state=${check.verdict} /></td><td class="wide">${check.detail}</td></tr>`)}</tbody></table></${Scroll}>`}`;

/** @param {{bands: any[]}} properties */
const Recovery = ({ bands }) => bands.length > 0 && html`<h2>Faults and recovery</h2><${Scroll} label="Recovery"><table aria-label="Recovery">
  <thead><tr><th>Fault</th><th>On</th><th>Observed</th><th>First error</th><th>Undone</th><th>Ready</th><th>Work resumed</th><th>Full speed</th></tr></thead>
  <tbody>${bands.map(({ fault, recovery }) => html`<tr key=${fault.id}><td class="name">${fault.id} <small>${fault.fault}</small></td><td>${fault.service}</td><td class="wide">${fault.witness?.what ?? "not observed"}</td>
    ${["first_error_ms", "heal_ms", "ready_ms", "ok_ms", "baseline_ms"].map((of) => html`<td key=${of} class="figure">${duration(recovery?.[of]) || "–"}</td>`)}</tr>`)}</tbody></table></${Scroll}>`;

/** @param {{workloads: any[]}} properties */
const Workloads = ({ workloads }) => workloads.length > 0 && html`<h2>Workloads</h2><${Scroll} label="Workloads"><table aria-label="Workloads">
  <thead><tr><th>Workload</th><th>On</th><th>Attempted</th><th>Acknowledged</th><th>Refused</th><th>Unknown</th><th>Median</th><th>99 % within</th></tr></thead>
  <tbody>${workloads.map((one) => html`<tr key=${one.name}><td class="name">${one.name} <small>${one.kind}</small></td><td>${one.service}</td>
    ${["attempted", "acknowledged", "failed", "unknown"].map((of) => html`<td key=${of} class="figure">${number(one[of])}</td>`)}<td class="figure">${duration(one.p50_ms) || "–"}</td><td class="figure">${duration(one.p99_ms) || "–"}</td></tr>`)}</tbody></table></${Scroll}>`;

/** @param {{timeline: any[]}} properties */
const Journal = ({ timeline }) => html`<details><summary>Journal: ${number(timeline.length)} events</summary><${Scroll} label="Journal"><table aria-label="Journal"><thead><tr><th>At</th><th>Event</th><th class="optional">Kind</th></tr></thead>
  <tbody>${timeline.map((event, at) => html`<tr key=${at}><td class="figure">${event.data?.at_ms != null ? `${(event.data.at_ms / 1000).toFixed(2)} s` : ""}</td><td class="wide">${event.message}</td><td class="optional"><small>${event.kind}</small></td></tr>`)}</tbody></table></${Scroll}></details>`;
