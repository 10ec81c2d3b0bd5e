// @ts-check
// One plot over time. uPlot is loaded when the first one is shown.
import { html, useEffect, useRef } from "./html.js";
import { clock } from "./parts.js";
import { figure } from "./samples.js";

/** @type {Promise<any> | null} */
let loading = null;
const load = () => (loading ??= import("./vendor/uplot.mjs").then((module) => module.default));

/** The colour of a style sheet's variable. @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @param {{times: number[], series: {label: string, values: (number | null)[]}[], unit?: string, label: string}} properties
 */
export function Plot({ times, series, unit, label }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const names = series.map((one) => one.label).join("\n");
  const data = [times, ...series.map((one) => one.values)];
  useEffect(() => {
    let ended = false;
    let watch = /** @type {ResizeObserver | null} */ (null);
    void load().then((uPlot) => {
      if (ended || !box.current) return;
      const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
      plot.current = new uPlot(
        {
          width: box.current.clientWidth, height: 140, cursor: { sync: { key: "devenv" }, points: { size: 6 } }, legend: { show: series.length > 1, live: true },
          scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.05] } },
          axes: [{ ...axis, space: 90, values: (_, times) => times.map((time) => clock(time * 1000, false)) }, { ...axis, size: 68, values: (_, values) => values.map((value) => figure(value, unit)) }],
          series: [{}, ...series.map((one, at) => ({ label: one.label, stroke: color(`--of-${at % 8}`), width: 1.5, points: { show: false }, value: (_, value) => (value == null ? "" : figure(value, unit)) }))],
        },
        data,
        box.current,
      );
      watch = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height: 140 }));
      watch.observe(box.current);
    });
    return () => {
      ended = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, unit]);
  useEffect(() => plot.current?.setData(data));
  return html`<div class="plot" ref=${box} role="img" aria-label=${label} />`;
}
