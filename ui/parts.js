// @ts-check
// What several views are made of.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { operate } from "./net.js";
import { changed, fail, store, tell } from "./store.js";

/** Words for a state, with a colour that never carries the meaning alone. */
const TONES = {
  good: ["ready", "completed", "succeeded", "applied", "observed", "live", "pass"],
  busy: ["pending", "pulling", "creating", "starting", "provisioning", "stopping", "running", "waiting", "degraded", "changed"],
  bad: ["failed", "crash-loop", "unhealthy", "unreachable", "error", "lost", "interrupted", "fail", "firing"],
};

/** @param {string} state */
export function tone(state) {
  for (const [name, states] of Object.entries(TONES)) if (states.includes(state)) return name;
  return "quiet";
}

/** @param {{state: string}} properties */
export function State({ state }) {
  // What the interface of the daemon calls absent, commands call down.
  return html`<span class=${"state " + tone(state)}>${state === "absent" ? "down" : state}</span>`;
}

/** @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms == null) return "";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1).replace(/\.0$/, "") : Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0).replace(/\.0$/, "")} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
}

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (bytes == null) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (bytes >= 1024 && at < units.length - 1) (bytes /= 1024), at++;
  return `${at && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

/** @param {number | null | undefined} count */
export const number = (count) => (count == null ? "" : count.toLocaleString("en").replaceAll(",", "\u202f"));

/** `14:03:07.123`, in the reader's time zone. @param {string | number} time */
export function clock(time, fraction = true) {
  const date = new Date(time);
  if (isNaN(date.getTime())) return String(time);
  const two = (n) => String(n).padStart(2, "0");
  const plain = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return fraction ? `${plain}.${String(date.getMilliseconds()).padStart(3, "0")}` : plain;
}

/** The time of today, else the date too; with `exact` to the second. In the reader's time zone. @param {{time?: string | null, exact?: boolean}} properties */
export function When({ time, exact }) {
  if (!time) return null;
  const date = new Date(time);
  if (isNaN(date.getTime())) return html`<span>${time}</span>`;
  const today = date.toDateString() === new Date().toDateString();
  return html`<time datetime=${time} title=${time}>${today ? clock(time, false) : `${date.toLocaleDateString("sv")} ${clock(time, false).slice(0, exact ? 8 : 5)}`}</time>`;
}

let isArriving = false;

/** Puts the focus on the heading of the view that is shown next, in the moment in which it appears. */
export function arrive() {
  isArriving = true;
}

/** @param {{title: string, children?: any}} properties */
export function Head({ title, children }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    document.title = `${title} · devenv`;
  }, [title]);
  useLayoutEffect(() => {
    if (isArriving) heading.current?.focus();
    isArriving = false;
  }, []);
  return html`<header class="head"><h1 ref=${heading} tabindex="-1">${title}</h1>${children}</header>`;
}

/**
 * A box around a table. Where the table is wider, it scrolls, with keys too.
 * @param {{label: string, children?: any}} properties
 */
export function Scroll({ label, children }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const look = () => {
      const element = box.current;
      if (!element) return;
      const scrolls = element.scrollWidth > element.clientWidth;
      for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", `${label}, scrolls sideways`]]) scrolls ? element.setAttribute(name, value) : element.removeAttribute(name);
    };
    const watch = new ResizeObserver(look);
    for (const element of [box.current, box.current?.firstElementChild]) if (element) watch.observe(element);
    return () => watch.disconnect();
  }, [label]);
  return html`<div class="scroll" ref=${box}>${children}</div>`;
}

