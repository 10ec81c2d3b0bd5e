// @ts-check
// The frame around the views: navigation, the environment, the connection, keys, notices.
import { html, render, useEffect, useErrorBoundary, useState } from "./html.js";
import { Dialog, Head, Problem, State, arrive, marked } from "./parts.js";
import { go, route, to, useRoute } from "./route.js";
import { begin, dismiss, look, store, useStore } from "./store.js";
import { ask } from "./net.js";
import { Services } from "./services.js";
import { Logs } from "./logs.js";
import { Events } from "./events.js";
import { Traces } from "./traces.js";
import { Metrics } from "./metrics.js";
import { Data } from "./data.js";
import { Topics } from "./topics.js";
import { Chaos } from "./chaos.js";
import { Operations } from "./operations.js";
import { Environments } from "./environments.js";

/** Each with the key that goes there after `g`. @type {[string, string, any, string][]} */
const VIEWS = [
  ["Services", "services", Services, "s"],
  ["Logs", "logs", Logs, "l"],
  ["Events", "events", Events, "e"],
  ["Traces", "traces", Traces, "t"],
  ["Metrics", "metrics", Metrics, "m"],
  ["Data", "data", Data, "d"],
  ["Topics", "topics", Topics, "k"],
  ["Chaos", "chaos", Chaos, "c"],
  ["Operations", "operations", Operations, "o"],
  ["Environments", "environments", Environments, "n"],
];

function Page() {
  const { view, query } = useRoute();
  const target = useStore((state) => state.target);
  const [help, show] = useState(false);
  const found = VIEWS.find(([, name]) => name === view) ?? VIEWS[0];
  const environment = query.get("environment");
  useEffect(() => void chosen(environment), [environment]);
  // On a narrow screen the list of views scrolls.
  useEffect(() => {
    const here = /** @type {HTMLElement | null} */ (document.querySelector("aside nav [aria-current]"));
    here?.parentElement?.scrollTo({ left: here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2 });
  }, [found[1]]);
  useEffect(() => keyboard(() => show(true)), []);
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>Skip to the view</a>
    <aside>
      <p class="mark"><img src="icon.svg" alt="" width="20" height="20" /> devenv</p>
      <nav aria-label="Views">${VIEWS.map(([title, name, , key]) => html`<a key=${name} href=${to([name])} aria-current=${found[1] === name ? "page" : undefined}>
        ${title}<kbd aria-hidden="true">${key}</kbd></a>`)}</nav>
      <${About} help=${() => show(true)} />
    </aside>
    <main id="main" tabindex="-1"><${Connection} />${target && html`<${Guarded} key=${found[1] + JSON.stringify(target)} title=${found[0]} view=${found[2]} />`}</main>
    <${Notices} />
    ${help && html`<${Help} close=${() => show(false)} />`}`;
}

/** A view whose failure leaves the rest of the page usable. @param {{title: string, view: any}} properties */
function Guarded({ title, view }) {
  const [error, again] = useErrorBoundary((error) => console.error(error));
  if (!error) return html`<${view} />`;
  return html`<${Head} title=${title} /><${Problem} error=${{ message: `This view failed: ${error.message}`, hint: "The other views still work. Please report this with the text above." }} />
    <p><button type="button" onClick=${again}>Show it again</button></p>`;
}

/** @param {{help: () => void}} properties */
function About({ help }) {
  const status = useStore((state) => state.status);
  const version = useStore((state) => state.version);
  return html`<div class="about">
    ${status && html`<p title=${status.project}><strong>${status.project.split("/").pop()}</strong>${status.instance === "default" ? "" : ` · ${status.instance}`}</p>
      <p>${status.profile ?? "no profile"} <${State} state=${status.phase} /></p>`}
    <p><button type="button" class="small quiet" onClick=${help}>Keys <kbd aria-hidden="true">?</kbd></button> <small>${version}</small></p></div>`;
}

function Connection() {
  const connection = useStore((state) => state.connection);
  const phase = useStore((state) => state.status?.phase);
  const project = useStore((state) => state.status?.project);
  if (connection === "lost")
    return html`<div class="banner" role="status">The daemon does not answer. The page shows the last known state and continues when the daemon is back.</div>`;
  if (connection === "ended") return html`<div class="banner" role="alert">This page's session has ended. Run <code>devenv ui</code> for a new address.</div>`;
  if (phase === "absent") return html`<div class="banner calm" role="status">The environment is down. Run <code>devenv up</code> in <code>${project}</code> to start it.</div>`;
  return null;
}

function Notices() {
  const notices = useStore((state) => state.notices);
  return html`<div class="notices" aria-live="polite">${notices.map((notice) => html`<div key=${notice.id} class=${notice.bad ? "notice bad" : "notice"} role=${notice.bad ? "alert" : "status"}>
    <div><strong>${marked(notice.text)}</strong>${notice.hint && html`<span>${marked(notice.hint)}</span>`}</div>
    <button type="button" class="small quiet" aria-label="Dismiss" onClick=${() => dismiss(notice.id)}>✕</button></div>`)}</div>`;
}

/** @param {{close: () => void}} properties */
function Help({ close }) {
  return html`<${Dialog} title="Keys" onClose=${close}>
    <dl class="keys"><dt><kbd>/</kbd></dt><dd>filter this view</dd><dt><kbd>?</kbd></dt><dd>show these keys</dd><dt><kbd>Esc</kbd></dt><dd>close a dialog, leave a field</dd>
    ${VIEWS.map(([title, , , key]) => html`<dt><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${title}</dd>`)}</dl>
    <div class="buttons"><button type="button" onClick=${close}>Close</button></div></${Dialog}>`;
}

/** @param {() => void} help */
function keyboard(help) {
  let after = 0;
  const pressed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const inBox = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (inBox) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "?") help();
    else if (event.key === "/") {
      const filter = /** @type {HTMLInputElement | null} */ (document.getElementById("filter"));
      filter?.focus();
      filter?.select();
      if (filter) event.preventDefault();
    } else if (event.key === "g") after = Date.now();
    else if (Date.now() - after < 1500) {
      after = 0;
      const found = VIEWS.find(([, , , key]) => key === event.key);
      if (!found) return;
      event.preventDefault();
      if (route().view === found[1]) document.querySelector("h1")?.focus();
      else arrive();
      go([found[1]]);
    }
  };
  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}

/** Looks at the environment of this id, or at the one of `devenv ui`. @param {string | null} id */
async function chosen(id) {
  if (!id) {
    if (store.home) look(store.home);
    return;
  }
  try {
    const found = (await ask("/v1/environments")).find((one) => one.environment === id);
    if (found) look({ project: found.project, instance: found.instance });
  } catch {
    // The banner says that the daemon does not answer.
  }
}

const element = /** @type {HTMLElement} */ (document.getElementById("page"));
element.replaceChildren();
render(html`<${Page} />`, element);
void begin();
