// @ts-check
// The moment that the reader points at: one for the timeline, plots and traces, in whichever of them the pointer is. A moment that is
// chosen stays, also in other views, until another is chosen.
import { html, useEffect, useRef, useState } from "./html.js";
import { clock } from "./parts.js";

/** In milliseconds since 1970. @type {{at: number | null, chosen: number | null}} */
const cursor = { at: null, chosen: null };
/** @type {Set<() => void>} */
const listeners = new Set();

/** @param {number | null} at */
export function point(at) {
  if (at === cursor.at) return;
  cursor.at = at;
  for (const listener of [...listeners]) listener();
}

/** @param {number | null} at */
export function choose(at) {
  cursor.chosen = at;
  for (const listener of [...listeners]) listener();
}

/** Draws at once, and whenever the reader points elsewhere. @param {(at: number | null, chosen: number | null) => void} draw */
export function useCursor(draw) {
  const now = useRef(draw);
  now.current = draw;
  useEffect(() => {
    const listen = () => now.current(cursor.at, cursor.chosen);
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  useEffect(() => draw(cursor.at, cursor.chosen));
}

/**
 * Lines over the element around it, which is as wide as the time from `begin` to `end`.
 * @param {{begin: number, end: number, left?: number, right?: number}} properties In milliseconds since 1970; `left` and `right` are pixels beside the time.
 */
export function CursorLines({ begin, end, left = 0, right = 0 }) {
  const lines = [useRef(/** @type {HTMLElement | null} */ (null)), useRef(/** @type {HTMLElement | null} */ (null))];
  useCursor((...times) => {
    times.forEach((time, at) => {
      const line = lines[at].current;
      if (!line) return;
      line.hidden = time == null || time < begin || time > end;
      if (time != null) line.style.left = `calc(${left}px + (100% - ${left + right}px) * ${(time - begin) / Math.max(0.001, end - begin)})`;
    });
  });
  return html`<i class="cursor" ref=${lines[0]} hidden aria-hidden="true" /><i class="cursor chosen" ref=${lines[1]} hidden aria-hidden="true" />`;
}

/** Follows the pointer over an element, and chooses with a click. @param {(x: number, width: number) => number} timeAt */
export const pointing = (timeAt) => {
  const time = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return timeAt(event.clientX - box.left, box.width);
  };
  return { onPointerMove: (event) => point(time(event)), onPointerLeave: () => point(null), onClick: (event) => !event.target.closest("a, button, g[class], .spot") && choose(time(event)) };
};

/** The chosen moment, with a button that lets go of it. */
export function Chosen() {
  const [at, set] = useState(/** @type {number | null} */ (cursor.chosen));
  useCursor((_, chosen) => set(chosen));
  if (at == null) return null;
  return html`<span class="moment"><span class="swatch" /> at <time>${clock(at)}</time> <button type="button" class="small quiet" aria-label="Let go of the chosen moment" onClick=${() => choose(null)}>✕</button></span>`;
}

/** A time that is chosen by a click or Enter. @param {{time: string | number, children: any}} properties */
export function Moment({ time, children }) {
  return html`<button type="button" class="link moment" title="Show this moment in the timeline, plots and traces" onClick=${() => choose(new Date(time).getTime())}>${children}</button>`;
}
