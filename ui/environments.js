// @ts-check
// Environments: all of this user's, and the removal of what no environment needs.
import { html, useEffect, useState } from "./html.js";
import { Asked, Dialog, Empty, Filter, Head, Problem, Scroll, State, marked, matcher, number, size } from "./parts.js";
import { replace, to, useRoute } from "./route.js";
import { operate } from "./net.js";
import { fail, same, store, tell, useAnswer, useStore } from "./store.js";

export function Environments() {
  const { query } = useRoute();
  const target = useStore((state) => state.target);
  const filter = query.get("filter") ?? "";
  const wanted = matcher(filter);
  const answer = useAnswer("/v1/environments", {}, [], 3000);
  const used = useAnswer("/v1/environments/usage", {}, [], 20_000);
  const uses = new Map((used.value ?? []).map((one) => [one.environment, one]));
  const shown = (answer.value ?? []).filter((one) => wanted.matches(`${one.environment} ${one.project} ${one.profile ?? ""} ${one.phase}`));
  const down = async (one) => {
    try {
      await operate("down", { target: { project: one.project, instance: one.instance }, volumes: false });
      tell(`${one.environment} is down; its data is kept`);
      answer.again();
    } catch (error) {
      fail(error);
    }
  };
  /** @param {any} one @param {"sleep" | "wake"} kind */
  const turn = async (one, kind) => {
    try {
      await operate(kind, { target: { project: one.project, instance: one.instance }, services: [] });
      tell(kind === "wake" ? `${one.environment} is awake` : `${one.environment} sleeps until a client connects`);
    } catch (error) {
      fail(error);
    }
    answer.again();
  };
  return html`<${Head} title="Environments"><${Filter} value=${filter} bad=${wanted.bad} onInput=${(text) => replace(["environments"], { filter: text })} />
      <div class="buttons"><${CleanUp} /></div></${Head}>
    <${Problem} error=${answer.error} />
    ${answer.value && !shown.length && html`<${Empty}>No environment matches.</${Empty}>`}
    ${shown.length > 0 && html`<${Scroll} label="Environments"><table aria-label="Environments">
      <thead><tr><th>Environment</th><th>State</th><th class="optional">Profile</th><th class="optional">Services</th><th>Memory</th><th>Disk</th><th class="optional">Project</th><th>Actions</th></tr></thead>
      <tbody>${shown.map((one) => {
        const here = target && same(target, one);
        const home = store.home && same(store.home, one);
        return html`<tr key=${one.environment} class=${here ? "chosen" : ""}><td class="name" title=${one.project}><a href=${to(["services"], { environment: home ? "" : one.environment })}>${one.environment}</a></td>
          <td><${State} state=${one.phase} /></td><td class="optional">${one.profile ?? ""}</td><td class="optional figure">${one.services.length}</td>
          <${Uses} uses=${uses.get(one.environment)} loading=${used.loading && !used.value} /><td class="wide optional">${one.project}</td>
          <td><span class="buttons">${one.phase === "ready" && html`<button type="button" class="small" aria-label=${`Put ${one.environment} to sleep`} onClick=${() => turn(one, "sleep")}>Sleep</button>`}
            ${one.services.some((service) => service.state === "asleep") && html`<button type="button" class="small" aria-label=${`Wake ${one.environment}`} onClick=${() => turn(one, "wake")}>Wake</button>`}
            ${!["absent", "stopped"].includes(one.phase) && html`<${Asked} small short="Take down" label=${`Take down ${one.environment}`} title=${`Take down ${one.environment}?`} yes="Take down"
            text=${marked(`Its containers and processes end. Its data is kept, and \`devenv up\` starts it again.`)} onYes=${() => down(one)} />`}</span></td></tr>`;
      })}</tbody></table></${Scroll}>`}`;
}

/** @param {{uses?: {memory: number, volumes?: number, files: number}, loading: boolean}} properties */
function Uses({ uses, loading }) {
  if (!uses) return html`<td class="figure"><span class="null">${loading ? "…" : "–"}</span></td><td class="figure"><span class="null">${loading ? "…" : "–"}</span></td>`;
  const volumes = uses.volumes == null ? "the engine has not measured the volumes" : `volumes ${size(uses.volumes)}`;
  return html`<td class="figure">${size(uses.memory)}</td><td class="figure" title=${`${volumes}, logs and other files ${size(uses.files)}`}>${uses.volumes == null ? "at least " : ""}${size((uses.volumes ?? 0) + uses.files)}</td>`;
}

/** Shows what would be removed before it asks. */
function CleanUp() {
  const [open, set] = useState(false);
  return html`<button type="button" onClick=${() => set(true)}>Clean up…</button>${open && html`<${Proposal} close=${() => set(false)} />`}`;
}

/** @param {{close: () => void}} properties */
function Proposal({ close }) {
  const [all, choose] = useState(false);
  const [found, set] = useState(/** @type {{removed: {kind: string, name: string, reason: string}[] | null, error: any}} */ ({ removed: null, error: null }));
  const [busy, wait] = useState(false);
  useEffect(() => {
    let current = true;
    set({ removed: null, error: null });
    operate("gc", { dry_run: true, all }).then((report) => current && set({ removed: report.removed, error: null }), (error) => current && set({ removed: null, error }));
    return () => void (current = false);
  }, [all]);
  const remove = async () => {
    wait(true);
    try {
      const { removed } = await operate("gc", { all });
      tell(removed.length === 1 ? "1 object is removed" : `${removed.length} objects are removed`);
      close();
    } catch (error) {
      fail(error);
      wait(false);
    }
  };
  const count = found.removed?.length ?? 0;
  return html`<${Dialog} wide title="Clean up" onClose=${close}>
    <p>Removes containers, networks, volumes and files that no environment needs. The data of your environments stays.</p>
    <p><label class="check"><input type="checkbox" checked=${all} onChange=${(event) => choose(event.target.checked)} /> also the trash, which Undo needs, and the copies of fresh data, which make the next start fast</label></p>
    <${Problem} error=${found.error} />
    ${!found.removed && !found.error && html`<${Empty}>Looking…</${Empty}>`}
    ${found.removed && !count && html`<${Empty}>There is nothing to remove.</${Empty}>`}
    ${count > 0 && html`<div class="scroll rows" tabindex="0" role="region" aria-label="What would be removed"><table aria-label="Would be removed"><thead><tr><th>Kind</th><th>Name</th><th>Why</th></tr></thead>
      <tbody>${found.removed?.map((one) => html`<tr key=${one.kind + one.name}><td>${one.kind}</td><td title=${one.name}>${one.name}</td><td title=${one.reason}>${one.reason}</td></tr>`)}</tbody></table></div>`}
    <div class="buttons"><button type="button" autofocus onClick=${close}>Cancel</button>
      <button type="button" class="danger" disabled=${!count || busy} onClick=${remove}>${busy ? "Removing…" : count ? `Remove ${number(count)}` : "Remove"}</button></div></${Dialog}>`;
}
