// @ts-check
// Data: what the servers hold, rows, a box for read-only SQL, and what can be done with all of it.
import { html, useState } from "./html.js";
import { Asked, Choose, Empty, Filter, Head, Problem, carryOut, matcher, number, size } from "./parts.js";
import { useOutlines } from "./outline.js";
import { replace, to, useRoute } from "./route.js";
import { ask } from "./net.js";
import { Pages, Rows } from "./rows.js";
import { store, useAnswer, useStore } from "./store.js";
import { Backups, SaveSnapshot, Scripts, Snapshots } from "./keep.js";

/** Rows of a page. */
const PAGE = 100;
const SHOWN = [["", "Contents"], ["snapshots", "Snapshots"], ["backups", "Backups"], ["scripts", "Scripts"]];

export function Data() {
  const { path, query } = useRoute();
  const [filter, show] = [query.get("filter") ?? "", query.get("show") ?? ""];
  const { outlines, loading, again } = useOutlines(15_000);
  const [turn, changed] = useState(0);
  const wanted = matcher(filter);
  const renew = () => (again(), changed((n) => n + 1));
  const reset = async () => (await carryOut("reset", { services: [] }, "all data is initialised again")) && renew();
  const undo = async () => (await carryOut("undo", store.target ?? {}, "the data is as before")) && renew();
  return html`<${Head} title="Data">
      <nav class="tabs" aria-label="Parts of the data">${SHOWN.map(([of, title]) => html`<a key=${of} href=${to(["data"], { show: of })} aria-current=${show === of ? "page" : undefined}>${title}</a>`)}</nav>
      ${!show && html`<${Filter} value=${filter} hint="table, key, bucket" bad=${wanted.bad} onInput=${(text) => replace(["data", ...path], { filter: text })} />`}
      <div class="buttons"><${SaveSnapshot} done=${renew} />
        <${Asked} label="Reset all data" title="Reset all data?" yes="Reset" onYes=${reset}
          text="Every service with data is initialised and seeded again from the current files. Undo brings the present data back for a while." />
        <${Asked} label="Undo" title="Undo the last change of data?" yes="Undo" onYes=${undo}
          text="The data becomes what it was before the last reset, restore or removal." /></div></${Head}>
    ${show === "snapshots" && html`<${Snapshots} turn=${turn} renew=${renew} />`}
    ${show === "backups" && html`<${Backups} turn=${turn} renew=${renew} />`}
    ${show === "scripts" && html`<${Scripts} turn=${turn} renew=${renew} />`}
    ${!show && html`<div class="data"><${Tree} outlines=${outlines} wanted=${wanted} path=${path} loading=${loading} />
      <div class="contents"><${Query} outlines=${outlines} path=${path} />
        ${path.length !== 3 && outlines.some((outline) => outline.groups.some((group) => group.items.length)) && html`<${Empty}>Choose a table, a key or a bucket to see what it contains.</${Empty}>`}
        ${path.length === 3 && html`<${Contents} key=${path.join("\n")} path=${path} turn=${turn} />`}</div></div>`}`;
}

/** @param {{outlines: import("./outline.js").Outline[], wanted: {matches: (text: string) => boolean}, path: string[], loading: boolean}} properties */
function Tree({ outlines, wanted, path, loading }) {
  const shown = outlines.map((outline) => ({ ...outline, groups: outline.groups.filter((group) => !["topics", "consumer-groups"].includes(group.kind)) }))
    .filter((outline) => outline.error || outline.groups.length);
  return html`<div class="tree" role="group" aria-label="Servers">
    ${!shown.length && html`<${Empty}>${loading ? "Looking…" : "No running service holds data that can be shown."}</${Empty}>`}
    ${shown.map((outline) => html`<details open key=${outline.service}><summary>${outline.service} <small>${outline.kind}</small></summary>
      <${Problem} error=${outline.error} />
      ${outline.groups.map((group) => html`<details open key=${group.name}><summary>${group.name || group.kind} <small>${number(group.items.length)}${group.more ? "+" : ""}</small></summary>
        <ul>${group.items.filter((item) => wanted.matches(item.name)).map((item) => html`<${Leaf} key=${item.name} outline=${outline} group=${group} item=${item} path=${path} />`)}</ul>
        ${!group.items.length && html`<small class="empty">empty</small>`}
        ${group.more && html`<small class="empty">There are more. The filter searches only those shown.</small>`}</details>`)}</details>`)}</div>`;
}

