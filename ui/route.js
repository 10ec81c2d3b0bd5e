// @ts-check
// Addresses of views: `#/data/db/app?table=item`. Everything that a view shows and that is worth pasting is in its address.
import { useEffect, useState } from "./html.js";

/** @typedef {{view: string, path: string[], query: URLSearchParams}} Route */

/** @returns {Route} */
export function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { view: parts[0] || "services", path: parts.slice(1), query: new URLSearchParams(query ?? "") };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * An address. Values that are empty are left out; the environment stays.
 * @param {string[]} path
 * @param {Record<string, string | undefined | null>} [query]
 */
export function to(path, query = {}) {
  const all = new URLSearchParams();
  const environment = route().query.get("environment");
  if (environment && !("environment" in query)) all.set("environment", environment);
  for (const [name, value] of Object.entries(query)) if (value) all.set(name, value);
  const text = all.toString();
  return "#/" + path.map(encodeURIComponent).join("/") + (text ? "?" + text : "");
}

/** @param {string[]} path @param {Record<string, string | undefined | null>} [query] */
export function go(path, query) {
  location.hash = to(path, query);
}

/** Without an entry in the history: for filters while they are typed. @param {string[]} path @param {Record<string, string | undefined | null>} [query] */
export function replace(path, query) {
  history.replaceState(null, "", to(path, query));
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}

/** @returns {Route} */
export function useRoute() {
  const [now, set] = useState(route);
  useEffect(() => {
    const listen = () => set(route());
    window.addEventListener("hashchange", listen);
    return () => window.removeEventListener("hashchange", listen);
  }, []);
  return now;
}
