// @ts-check
// Logs: all lines or those of some services, as they are written. Only the lines in sight are elements.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import { pieces } from "./ansi.js";
import { clear, folded, lines, onLines, traceIds } from "./lines.js";
import { Choose, Copy, Empty, Filter, Head, clock, matcher, number } from "./parts.js";
import { replace, to, useRoute } from "./route.js";
import { store, tell, useStore } from "./store.js";

/** @typedef {import("./lines.js").Line} Line */

/** The height of a line in the style sheet, and lines beyond the edges. */
const HEIGHT = 20, BEYOND = 12;
const LEVELS = { error: ["error"], warn: ["error", "warn"], info: ["error", "warn", "info", ""] };

export function Logs() {
  const { query } = useRoute();
  const target = useStore((state) => state.target);
  const services = useStore((state) => state.status?.services ?? []);
  const [filter, level, of] = [query.get("filter") ?? "", query.get("level") ?? "", query.get("of") ?? ""];
  const chosen = of.split(",").filter(Boolean);
  const wanted = useMemo(() => matcher(filter), [filter]);
  const keeps = (line) =>
    (!chosen.length || chosen.includes(line.service) || line.skipped) && (!level || LEVELS[level]?.includes(line.level)) &&
    (wanted.matches(line.plain) && (!line.skipped || !filter));
  const shown = useRef(/** @type {Line[]} */ ([]));
  const [, redraw] = useState(0);
  const [following, follow] = useState(true);
  const [open, choose] = useState(/** @type {Line | null} */ (null));
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const view = useRef({ top: 0, height: 600 });
  const state = useRef({ following });
  state.current.following = following;

  useEffect(() => {
    let frame = 0;
    const draw = () => {
      if (!frame) frame = requestAnimationFrame(() => ((frame = 0), redraw((n) => n + 1)));
    };
    shown.current = lines.filter(keeps);
    draw();
    const end = onLines((added, removed) => {
      if (removed) {
        const before = shown.current.length;
        const first = lines[0]?.number ?? Infinity;
        shown.current = lines.length ? shown.current.filter((line) => line.number >= first) : [];
        // What is read stays where it is.
        if (!state.current.following && box.current) box.current.scrollTop -= (before - shown.current.length) * HEIGHT;
      }
      const more = added.filter(keeps);
      if (more.length) shown.current.push(...more);
      if (more.length || removed) draw();
    });
    return () => (end(), cancelAnimationFrame(frame));
  }, [filter, level, of, JSON.stringify(target)]);

  useLayoutEffect(() => {
    if (following && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  useEffect(() => {
    const watch = new ResizeObserver(() => {
      view.current.height = box.current?.clientHeight ?? 600;
      redraw((n) => n + 1);
    });
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, []);

  const scrolled = () => {
    const element = box.current;
    if (!element) return;
    const up = element.scrollTop < view.current.top - 2;
    view.current = { top: element.scrollTop, height: element.clientHeight };
    const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - HEIGHT;
    if (up && !atEnd && following) follow(false);
    if (atEnd && !following) follow(true);
    redraw((n) => n + 1);
  };
  const set = (more) => replace(["logs"], { filter, level, of, ...more });
  const count = shown.current.length;
  const top = following ? Math.max(0, count * HEIGHT - view.current.height) : view.current.top;
  const first = Math.max(0, Math.floor(top / HEIGHT) - BEYOND);
  const visible = shown.current.slice(first, first + Math.ceil(view.current.height / HEIGHT) + 2 * BEYOND);
  return html`
    <${Head} title="Logs">
      <${Choose} label="Service" value=${of} onChange=${(value) => set({ of: value })}>
        <option value="">all</option>${of && !services.some((service) => service.name === of) && html`<option value=${of}>${of}</option>`}
        ${services.map((service) => html`<option key=${service.name} value=${service.name}>${service.name}</option>`)}</${Choose}>
      <${Choose} label="Level" value=${level} onChange=${(value) => set({ level: value })}>
        <option value="">all</option><option value="info">without debug</option><option value="warn">warnings and errors</option><option value="error">errors</option></${Choose}>
      <${Filter} value=${filter} bad=${wanted.bad} onInput=${(text) => set({ filter: text })} />
      <form onSubmit=${(event) => (event.preventDefault(), jump(event.target.elements.time.value))}><label>Go to <input name="time" class="at" placeholder="14:03:07" pattern="[0-2]?[0-9]:[0-5][0-9](:[0-5][0-9])?" autocomplete="off" /></label></form>
      <div class="buttons"><button type="button" aria-pressed=${following} onClick=${() => follow(!following)}>${following ? "Following" : "Paused"}</button>
        <button type="button" class="quiet" onClick=${clear}>Clear</button>
        <button type="button" class="quiet" onClick=${() => download(shown.current)}>Download</button></div>
      <small class="count">${number(count)} lines</small>
    </${Head}>
    <div class=${"logs" + (open ? " beside" : "")}>
      <div class="lines" ref=${box} onScroll=${scrolled} tabindex="0" role="region" aria-label="Lines" onKeyDown=${keys(follow)}>
        <div class="all" style=${{ height: `${count * HEIGHT}px` }}><div class="sight" style=${{ transform: `translateY(${first * HEIGHT}px)` }}>
          ${visible.map((line) => html`<${Row} key=${line.number} line=${line} chosen=${open?.number === line.number} choose=${(one) => (choose(one), follow(false))} />`)}</div></div>
        ${!count && html`<${Empty}>${filter || level || of ? "No line matches." : "Nothing has been written yet."}</${Empty}>`}
      </div>
      ${open && html`<${Details} line=${open} close=${() => choose(null)} around=${() => around(open)} />`}
    </div>`;

  /** To the first line of this time of the day, the last time that it was that late. @param {string} time */
  function jump(time) {
    const wanted = time.padStart(time.split(":").length < 3 ? 5 : 8, "0");
    if (!time) return;
    const isBefore = (at) => clock(shown.current[at].time, false) < wanted;
    let at = shown.current.length - 1;
    while (at >= 0 && isBefore(at)) at--;
    if (at < 0) return tell(`no line is of ${wanted} or later`);
    while (at >= 0 && !isBefore(at)) at--;
    follow(false);
    setTimeout(() => box.current && (box.current.scrollTop = (at + 1) * HEIGHT), 60);
  }

  /** The lines before and after it, of all services. @param {Line} line */
  function around(line) {
    set({ filter: "", level: "", of: "" });
    follow(false);
    setTimeout(() => {
      const at = shown.current.findIndex((other) => other.number === line.number);
      if (box.current && at >= 0) box.current.scrollTop = Math.max(0, at * HEIGHT - view.current.height / 2);
    }, 60);
  }
}

/** @param {(follow: boolean) => void} follow */
const keys = (follow) => (event) => {
  if (event.key === "End") follow(true);
  if (event.key === "Home" || event.key === "PageUp" || event.key === "ArrowUp") follow(false);
};

/** @param {{line: Line, chosen: boolean, choose: (line: Line) => void}} properties */
function Row({ line, chosen, choose }) {
  if (line.skipped) return html`<div class="line skipped">${line.plain}</div>`;
  return html`<div class=${`line ${line.level} ${line.stream} ${chosen ? "chosen" : ""}`} onClick=${() => !getSelection()?.toString() && choose(line)}>
    <time>${clock(line.time)}</time><span class="of" style=${{ color: hue(line.service) }}>${line.service}</span><span class="text"><${Text} line=${line} /></span></div>`;
}

/** The text of a line: coloured, or the message of a JSON object with its other fields. @param {{line: Line}} properties */
export function Text({ line }) {
  const object = folded(line.plain);
  if (object) {
    const message = object.message ?? object.msg ?? object.event;
    if (typeof message === "string") {
      const rest = Object.entries(object).filter(([name]) => !["message", "msg", "event", "time", "timestamp", "ts", "@timestamp"].includes(name));
      return html`${message} <small>${rest.map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ")}</small>`;
    }
  }
  return pieces(line.text).map((piece) => (piece.classes || piece.color ? html`<span class=${piece.classes} style=${piece.color ? { color: piece.color } : undefined}>${piece.text}</span>` : piece.text));
}

/** @param {{line: Line, close: () => void, around: () => void}} properties */
function Details({ line, close, around }) {
  const object = folded(line.plain);
  return html`<section class="details" aria-label="About the line">
    <header><h2>${line.service}</h2><button type="button" class="quiet" aria-label="Close" onClick=${close}>✕</button></header>
    <dl><dt>Time</dt><dd>${line.time}</dd><dt>Stream</dt><dd>${line.stream}, start ${line.run}</dd>
      ${traceIds(line.plain).map((id) => html`<dt>Trace</dt><dd><a href=${to(["traces", id])}>${id.slice(0, 16)}…</a></dd>`)}</dl>
    <div class="buttons"><button type="button" class="small" onClick=${around}>Lines around it</button><${Copy} text=${line.plain} what="the line" /></div>
    <pre tabindex="0">${object ? JSON.stringify(object, null, 2) : line.plain}</pre></section>`;
}

const hues = new Map();
/** One colour for each service, readable on light and dark. @param {string} name */
function hue(name) {
  if (!hues.has(name)) hues.set(name, `var(--of-${hues.size % 8})`);
  return hues.get(name);
}

/** @param {Line[]} shown */
function download(shown) {
  const text = shown.map((line) => `${line.time} ${line.service} ${line.plain}\n`).join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `${store.status?.environment ?? "devenv"}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
