// @ts-check
// Environments: all of this user's.
import { html } from "./html.js";
import { Asked, Empty, Filter, Head, Problem, State, matcher } from "./parts.js";
import { replace, to, useRoute } from "./route.js";
import { operate } from "./net.js";
import { fail, same, store, tell, useAnswer, useStore } from "./store.js";

export function Environments() {
  const { query } = useRoute();
  const target = useStore((state) => state.target);
  const filter = query.get("filter") ?? "";
  const wanted = matcher(filter);
  const answer = useAnswer("/v1/environments", {}, [], 3000);
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
  return html`<${Head} title="Environments"><${Filter} value=${filter} bad=${wanted.bad} onInput=${(text) => replace(["environments"], { filter: text })} /></${Head}>
    <${Problem} error=${answer.error} />
    ${answer.value && !shown.length && html`<${Empty}>There is none.</${Empty}>`}
    ${shown.length > 0 && html`<div class="scroll"><table aria-label="Environments">
      <thead><tr><th>Environment</th><th>State</th><th class="optional">Profile</th><th class="optional">Services</th><th>Project</th><th>Actions</th></tr></thead>
      <tbody>${shown.map((one) => {
        const here = target && same(target, one);
        const home = store.home && same(store.home, one);
        return html`<tr key=${one.environment} class=${here ? "chosen" : ""}><td class="name"><a href=${to(["services"], { environment: home ? "" : one.environment })}>${one.environment}</a></td>
          <td><${State} state=${one.phase} /></td><td class="optional">${one.profile ?? ""}</td><td class="optional figure">${one.services.length}</td><td class="wide">${one.project}</td>
          <td>${!["absent", "stopped"].includes(one.phase) && html`<${Asked} small label=${`Take down ${one.environment}`} title="Take it down?" yes="Take down"
            text=${`Containers and processes of ${one.environment} are removed. Its data is kept.`} onYes=${() => down(one)} />`}</td></tr>`;
      })}</tbody></table></div>`}`;
}
