// @ts-check
// What is kept of the data: snapshots, backups, and the ledger of scripts.
import { html, useState } from "./html.js";
import { Asked, Dialog, Empty, Problem, Scroll, State, When, carryOut, duration, number, size } from "./parts.js";
import { ask } from "./net.js";
import { fail, store, tell, useAnswer, useStore } from "./store.js";

/** @param {{done: () => void}} properties */
export function SaveSnapshot({ done }) {
  const [open, set] = useState(false);
  const [name, write] = useState("");
  const [busy, wait] = useState(false);
  const save = async (event) => {
    event.preventDefault();
    wait(true);
    set(false);
    if (await carryOut("snapshot-save", { name }, `snapshot ${name} is saved`)) write("");
    wait(false);
    done();
  };
  return html`<button type="button" disabled=${busy} onClick=${() => set(true)}>${busy ? "Saving…" : "Save snapshot"}</button>
    ${open && html`<${Dialog} title="Save snapshot" onClose=${() => set(false)}><form onSubmit=${save}>
      <p>A copy of the data of all services, from which it can be restored. The services pause for a moment.</p>
      <label>Name <input value=${name} required pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" maxlength="40" autofocus onInput=${(event) => write(event.target.value)} /></label>
      <div class="buttons"><button type="button" onClick=${() => set(false)}>Cancel</button><button type="submit" class="primary" disabled=${!name}>Save</button></div></form></${Dialog}>`}`;
}

/** @param {{turn: number, renew: () => void}} properties */
export function Snapshots({ turn, renew }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/v1/environment/snapshots", target, [turn]);
  const act = async (kind, name, done) => (await carryOut(kind, { name }, done)) && renew();
  const all = answer.value?.snapshots ?? [];
  return html`<${Problem} error=${answer.error} />${answer.value && !all.length && html`<${Empty}>No snapshot yet.</${Empty}>`}
    ${all.length > 0 && html`<${Scroll} label="Snapshots"><table aria-label="Snapshots"><thead><tr><th>Name</th><th>Saved</th><th>Services</th><th>Size</th><th>Actions</th></tr></thead>
      <tbody>${all.map((one) => html`<tr key=${one.name}><td class="name">${one.name}</td><td><${When} time=${one.created_at} /></td><td>${one.services.map((part) => part.name).join(", ")}</td>
        <td class="figure">${size(one.size)}</td><td><span class="buttons">
          <${Asked} small label=${`Restore ${one.name}`} short="Restore" title=${`Restore ${one.name}?`} yes="Restore" text="Replaces the present data of its services. Undo brings that data back for a while."
            onYes=${() => act("snapshot-restore", one.name, `${one.name} is restored`)} />
          <${Asked} small label=${`Remove ${one.name}`} short="Remove" title=${`Remove ${one.name}?`} yes="Remove" text="A removed snapshot cannot be brought back."
            onYes=${() => act("snapshot-remove", one.name, `${one.name} is removed`)} /></span></td></tr>`)}</tbody></table></${Scroll}>`}`;
}

/** @param {{turn: number, renew: () => void}} properties */
export function Backups({ turn, renew }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/v1/environment/backups", target, [turn]);
  const [busy, set] = useState(false);
  const all = [...(answer.value?.backups ?? [])].reverse();
  const save = async () => {
    set(true);
    await carryOut("backup", { services: [] }, "the backup is complete");
    set(false);
    renew();
  };
  return html`<p><button type="button" disabled=${busy} onClick=${save}>${busy ? "Backing up…" : "Back up now"}</button></p><${Problem} error=${answer.error} />
    ${answer.value && !all.length && html`<${Empty}>No backup yet.</${Empty}>`}
    ${all.length > 0 && html`<${Scroll} label="Backups"><table aria-label="Backups"><thead><tr><th>Id</th><th>Taken</th><th>Services</th><th>Size</th><th>Actions</th></tr></thead>
      <tbody>${all.map((one) => html`<tr key=${one.id}><td class="name">${one.id}</td><td><${When} time=${one.created_at} /></td>
        <td class="wide">${one.services.map((part) => (part.skipped ? `${part.service} (left out: ${part.skipped})` : part.service)).join(", ")}</td><td class="figure">${size(one.size)}</td>
        <td><${Asked} small label=${`Restore ${one.id}`} short="Restore" title="Restore this backup?" yes="Restore" text="The present data of its services is replaced by that of the backup."
          onYes=${async () => (await carryOut("backup-restore", { id: one.id }, "the backup is restored")) && renew()} /></td></tr>`)}</tbody></table></${Scroll}>`}`;
}

