// @ts-check
// Services: a table or a graph, actions, and what is known of one service.
import { html, useEffect, useRef, useState } from "./html.js";
import { Copy, Empty, Filter, Head, Problem, Scroll, State, When, carryOut, duration, marked, matcher, opens, tone } from "./parts.js";
import { go, replace, to, useRoute } from "./route.js";
import { ask } from "./net.js";
import { fail, store, useAnswer, useStore } from "./store.js";
import { Graph } from "./graph.js";
import { Spark, useSamples } from "./samples.js";

/** @typedef {import("./store.js").Service} Service */

/** Events of a long chain that are shown at once. */
const NEWEST = 6;
const STOPPED = ["stopped", "asleep", "failed", "crash-loop", "completed"];

export function Services() {
  const { path, query } = useRoute();
  const status = useStore((state) => state.status);
  const graph = query.get("show") === "graph";
  const filter = query.get("filter") ?? "";
  const chosen = path[0];
  const wanted = matcher(filter);
  const all = status?.services ?? [];
  const services = all.filter((service) => wanted.matches(`${service.name} ${service.kind} ${service.state}`));
  const samples = useSamples(status?.phase !== "absent");
  const show = (more) => replace(["services", ...path], { show: graph ? "graph" : "", filter, ...more });
  return html`
    <${Head} title="Services">
      <div class="group" role="group" aria-label="View as">
        <button type="button" aria-pressed=${!graph} onClick=${() => show({ show: "" })}>Table</button>
        <button type="button" aria-pressed=${graph} onClick=${() => show({ show: "graph" })}>Graph</button></div>
      <${Filter} value=${filter} hint="name, kind or state" bad=${wanted.bad} onInput=${(text) => show({ filter: text })} />
    </${Head}>
    ${status && !all.length && html`<${Empty}>No service runs.</${Empty}>`}
    <div class=${chosen ? "beside" : ""}>
      ${graph
        ? html`<${Graph} services=${services} chosen=${chosen} />`
        : all.length > 0 && html`<${Scroll} label="Services"><table aria-label="Services">
            <thead><tr><th>Name</th><th>State</th><th class="optional">Kind</th><th class="optional">Ready after</th><th class="optional">CPU</th>
              <th class="optional">Memory</th><th class="optional">Address</th><th>Actions</th></tr></thead>
            <tbody>${services.map((service) => html`<${Row} key=${service.name} service=${service} chosen=${service.name === chosen}
              samples=${samples.get(service.name)} />`)}</tbody></table></${Scroll}>`}
      ${chosen && html`<${Details} key=${chosen} name=${chosen} service=${all.find((service) => service.name === chosen)} />`}
    </div>`;
}

/** @param {{service: Service, chosen: boolean, samples: any}} properties */
function Row({ service, chosen, samples }) {
  const [url, ...others] = new Set(Object.values(service.urls));
  const more = others.length;
  return html`<tr class=${chosen ? "chosen" : ""} ...${opens(() => go(["services", service.name]))}>
    <td class="name"><a href=${to(["services", service.name])}>${service.name}</a></td>
    <td class="condition"><${State} state=${service.state} />${service.restarts > 0 && html` <small class="figure">${service.restarts} ${service.restarts === 1 ? "restart" : "restarts"}</small>`}
      ${service.reason && html`<div class="reason" title=${service.reason}>${marked(service.reason)}</div>`}</td>
    <td class="optional">${service.kind}</td>
    <td class="optional figure">${duration(service.ready_after_ms)}</td>
    <td class="optional"><${Spark} samples=${samples?.cpu} of="CPU" unit="ratio" /></td>
    <td class="optional"><${Spark} samples=${samples?.memory} of="Memory" unit="bytes" /></td>
    <td class="optional address">${url && html`<${Address} url=${url} />`}${more > 0 && html` <a href=${to(["services", service.name])} title=${`${more} more addresses`}>+${more}</a>`}</td>
    <td class="actions"><${Actions} service=${service} /></td></tr>`;
}

