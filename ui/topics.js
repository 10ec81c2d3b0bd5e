// @ts-check
// Topics: of every broker, their messages, consumer groups with their lag, and one message to produce.
import { html, useEffect, useState } from "./html.js";
import { Empty, Filter, Head, Problem, Scroll, matcher, number, opens, size } from "./parts.js";
import { useOutlines } from "./outline.js";
import { go, replace, to, useRoute } from "./route.js";
import { Refused, ask } from "./net.js";
import { Pages, Rows } from "./rows.js";
import { fail, store, tell, useAnswer, useStore } from "./store.js";

const PAGE = 50;
/** Groups whose lag is asked for. */
const GROUPS = 30;

export function Topics() {
  const { path, query } = useRoute();
  const filter = query.get("filter") ?? "";
  const { outlines, loading } = useOutlines(3000);
  const wanted = matcher(filter);
  const topics = outlines.flatMap((outline) => outline.groups.filter((group) => group.kind === "topics").flatMap((group) => group.items.map((item) => ({ service: outline.service, group: group.name, ...item }))));
  const groups = outlines.flatMap((outline) => outline.groups.filter((group) => group.kind === "consumer-groups").flatMap((group) => group.items.map((item) => ({ service: outline.service, group: group.name, ...item }))));
  const shown = topics.filter((topic) => wanted.matches(topic.name));
  const chosen = topics.find((topic) => topic.service === path[0] && topic.name === path[1]);
  const several = new Set(topics.map((topic) => topic.service)).size > 1;
  return html`<${Head} title="Topics"><${Filter} value=${filter} hint="topic" bad=${wanted.bad} onInput=${(text) => replace(["topics", ...path], { filter: text })} /></${Head}>
    ${outlines.filter((outline) => outline.error).map((outline) => html`<${Problem} key=${outline.service} error=${outline.error} />`)}
    ${!shown.length && html`<${Empty}>${topics.length ? "No topic matches." : loading ? "Looking…" : "No running service has topics."}</${Empty}>`}
    ${shown.length > 0 && html`<${Scroll} label="Topics"><table aria-label="Topics"><thead><tr><th>Topic</th>${several && html`<th>Broker</th>`}<th>Messages</th><th>Size</th><th>Detail</th></tr></thead>
      <tbody>${shown.map((topic) => html`<tr key=${topic.service + topic.name} class=${topic === chosen ? "chosen" : ""} ...${opens(() => go(["topics", topic.service, topic.name]))}>
        <td class="name"><a href=${to(["topics", topic.service, topic.name])}>${topic.name}</a></td>${several && html`<td>${topic.service}</td>`}
        <td class="figure">${number(topic.rows)}</td><td class="figure">${size(topic.bytes)}</td><td class="wide">${topic.detail ?? ""}</td></tr>`)}</tbody></table></${Scroll}>`}
    ${groups.length > 0 && html`<${Groups} groups=${groups.slice(0, GROUPS)} topic=${chosen?.name} />`}
    ${path.length === 2 && (chosen || !loading) && html`<${Messages} key=${path.join("\n")} service=${path[0]} topic=${path[1]} group=${chosen?.group ?? "topics"} />`}`;
}

/** The lag of each group and topic, at the last looks. @type {Map<string, number[]>} */
const lags = new Map();

