// @ts-check
// Chaos: faults that are injected now, with the observation that proves each, and those that were; scenarios and the reports of their runs.
import { html, useEffect, useState } from "./html.js";
import { Choose, Dialog, Empty, Head, Scroll, State, When, duration } from "./parts.js";
import { ask } from "./net.js";
import { RunReport } from "./report.js";
import { to, useRoute } from "./route.js";
import { Scenarios } from "./scenarios.js";
import { fail, store, tell, useAnswer, useStore } from "./store.js";

const SHOWN = [["", "Faults"], ["scenarios", "Scenarios"]];

export function Chaos() {
  const { path, query } = useRoute();
  const show = query.get("show") ?? "";
  const faults = useStore((state) => state.status?.faults.length ?? 0);
  if (path[0]) return html`<${RunReport} key=${path[0]} run=${path[0]} />`;
  const tabs = html`<nav class="tabs" aria-label="Parts of chaos">${SHOWN.map(([of, title]) => html`<a key=${of} href=${to(["chaos"], { show: of })} aria-current=${show === of ? "page" : undefined}>
    ${title}${!of && faults > 0 ? ` (${faults})` : ""}</a>`)}</nav>`;
  return show === "scenarios" ? html`<${Scenarios} tabs=${tabs} />` : html`<${Faults} tabs=${tabs} />`;
}

/** @param {{tabs: any}} properties */
function Faults({ tabs }) {
  const status = useStore((state) => state.status);
  const target = useStore((state) => state.target);
  const active = status?.faults ?? [];
  const history = useAnswer("/v1/environment/chaos/status", { target, healed: true }, [active.length]);
  const former = (history.value?.faults ?? []).filter((fault) => fault.healed_at).reverse();
  const [open, set] = useState(false);
  const heal = async (ids) => {
    try {
      const { faults } = await ask("/v1/environment/chaos/heal", { target: store.target, ids });
      tell(faults.length === 1 ? `${faults[0].fault} on ${faults[0].service} is healed` : `${faults.length} faults are healed`);
    } catch (error) {
      fail(error);
    }
  };
  return html`<${Head} title="Chaos">${tabs}<div class="buttons">
      <button type="button" class="primary" onClick=${() => set(true)}>Inject fault</button>
      ${active.length > 1 && html`<button type="button" onClick=${() => heal([])}>Heal all</button>`}</div></${Head}>
    ${!active.length && html`<${Empty}>No fault is active. A fault ends when its time is up, even if devenv is killed.</${Empty}>`}
    ${active.length > 0 && html`<${Scroll} label="Chaos"><table aria-label="Chaos">
      <thead><tr><th>Fault</th><th>Service</th><th>Observed</th><th>Until</th><th>Actions</th></tr></thead>
      <tbody>${active.map((fault) => html`<tr key=${fault.id}><td class="name">${fault.fault}</td><td>${fault.service}</td><td class="wide"><${Witness} fault=${fault} /></td>
        <td><${Until} time=${fault.heals_at} /></td><td><button type="button" class="small" onClick=${() => heal([fault.id])}>Heal</button></td></tr>`)}</tbody></table></${Scroll}>`}
    ${former.length > 0 && html`<h2>Healed</h2><${Scroll} label="History"><table aria-label="History">
      <thead><tr><th>Fault</th><th>Service</th><th>From</th><th>Healed</th><th>Observed</th></tr></thead>
      <tbody>${former.map((fault) => html`<tr key=${fault.id}><td class="name">${fault.fault}</td><td>${fault.service}</td><td><${When} time=${fault.injected_at} /></td>
        <td><${When} time=${fault.healed_at} /></td><td class="wide"><${Witness} fault=${fault} /></td></tr>`)}</tbody></table></${Scroll}>`}
    ${open && html`<${Inject} services=${status?.services ?? []} close=${() => set(false)} />`}`;
}

/** @param {{fault: import("./store.js").Fault}} properties */
function Witness({ fault }) {
  const parameters = Object.entries(fault.parameters ?? {}).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
  return html`${fault.witness ? html`<${State} state=${fault.witness.observed ? "observed" : "failed"} /> ${fault.witness.what}
      ${fault.witness.after_ms != null && html` <small>after ${duration(fault.witness.after_ms)}</small>`}` : "not observed yet"}
    ${parameters && html`<div class="reason">${parameters}</div>`}`;
}

/** @param {{time?: string}} properties */
function Until({ time }) {
  const [, again] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => again((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  if (!time) return "until healed";
  return html`<span title=${time}>${duration(Math.max(0, Math.round((Date.parse(time) - Date.now()) / 1000) * 1000))} left</span>`;
}

/** @param {{services: import("./store.js").Service[], close: () => void}} properties */
function Inject({ services, close }) {
  const catalogue = useAnswer("/faults", {});
  const [name, choose] = useState("");
  const [service, on] = useState("");
  const [time, last] = useState("");
  const [values, change] = useState(/** @type {Record<string, string>} */ ({}));
  const [busy, set] = useState(false);
  const faults = catalogue.value?.faults ?? [];
  const fault = faults.find((one) => one.name === name);
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(time.trim());
  const ms = parts ? Number(parts[1]) * { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[parts[2]] : null;
  const inject = async (event) => {
    event.preventDefault();
    if (!name || !service) return;
    set(true);
    try {
      const parameters = Object.fromEntries(Object.entries(values).filter(([of, value]) => value && fault?.parameters.some((one) => one.name === of)));
      const done = ask("/v1/environment/chaos/inject", { target: store.target, fault: name, service, for_ms: ms, parameters });
      close();
      const made = await done;
      tell(`${made.fault} on ${made.service}`, made.witness?.what);
    } catch (error) {
      fail(error);
    }
  };
  return html`<${Dialog} title="Inject fault" label="Break something on purpose" onClose=${close}><form onSubmit=${inject}>
    <${Choose} label="Fault" value=${name} required=${true} autofocus=${true} onChange=${choose}>
      <option value="">choose…</option>${faults.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</${Choose}>
    <${Choose} label="Service" value=${service} required=${true} onChange=${on}>
      <option value="">choose…</option>${services.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</${Choose}>
    <p class="about-it">${fault?.about ?? "The fault ends by itself when its time is up."}</p>
    ${fault && fault.undone_by !== "nothing" && html`<label>For <input value=${time} placeholder="5m" aria-invalid=${time && !parts ? "true" : undefined} onInput=${(event) => last(event.target.value)} /></label>`}
    ${fault?.parameters.map((one) => html`<div class="choose" key=${one.name}><label for=${`set-${one.name}`}><code>${one.name}</code></label>
      <input id=${`set-${one.name}`} value=${values[one.name] ?? ""} aria-describedby=${`about-${one.name}`} placeholder=${one.default ?? one.form}
        onInput=${(event) => change({ ...values, [one.name]: event.target.value })} /><small id=${`about-${one.name}`}>${one.about}</small></div>`)}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button>
      <button type="submit" class="danger" disabled=${busy || !name || !service || (!!time && !parts)}>Inject fault</button></div></form></${Dialog}>`;
}