/** @param {{outline: import("./outline.js").Outline, group: import("./outline.js").Group, item: import("./outline.js").Item, path: string[]}} properties */
function Leaf({ outline, group, item, path }) {
  const here = [outline.service, group.name, item.name];
  // The schema that everybody uses needs no mention.
  const [, schema, short] = group.kind === "database" ? (/^([^.]+)\.(.+)$/.exec(item.name) ?? ["", "", item.name]) : ["", "", item.name];
  return html`<li><a href=${to(["data", ...here])} aria-current=${here.join("\n") === path.join("\n") ? "true" : undefined} title=${item.detail}>
    <span>${short}</span>${schema && schema !== "public" && html`<small>${schema}</small>`}
    <small class="figure">${item.rows ? number(item.rows) : item.bytes != null ? size(item.bytes) : ""}</small></a></li>`;
}

/** @param {{path: string[], turn: number}} properties */
function Contents({ path, turn }) {
  const [service, group, item] = path;
  const { query } = useRoute();
  const target = useStore((state) => state.target);
  const [offset, rows, column] = [Number(query.get("offset")) || 0, query.get("rows") ?? "", query.get("sort") ?? ""];
  const sort = column ? { column: column.replace(/^-/, ""), descending: column.startsWith("-") } : null;
  const answer = useAnswer("/v1/environment/data/rows", { target, service, group, item, offset, limit: PAGE, filter: rows || undefined, sort: sort ?? undefined }, [turn]);
  const set = (more) => replace(["data", ...path], { filter: query.get("filter"), rows, sort: column, offset: offset ? String(offset) : "", ...more });
  return html`<section aria-label=${item}><header class="sub"><h2>${item}</h2>
      <label>Rows with <input type="search" value=${rows} onInput=${(event) => set({ rows: event.target.value, offset: "" })} /></label>
      <button type="button" class="small quiet" onClick=${answer.again}>Reload</button></header>
    <${Problem} error=${answer.error} />
    ${answer.value && html`<${Rows} answer=${answer.value} label=${`Rows of ${item}`} sort=${sort}
        onSort=${(name) => set({ sort: !sort || sort.column !== name ? name : sort.descending ? "" : `-${name}`, offset: "" })} />
      <${Pages} offset=${offset} count=${answer.value.rows.length} more=${answer.value.more} size=${PAGE} onMove=${(to) => set({ offset: to ? String(to) : "" })} />`}</section>`;
}

/** @param {{outlines: import("./outline.js").Outline[], path: string[]}} properties */
function Query({ outlines, path }) {
  const databases = outlines.flatMap((outline) => outline.groups.filter((group) => group.kind === "database").map((group) => ({ service: outline.service, database: group.name })));
  const [chosen, choose] = useState("");
  const [text, write] = useState("");
  const [state, set] = useState(/** @type {{answer: any, error: any, busy: boolean}} */ ({ answer: null, error: null, busy: false }));
  const key = (one) => `${one.service} / ${one.database}`;
  const at = databases.find((one) => key(one) === chosen) ?? databases.find((one) => one.service === path[0] && one.database === path[1]) ?? databases[0];
  if (!at) return null;
  const run = async (event) => {
    event?.preventDefault();
    if (!text.trim() || state.busy) return;
    set((now) => ({ ...now, busy: true }));
    try {
      const answer = await ask("/v1/environment/data/query", { target: store.target, service: at.service, database: at.database, text, limit: PAGE });
      set({ answer, error: null, busy: false });
    } catch (error) {
      set({ answer: null, error, busy: false });
    }
  };
  return html`<form class="query" onSubmit=${run}>
    <label class="sql"><span>SQL</span><textarea rows="2" spellcheck=${false} value=${text} placeholder="select …" onInput=${(event) => write(event.target.value)}
      onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && run(event)} /></label>
    <div class="buttons">${databases.length > 1 && html`<${Choose} label="In" value=${key(at)} onChange=${choose}>
        ${databases.map((one) => html`<option key=${key(one)} value=${key(one)}>${key(one)}</option>`)}</${Choose}>`}
      <button type="submit" class="primary" disabled=${state.busy}>Run</button>
      <small>as a role that cannot write, at most 5 s and ${PAGE} rows</small></div></form>
    <${Problem} error=${state.error} />
    ${state.answer && html`<section aria-label="Result"><${Rows} answer=${state.answer} label="Result" />
      ${state.answer.more && html`<small>There are more rows.</small>`}</section>`}`;
}