/** @param {{groups: {service: string, group: string, name: string, detail?: string}[], topic?: string}} properties */
function Groups({ groups, topic }) {
  const [found, set] = useState(/** @type {Record<string, {topic: string, lag: number, partitions: number}[]>} */ ({}));
  const key = groups.map((group) => group.service + "\n" + group.name).join("\n\n");
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const look = async () => {
      for (const group of groups) {
        try {
          const answer = await ask("/v1/environment/data/rows", { target: store.target, service: group.service, group: group.group, item: group.name, offset: 0, limit: 500 }, stop.signal);
          const at = (name) => answer.columns.findIndex((column) => column.name === name);
          const by = new Map();
          for (const row of answer.rows) {
            const one = by.get(row[at("topic")]) ?? { topic: row[at("topic")], lag: 0, partitions: 0 };
            one.lag += Number(row[at("lag")] ?? 0);
            one.partitions++;
            by.set(one.topic, one);
          }
          for (const one of by.values()) {
            const name = `${group.service} ${group.name} ${one.topic}`;
            lags.set(name, [...(lags.get(name) ?? []), one.lag].slice(-40));
          }
          set((now) => ({ ...now, [group.service + group.name]: [...by.values()] }));
        } catch {
          // A group that has just gone is not in the next outline.
        }
      }
      if (!stop.signal.aborted) timer = window.setTimeout(look, 3000);
    };
    void look();
    return () => (stop.abort(), clearTimeout(timer));
  }, [key]);
  /** @type {{group: typeof groups[0], part: {topic: string, lag: number, partitions: number} | null}[]} */
  const rows = [];
  for (const group of groups) {
    const parts = found[group.service + group.name] ?? [];
    const wanted = parts.filter((part) => !topic || part.topic === topic);
    for (const part of wanted) rows.push({ group, part });
    // A group that has read nothing of the topic is left out as soon as that is known.
    if (!wanted.length && !(topic && parts.length)) rows.push({ group, part: null });
  }
  return html`<h2>Consumer groups${topic ? ` of ${topic}` : ""}</h2>${!rows.length && html`<${Empty}>No consumer group reads this topic.</${Empty}>`}
    ${rows.length > 0 && html`<${Scroll} label="Consumer groups"><table aria-label="Consumer groups"><thead><tr><th>Group</th><th>Topic</th><th>Partitions</th><th>Lag</th><th>State</th></tr></thead>
      <tbody>${rows.map(({ group, part }) => html`<tr key=${group.service + group.name + (part?.topic ?? "")}><td class="name">${group.name}</td><td>${part?.topic ?? ""}</td>
        <td class="figure">${part?.partitions ?? ""}</td><td class="figure">${part && html`<${Lag} name=${`${group.service} ${group.name} ${part.topic}`} lag=${part.lag} />`}</td><td class="wide">${group.detail ?? ""}</td></tr>`)}</tbody></table></${Scroll}>`}`;
}

/** @param {{name: string, lag: number}} properties */
function Lag({ name, lag }) {
  const values = lags.get(name) ?? [];
  const top = Math.max(1, ...values);
  const points = values.map((value, at) => `${((at / Math.max(1, values.length - 1)) * 60).toFixed(1)},${(17 - (value / top) * 15).toFixed(1)}`).join(" ");
  return html`<span class="spark"><svg width="60" height="18" aria-hidden="true"><polyline points=${points} /></svg>${number(lag)}</span>`;
}

/** @param {{service: string, topic: string, group: string}} properties */
function Messages({ service, topic, group }) {
  const target = useStore((state) => state.target);
  const { query } = useRoute();
  const [search, offset] = [query.get("search") ?? "", Number(query.get("offset")) || 0];
  const answer = useAnswer("/v1/environment/data/rows", { target, service, group, item: topic, offset, limit: PAGE, filter: search || undefined }, [], offset ? 0 : 3000);
  const set = (more) => replace(["topics", service, topic], { filter: query.get("filter"), search, offset: offset ? String(offset) : "", ...more });
  return html`<section aria-label=${`Messages of ${topic}`}><header class="sub"><h2>Messages of ${topic}</h2><small>newest first</small>
      <label>Messages with <input type="search" value=${search} onInput=${(event) => set({ search: event.target.value, offset: "" })} /></label></header>
    <${Problem} error=${answer.error} />
    ${answer.value && html`<${Rows} answer=${answer.value} label="Messages" /><${Pages} offset=${offset} count=${answer.value.rows.length} more=${answer.value.more} size=${PAGE}
      onMove=${(to) => set({ offset: to ? String(to) : "" })} />`}
    <${Produce} service=${service} topic=${topic} done=${answer.again} /></section>`;
}

/** @param {{service: string, topic: string, done: () => void}} properties */
function Produce({ service, topic, done }) {
  const [key, name] = useState("");
  const [value, write] = useState("");
  const [headers, head] = useState("");
  const produce = async (event) => {
    event.preventDefault();
    try {
      const pairs = headers.split(",").filter((part) => part.trim()).map((part) => part.split("=").map((text) => text.trim()));
      if (pairs.some((pair) => pair.length < 2)) return fail(new Refused({ message: "Headers are NAME=VALUE, separated by commas." }));
      const body = { target: store.target, service, topic, key: key || undefined, value, headers: Object.fromEntries(pairs.map(([of, ...rest]) => [of, rest.join("=")])) };
      const made = await ask("/v1/environment/data/produce", body);
      tell(`produced to ${topic}`, made?.partition != null ? `partition ${made.partition}, offset ${made.offset}` : undefined);
      write("");
      done();
    } catch (error) {
      fail(error);
    }
  };
  return html`<details><summary>Produce a message</summary><form class="produce" onSubmit=${produce}>
    <label>Key <input value=${key} onInput=${(event) => name(event.target.value)} /></label>
    <label>Headers <input value=${headers} placeholder="name=value, …" onInput=${(event) => head(event.target.value)} /></label>
    <label>Value <textarea rows="3" value=${value} spellcheck=${false} onInput=${(event) => write(event.target.value)} /></label>
    <div class="buttons"><button type="submit" class="primary">Produce</button></div></form></details>`;
}
