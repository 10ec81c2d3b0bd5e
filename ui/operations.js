// @ts-check
// Operations: what changes an environment now, and what did.
import { html } from "./html.js";
import { Empty, Filter, Head, Scroll, State, When, duration, matcher, number, size } from "./parts.js";
import { replace, useRoute } from "./route.js";
import { ask } from "./net.js";
import { fail, useStore } from "./store.js";

export function Operations() {
  const { query } = useRoute();
  const filter = query.get("filter") ?? "";
  const wanted = matcher(filter);
  const operations = useStore((state) => state.operations);
  const shown = [...operations.values()].filter((one) => wanted.matches(`${one.id} ${one.kind} ${one.state} ${one.environment ?? ""} ${one.asked_by?.command ?? ""} ${one.message ?? ""}`))
    .sort((a, b) => (a.asked_at < b.asked_at ? 1 : -1));
  const cancel = async (id) => {
    try {
      await ask("/v1/operations/cancel", { id });
    } catch (error) {
      fail(error);
    }
  };
  return html`<${Head} title="Operations"><${Filter} value=${filter} bad=${wanted.bad} onInput=${(text) => replace(["operations"], { filter: text })} /></${Head}>
    ${!shown.length && html`<${Empty}>${filter ? "No operation matches." : "No operation yet."}</${Empty}>`}
    ${shown.length > 0 && html`<${Scroll} label="Operations"><table aria-label="Operations">
      <thead><tr><th>Operation</th><th>State</th><th class="optional">Environment</th><th>Requested</th><th>Took</th><th class="optional">Requested by</th><th>Detail</th></tr></thead>
      <tbody>${shown.map((one) => html`<tr key=${one.id}><td class="name">${one.id}</td><td><${State} state=${one.state} /></td><td class="optional">${one.environment ?? ""}</td>
        <td><${When} time=${one.asked_at} /></td><td class="figure">${duration(one.duration_ms)}</td><td class="optional"><code>${one.asked_by?.command ?? ""}</code></td>
        <td class="wide"><${Progress} progress=${one.progress} state=${one.state} />${one.message ?? ""}
          ${["waiting", "running"].includes(one.state) && html` <button type="button" class="small" aria-label=${`Cancel ${one.id}`} onClick=${() => cancel(one.id)}>Cancel</button>`}</td></tr>`)}
      </tbody></table></${Scroll}>`}`;
}

/** @param {{progress?: {done: number, total?: number, unit: string}, state: string}} properties */
function Progress({ progress, state }) {
  if (!progress || state !== "running") return null;
  return html`<span class="progress">${progress.total ? html`<progress max=${progress.total} value=${progress.done} aria-label="Progress" />` : null}
    ${progress.unit === "bytes" ? `${size(progress.done)}${progress.total ? ` of ${size(progress.total)}` : ""}` : `${number(progress.done)}${progress.total ? ` of ${number(progress.total)}` : ""} ${progress.unit}`}</span> `;
}
