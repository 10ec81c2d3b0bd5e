// @ts-check
// Scenarios of chaos: those that there are, one that runs, and the runs that are kept.
import { html, useState } from "./html.js";
import { Dialog, Empty, Filter, Head, Problem, Scroll, State, When, duration, marked, matcher, number } from "./parts.js";
import { ask } from "./net.js";
import { replace, to, useRoute } from "./route.js";
import { fail, store, tell, useAnswer, useStore } from "./store.js";

/** @typedef {{name: string, built_in: boolean, profile?: string, description?: string, faults: {id: string, fault: string, on: string}[], workloads: string[], checks: string[], deadline_ms?: number, problem?: string}} Scenario */
/** @typedef {{run: string, scenario: string, seed: number, began_at: string, state: "running" | "completed" | "interrupted", last?: string, end?: {at: string, verdict: string, healed: boolean, reason?: string}}} Run */

/** @param {{tabs: any}} properties */
export function Scenarios({ tabs }) {
  const { query } = useRoute();
  const target = useStore((state) => state.target);
  const profile = useStore((state) => state.status?.profile);
  const filter = query.get("filter") ?? "";
  const known = useAnswer("/chaos/scenarios", { target });
  const kept = useAnswer("/chaos/runs", { target }, [], 1500);
  const [chosen, choose] = useState(/** @type {Scenario | null} */ (null));
  const wanted = matcher(filter);
  const runs = /** @type {Run[]} */ (kept.value?.runs ?? []);
  const asked = kept.value?.asked;
  const running = runs.find((run) => run.state === "running");
  const isBusy = !!running || !!asked?.is_running;
  // Those of the project and of the present profile first.
  const rank = (scenario) => (scenario.problem ? 3 : !scenario.built_in ? 0 : scenario.profile === profile ? 1 : 2);
  const scenarios = /** @type {Scenario[]} */ (known.value?.scenarios ?? []).filter((one) => wanted.matches(`${one.name} ${one.description ?? ""} ${one.profile ?? ""} ${one.faults.map((fault) => fault.fault).join(" ")}`))
    .sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  const begin = async (scenario, seed) => {
    choose(null);
    try {
      await ask("/chaos/run", { target: store.target, scenario, seed: seed === "" ? undefined : Number(seed) });
      tell(`${scenario} begins`);
    } catch (error) {
      fail(error);
    }
    kept.again();
  };
  const end = async () => {
    try {
      await ask("/chaos/end", { target: store.target });
      tell("the scenario ends", "Its faults are undone first.");
    } catch (error) {
      fail(error);
    }
    kept.again();
  };
  return html`<${Head} title="Chaos">${tabs}<${Filter} value=${filter} hint="scenario, fault or profile" bad=${wanted.bad} onInput=${(text) => replace(["chaos"], { show: "scenarios", filter: text })} /></${Head}>
    <${Problem} error=${known.error ?? kept.error} />
    ${isBusy && html`<div class="banner calm" role="status"><strong>${running?.scenario ?? asked.scenario}</strong> is running: ${running?.last ?? "the environment starts"}
      <span class="buttons"> <button type="button" class="small" onClick=${end}>Stop the scenario</button></span></div>`}
    ${!isBusy && asked?.error && html`<${Problem} error=${{ message: `${asked.scenario}: ${asked.error.message}`, hint: asked.error.hint ?? asked.error.problems?.[0]?.message }} />`}
    ${known.value && !scenarios.length && html`<${Empty}>No scenario matches.</${Empty}>`}
    ${scenarios.length > 0 && html`<${Scroll} label="Scenarios"><table aria-label="Scenarios"><thead><tr><th>Scenario</th><th>What it does</th><th class="optional">Profile</th><th>Actions</th></tr></thead>
      <tbody>${scenarios.map((one) => html`<tr key=${one.name}><td class="name">${one.name}${!one.built_in && html` <small>of the project</small>`}</td>
        <td class="wide">${one.problem ? html`<span class="state bad">${one.problem}</span>` : (one.description ?? "")}
          <div>${[...new Set(one.faults.map((fault) => `${fault.fault} on ${fault.on}`))].map((text) => html`<span class="chip fault" key=${text}>${text}</span>`)}</div></td>
        <td class="optional">${one.profile ?? "the running one"}</td>
        <td><button type="button" class="small" disabled=${isBusy || !!one.problem} aria-label=${`Run ${one.name}`} onClick=${() => choose(one)}>Run…</button></td></tr>`)}</tbody></table></${Scroll}>`}
    <h2>Runs</h2>${kept.value && !runs.length && html`<${Empty}>No scenario was run in this environment.</${Empty}>`}
    ${runs.length > 0 && html`<${Scroll} label="Runs"><table aria-label="Runs"><thead><tr><th>Scenario</th><th>Verdict</th><th>Began</th><th class="optional">Took</th><th class="optional">Seed</th></tr></thead>
      <tbody>${runs.map((run) => html`<tr key=${run.run}><td class="name">${run.end ? html`<a href=${to(["chaos", run.run])} aria-label=${`Report of ${run.scenario}, run ${run.run}`}>${run.scenario}</a>` : run.scenario}</td>
        <td class="wide"><${State} state=${run.end?.verdict ?? run.state} />${run.end && !run.end.healed && html` <span class="state bad">some faults are not undone</span>`}${run.end?.reason && html`<div class="reason" title=${run.end.reason}>${run.end.reason}</div>`}</td>
        <td><${When} time=${run.began_at} /></td><td class="optional figure">${run.end && duration(Date.parse(run.end.at) - Date.parse(run.began_at))}</td><td class="optional figure">${number(run.seed)}</td></tr>`)}</tbody></table></${Scroll}>`}
    ${chosen && html`<${Begin} scenario=${chosen} profile=${profile} close=${() => choose(null)} begin=${(seed) => begin(chosen.name, seed)} />`}`;
}

/** @param {{scenario: Scenario, profile?: string, close: () => void, begin: (seed: string) => void}} properties */
function Begin({ scenario, profile, close, begin }) {
  const [seed, set] = useState("");
  const other = scenario.profile && profile && scenario.profile !== profile;
  return html`<${Dialog} title=${`Run ${scenario.name}?`} onClose=${close}><form onSubmit=${(event) => (event.preventDefault(), begin(seed))}>
    <p>${scenario.description ?? "Workloads run while faults are injected; then the data is checked."}</p>
    <p>${marked(`It injects faults into services of this environment, undoes all of them at the end, and gives a verdict.${scenario.deadline_ms ? ` It takes at most ${duration(scenario.deadline_ms)}.` : ""}`)}</p>
    ${scenario.checks.length > 0 && html`<p>Checks: ${scenario.checks.map((check) => html`<span class="chip" key=${check}>${check}</span>`)}</p>`}
    ${other && html`<p class="state bad">It starts the profile ${scenario.profile} in place of ${profile}.</p>`}
    <label>Seed <input inputmode="numeric" pattern="[0-9]{1,15}" value=${seed} placeholder="the scenario's own" onInput=${(event) => set(event.target.value)} /></label>
    <div class="buttons"><button type="button" autofocus onClick=${close}>Cancel</button><button type="submit" class="danger">Run it</button></div></form></${Dialog}>`;
}