/** @param {{turn: number, renew: () => void}} properties */
export function Scripts({ turn, renew }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/v1/environment/ledger", target, [turn]);
  const all = answer.value?.entries ?? [];
  const [compared, compare] = useState("");
  const accept = async (path, how, done) => {
    try {
      await ask(`/v1/environment/ledger/${how}`, { target: store.target, path });
      tell(done);
    } catch (error) {
      fail(error);
    }
    renew();
  };
  const drift = all.filter((one) => one.state === "changed");
  return html`<${Problem} error=${answer.error} />${answer.value && !all.length && html`<${Empty}>The profile has no scripts and no seeds.</${Empty}>`}
    ${drift.length > 0 && html`<div class="banner calm" role="status">${drift.length === 1 ? "1 file differs" : `${number(drift.length)} files differ`} from what was applied. Accept a change that the data has already; reset the data to apply all files from the beginning.</div>`}
    ${all.length > 0 && html`<${Scroll} label="Scripts"><table aria-label="Scripts"><thead><tr><th>File</th><th>For</th><th>State</th><th>Applied</th><th>Took</th><th>Rows</th><th>Actions</th></tr></thead>
      <tbody>${all.map((one) => html`<tr key=${one.service + one.database + one.path}><td class="name">${one.path}</td><td>${one.service}${one.database ? ` / ${one.database}` : ""}</td>
        <td><${State} state=${one.state} />${one.error && html`<div class="reason">${one.error}</div>`}
          ${one.state === "changed" && html`<div class="reason">the file was edited after it was applied as <code title=${one.checksum}>${one.checksum?.slice(0, 12)}</code></div>
            <button type="button" class="link" aria-label=${`What differs in ${one.path}`} onClick=${() => compare(one.path)}>What differs</button>`}</td><td><${When} time=${one.applied_at} /></td>
        <td class="figure">${duration(one.duration_ms)}</td><td class="figure">${number(one.rows)}</td>
        <td>${one.state === "changed" && html`<button type="button" class="small" aria-label=${`Accept ${one.path}`} onClick=${() => accept(one.path, "accept", `${one.path} counts as applied`)}>Accept</button>`}
          ${["interrupted", "failed"].includes(one.state) && html`<${Asked} small label=${`Apply ${one.path} again`} short="Apply again" title="Apply it again?" yes="Apply"
            text="The script is applied from its beginning." onYes=${() => accept(one.path, "run", `${one.path} is applied`)} />`}</td></tr>`)}</tbody></table></${Scroll}>`}
    ${compared && html`<${Differences} path=${compared} close=${() => compare("")} />`}`;
}

/** The lines of a script that differ from what was applied, in each place where it was applied. @param {{path: string, close: () => void}} properties */
function Differences({ path, close }) {
  const target = useStore((state) => state.target);
  const answer = useAnswer("/v1/environment/ledger/changes", { target, path });
  const scripts = (answer.value?.scripts ?? []).filter((one) => one.lines.length || one.incomplete);
  const signs = { same: " ", removed: "−", added: "+" }, words = { same: "", removed: "removed: ", added: "added: " };
  return html`<${Dialog} wide title=${`What differs in ${path}`} onClose=${close}><${Problem} error=${answer.error} />
    ${answer.loading && html`<${Empty}>Comparing…</${Empty}>`}
    ${answer.value && !scripts.length && html`<${Empty}>The file is what was applied.</${Empty}>`}
    ${scripts.map((one) => html`<section key=${one.service + one.database}><h3>${one.service}${one.database ? ` / ${one.database}` : ""}</h3>
      ${one.incomplete && html`<p class="reason">${one.incomplete}</p>`}
      ${one.lines.length > 0 && html`<div class="scroll rows" tabindex="0" role="region" aria-label=${`Lines of ${path} for ${one.service}`}><table class="differences" aria-label=${`Lines of ${path}`}>
        <thead><tr><th>Applied</th><th>Now</th><th>Line</th></tr></thead>
        <tbody>${one.lines.map((line, at) => html`<tr key=${at} class=${line.change}><td class="figure">${line.applied ?? ""}</td><td class="figure">${line.present ?? ""}</td>
          <td><span aria-hidden="true">${signs[line.change]} </span><span class="spoken">${words[line.change]}</span>${line.text}</td></tr>`)}</tbody></table></div>`}</section>`)}
    <div class="buttons"><button type="button" autofocus onClick=${close}>Close</button></div></${Dialog}>`;
}