/** @param {{children?: any}} properties */
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** Text in which names and commands are in backquotes. @param {string} text */
export function marked(text) {
  return text.split(/`([^`\n]{1,200})`/).map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));
}

/** @param {{error: any}} properties */
export function Problem({ error }) {
  if (!error) return null;
  return html`<div class="problem" role="alert"><strong>${marked(error.message)}</strong>${error.hint && html`<span>${marked(error.hint)}</span>`}</div>`;
}

/** @param {{text: string, what: string}} properties */
export function Copy({ text, what }) {
  const [done, set] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set(true);
      setTimeout(() => set(false), 1500);
    } catch (error) {
      fail(error);
    }
  };
  return html`<button class="small quiet" type="button" onClick=${copy} aria-label=${`Copy ${what}`}>${done ? "copied" : "copy"}</button>`;
}

/**
 * The box for a search. `/` puts the cursor into it.
 * @param {{value: string, onInput: (text: string) => void, hint?: string, bad?: boolean}} properties
 */
export function Filter({ value, onInput, hint, bad }) {
  return html`<label class="filter"><span>Filter</span>
    <input type="search" id="filter" value=${value} placeholder=${hint ?? "text or /regex/"} aria-invalid=${bad ? "true" : undefined}
      spellcheck=${false} autocomplete="off" onInput=${(event) => onInput(event.target.value)} /></label>`;
}

/**
 * A labelled list to choose from. The label does not enclose it, or the choices would be part of its name.
 * @param {{label: string, value: string, onChange: (value: string) => void, children: any, required?: boolean, autofocus?: boolean}} properties
 */
export function Choose({ label, value, onChange, children, required, autofocus }) {
  const id = `choose-${label.toLowerCase().replaceAll(" ", "-")}`;
  return html`<span class="choose"><label for=${id}>${label}</label>
    <select id=${id} value=${value} required=${required} autofocus=${autofocus} onChange=${(event) => onChange(event.target.value)}>${children}</select></span>`;
}

/** Text, or `/regex/`. @param {string} text @returns {{matches: (line: string) => boolean, bad: boolean}} */
export function matcher(text) {
  const form = /^\/(.*)\/([iu]*)$/.exec(text);
  if (form && form[1]) {
    try {
      const regex = new RegExp(form[1], form[2]);
      return { matches: (line) => regex.test(line), bad: false };
    } catch {
      return { matches: () => true, bad: true };
    }
  }
  const wanted = text.toLowerCase();
  return { matches: wanted ? (line) => line.toLowerCase().includes(wanted) : () => true, bad: false };
}

/** @param {{title: string, label?: string, onClose: () => void, children: any, wide?: boolean}} properties */
export function Dialog({ title, label, onClose, children, wide }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    element.current?.showModal();
    // This runs a little after the dialog is gone: the reader may be in another place by then.
    return () => void (document.activeElement === document.body && before?.focus?.());
  }, []);
  return html`<dialog ref=${element} class=${wide ? "wide" : ""} aria-label=${label ?? title} onClose=${onClose}
    onCancel=${(event) => (event.preventDefault(), onClose())}
    onClick=${(event) => event.target === element.current && onClose()}>
    <div class="inside"><h2>${title}</h2>${children}</div></dialog>`;
}

/**
 * A button that asks before it acts.
 * @param {{label: string, short?: string, title: string, text: any, yes: string, onYes: () => void | Promise<void>, small?: boolean}} properties `short` is shown where the row says the rest.
 */
export function Asked({ label, short, title, text, yes, onYes, small }) {
  const [open, set] = useState(false);
  return html`<button type="button" class=${"danger" + (small ? " small" : "")} aria-label=${short && label} onClick=${() => set(true)}>${short ?? label}</button>
    ${open && html`<${Dialog} title=${title} onClose=${() => set(false)}><p>${text}</p>
      <div class="buttons"><button type="button" autofocus onClick=${() => set(false)}>Cancel</button>
      <button type="button" class="danger" onClick=${() => (set(false), onYes())}>${yes}</button></div></${Dialog}>`}`;
}

/**
 * Submits an operation, and reports how it ends.
 * @param {string} kind
 * @param {object} request
 * @param {string} done
 */
export async function carryOut(kind, request, done) {
  try {
    await operate(kind, { target: store.target, ...request });
    tell(done);
    return true;
  } catch (error) {
    fail(error);
    return false;
  } finally {
    changed();
  }
}

/**
 * Opens with Enter or a click anywhere in the row that is no button, link or selection of text.
 * @param {() => void} open
 */
export const opens = (open) => ({
  onClick: (event) => {
    if (event.target.closest("button, a, input, select")) return;
    if (getSelection()?.toString()) return;
    open();
  },
});
