// @ts-check
// Rows of a table, a key, a topic or a query.
import { html, useState } from "./html.js";
import { Copy, Dialog, Empty, opens } from "./parts.js";

/** @typedef {{name: string, type?: string}} Column */
/** @typedef {{columns: Column[], rows: (string | null)[][], more: boolean, message?: string}} Answer */

/** Longer values are cut in the table; a dialog shows the whole. */
const LONG = 200;

/**
 * @param {{answer: Answer, label: string, sort?: {column: string, descending: boolean} | null, onSort?: (column: string) => void}} properties
 */
export function Rows({ answer, label, sort, onSort }) {
  const [open, set] = useState(-1);
  if (!answer.columns.length) return html`<${Empty}>No columns.</${Empty}>`;
  return html`${answer.message && html`<p class="message">${answer.message}</p>`}
    <div class="scroll rows" tabindex="0" role="region" aria-label=${`${label}: contents`}><table aria-label=${label}>
      <thead><tr>${answer.columns.map((column) => html`<th key=${column.name} aria-sort=${sort?.column === column.name ? (sort.descending ? "descending" : "ascending") : undefined}>
        ${onSort ? html`<button type="button" class="link" onClick=${() => onSort(column.name)}>${column.name}${sort?.column === column.name ? (sort.descending ? " ↓" : " ↑") : ""}</button>` : column.name}
        ${column.type && html`<small>${column.type}</small>`}</th>`)}</tr></thead>
      <tbody>${answer.rows.map((row, at) => html`<tr key=${at} ...${opens(() => set(at))}>${row.map((value, n) => html`<td key=${n} class=${/^(int|bigint|smallint|numeric|real|double|float|oid)/.test(answer.columns[n]?.type ?? "") ? "figure" : ""}>
        ${value === null ? html`<span class="null">null</span>` : value.length > LONG ? value.slice(0, LONG) + "…" : value}</td>`)}</tr>`)}</tbody></table></div>
    ${!answer.rows.length && html`<${Empty}>No rows.</${Empty}>`}
    ${open >= 0 && answer.rows[open] && html`<${Dialog} wide title=${label} onClose=${() => set(-1)}>
      <dl class="record">${answer.columns.map((column, n) => html`<dt key=${n}>${column.name}${column.type && html` <small>${column.type}</small>`}</dt>
        <dd>${answer.rows[open][n] === null ? html`<span class="null">null</span>` : html`<pre>${pretty(answer.rows[open][n] ?? "")}</pre><${Copy} text=${answer.rows[open][n] ?? ""} what=${column.name} />`}</dd>`)}</dl>
      <div class="buttons"><button type="button" disabled=${open === 0} onClick=${() => set(open - 1)}>Previous</button>
        <button type="button" disabled=${open + 1 >= answer.rows.length} onClick=${() => set(open + 1)}>Next</button>
        <button type="button" autofocus onClick=${() => set(-1)}>Close</button></div></${Dialog}>`}`;
}

/** @param {string} text */
function pretty(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** @param {{offset: number, count: number, more: boolean, size: number, onMove: (offset: number) => void}} properties */
export function Pages({ offset, count, more, size, onMove }) {
  if (!offset && !more) return null;
  return html`<div class="buttons pages"><button type="button" class="small" disabled=${!offset} onClick=${() => onMove(Math.max(0, offset - size))}>Previous</button>
    <span>${offset + 1} to ${offset + count}</span>
    <button type="button" class="small" disabled=${!more} onClick=${() => onMove(offset + size)}>Next</button></div>`;
}