/** @param {{url: string}} properties */
function Address({ url }) {
  const shown = url.replace(/^[a-z+]+:\/\//, "").replace(/\/$/, "");
  return html`${/^https?:/.test(url) ? html`<a href=${url} target="_blank" rel="noreferrer noopener">${shown}</a>` : html`<code>${shown}</code>`}
    <${Copy} text=${url} what=${url} />`;
}

/** @param {{service: Service}} properties */
function Actions({ service }) {
  const [busy, set] = useState("");
  const act = async (kind, done) => {
    set(kind);
    await carryOut(kind, { services: [service.name] }, `${service.name} ${done}`);
    set("");
  };
  const stopped = STOPPED.includes(service.state);
  return html`<span class="buttons">
    ${stopped && html`<button type="button" class="small" disabled=${!!busy} aria-label=${`Start ${service.name}`}
      onClick=${() => act("start", "is started")}>${busy === "start" ? "Starting…" : "Start"}</button>`}
    ${!stopped && html`<button type="button" class="small" disabled=${!!busy} aria-label=${`Restart ${service.name}`}
      onClick=${() => act("restart", "is restarted")}>${busy === "restart" ? "Restarting…" : "Restart"}</button>
      <button type="button" class="small quiet" disabled=${!!busy} aria-label=${`Stop ${service.name}`}
      onClick=${() => act("stop", "is stopped")}>${busy === "stop" ? "Stopping…" : "Stop"}</button>`}</span>`;
}

/** @param {{name: string, service: Service | undefined}} properties */
function Details({ name, service }) {
  const target = useStore((state) => state.target);
  const why = useAnswer("/v1/environment/why", { target, service: name }, [service?.state]);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  // Where it is below the table, it would be out of sight.
  useEffect(() => void (matchMedia("(max-width: 1000px)").matches && box.current?.scrollIntoView({ block: "start" })), []);
  return html`<section class="details" ref=${box} aria-label=${`About ${name}`}>
    <header><h2>${name}</h2><a class="button quiet" href=${to(["services"])} aria-label="Close">✕</a></header>
    ${!service && html`<${Empty}>There is no service of this name.</${Empty}>`}
    ${service && html`
      <dl>
        <dt>State</dt><dd><${State} state=${service.state} /> ${service.reason ?? ""}</dd>
        <dt>Kind</dt><dd>${service.kind}${service.optional ? ", optional" : ""}</dd>
        ${service.image && html`<dt>Image</dt><dd><code>${service.image}</code></dd>`}
        ${service.pid && html`<dt>Process</dt><dd>${service.pid}</dd>`}
        ${service.container && html`<dt>Container</dt><dd><code>${service.container.slice(0, 12)}</code> <${Copy} text=${service.container} what="the container's id" /></dd>`}
        ${Object.entries(service.depends_on).length > 0 && html`<dt>Depends on</dt><dd>${Object.entries(service.depends_on).map(([other, condition]) =>
          html`<span class="chip" key=${other}><a href=${to(["services", other])}>${other}</a> ${condition}</span>`)}</dd>`}
        ${Object.entries(service.urls).map(([of, url]) => html`<dt>${of}</dt><dd><${Address} url=${url} /></dd>`)}
        ${service.ports.map((port) => html`<dt>Port ${port.container}</dt><dd><code>${port.address}:${port.host}</code></dd>`)}
      </dl>
      <p><a href=${to(["logs"], { of: name })}>Logs of ${name}</a> · <a href=${to(["events"], { filter: name })}>Events</a></p>
      <h3>Why it is in this state</h3>
      <${Problem} error=${why.error} />
      ${why.value && html`<${Why} events=${why.value.events} />`}
      <h3>Environment variables</h3><${Variables} service=${name} />`}
  </section>`;
}

/** The chain of events that led to the state, oldest first. A long one is folded in its middle. @param {{events: import("./store.js").Event[]}} properties */
function Why({ events }) {
  const [all, open] = useState(false);
  const folded = all || events.length <= NEWEST + 2 ? 0 : events.length - NEWEST - 1;
  const one = (event) => html`<li key=${event.sequence}><${When} time=${event.time} /><span title=${event.kind}>${marked(event.message)}</span></li>`;
  if (!events.length) return html`<${Empty}>No event led to it.</${Empty}>`;
  return html`<ol class="why">${one(events[0])}
    ${folded > 0 && html`<li><button type="button" class="small quiet" onClick=${() => open(true)}>${folded} more events</button></li>`}
    ${events.slice(1 + folded).map(one)}</ol>`;
}

/** @param {{service: string}} properties */
function Variables({ service }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/variables", { target, for: "container", service });
  const [shown, set] = useState(/** @type {{name: string, value: string} | null} */ (null));
  const reveal = async (name) => {
    if (shown?.name === name) return set(null);
    try {
      const all = await ask("/variables", { target: store.target, for: "container", service, reveal: name });
      set({ name, value: all.variables[name].value });
    } catch (error) {
      fail(error);
    }
  };
  useEffect(() => {
    if (!shown) return;
    const timer = setTimeout(() => set(null), 30_000);
    return () => clearTimeout(timer);
  }, [shown]);
  const variables = Object.entries(answer.value?.variables ?? {});
  return html`<${Problem} error=${answer.error} />
    ${answer.value && !variables.length && html`<${Empty}>This service gets no variables.</${Empty}>`}
    <dl class="variables">${variables.map(([name, variable]) => html`<dt key=${name}>${name}</dt>
      <dd><code class=${tone("")}>${shown?.name === name ? shown.value : variable.value}</code>
        ${variable.secret
          ? html`<button type="button" class="small quiet" aria-label=${`${shown?.name === name ? "Hide" : "Reveal"} ${name}`} onClick=${() => reveal(name)}>
              ${shown?.name === name ? "hide" : "reveal"}</button>${shown?.name === name && html`<${Copy} text=${shown.value} what=${name} />`}`
          : html`<${Copy} text=${variable.value} what=${name} />`}</dd>`)}</dl>`;
}

