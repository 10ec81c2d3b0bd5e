// @ts-check
// One plot over time. uPlot is loaded when the first one is shown.
import { html, useEffect, useRef } from "./html.js";
import { CursorLines, choose, point } from "./cursor.js";
import { clock } from "./parts.js";
import { figure } from "./samples.js";

/** Pixels beside the plot. */
const RIGHT = 12;

/** @type {Promise<any> | null} */
let loading = null;
const load = () => (loading ??= import("./vendor/uplot.mjs").then((module) => module.default));

/** The colour of a style sheet's variable. @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A part of the time that is marked behind the lines. @typedef {{from: number, to: number, label: string}} Band */

/**
 * @param {{times: number[], series: {label: string, values: (number | null)[], color?: string}[], unit?: string, label: string, bands?: Band[], relative?: boolean, log?: boolean, range?: [number, number], left?: number, height?: number}} properties
 *   `relative`: times are seconds of a run, not of the clock. `log`: values are positive, and span several powers of ten. `range`: of the times, for plots below one another. `left`: pixels of the axis.
 */
export function Plot({ times, series, unit, label, bands, relative, log, range, left = 68, height = 140 }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const names = series.map((one) => one.label).join("\n");
  const data = [times, ...series.map((one) => one.values)];
  const marked = useRef(bands);
  marked.current = bands;
  const span = useRef(range);
  span.current = range;
  useEffect(() => {
    let ended = false;
    let watch = /** @type {ResizeObserver | null} */ (null);
    void load().then((uPlot) => {
      if (ended || !box.current) return;
      const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
      // One point alone has no length: it is shown in the middle of a minute.
      const x = { time: !relative, range: (_, low, high) => span.current ?? (low === high ? [(low ?? 0) - 30, (high ?? 0) + 30] : [low, high]) };
      plot.current = new uPlot(
        {
          width: box.current.clientWidth, height, padding: [8, RIGHT, 0, 0], cursor: { sync: { key: "devenv" }, points: { size: 6 } }, legend: { show: series.length > 1, live: true },
          scales: log ? { x, y: { distr: 3 } } : { x, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.05] } },
          axes: [{ ...axis, space: 90, size: 30, values: (_, times) => times.map((time) => (relative ? `${time} s` : clock(time * 1000, false))) }, { ...axis, size: left, values: (_, values) => values.map((value) => (value == null ? "" : figure(value, unit))) }],
          hooks: { drawClear: [(plot) => band(plot, marked.current ?? [])], setCursor: relative ? [] : [(plot) => plot.cursor.event && point(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") * 1000 : null)] },
          series: [{ label: "At", value: (_, time) => (time == null ? "" : relative ? `${time.toFixed(1)} s` : clock(time * 1000)) }, ...series.map((one, at) => ({ label: one.label, stroke: color(one.color ?? `--of-${at % 8}`), width: 1.5, points: { show: false }, value: (_, value) => (value == null ? "" : figure(value, unit)) }))],
        },
        data,
        box.current,
      );
      watch = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height }));
      watch.observe(box.current);
    });
    return () => {
      ended = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, unit, relative, log]);
  useEffect(() => plot.current?.setData(data));
  const shown = span.current ?? [times[0], times[times.length - 1]];
  const choosing = relative ? undefined : () => plot.current?.cursor.left >= 0 && choose(plot.current.posToVal(plot.current.cursor.left, "x") * 1000);
  return html`<div class="plot" onClick=${choosing}><div ref=${box} role="img" aria-label=${label} style=${{ minHeight: `${height}px` }} />
    ${!relative && shown[1] > shown[0] && html`<${CursorLines} begin=${shown[0] * 1000} end=${shown[1] * 1000} left=${left} right=${RIGHT} />`}</div>`;
}

/** Draws the bands below the grid. @param {any} plot @param {Band[]} bands */
function band(plot, bands) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = color("--band");
  for (const { from, to } of bands) {
    const [left, right] = [from, to].map((at) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(at, "x", true))));
    ctx.fillRect(left, bbox.top, Math.max(2, right - left), bbox.height);
  }
  ctx.restore();
}
