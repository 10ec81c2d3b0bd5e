// @ts-check
// Loads the page. A browser gives up a request when a network interface of the machine comes or goes, as those of containers do; then
// some file is missing, and the page is loaded again.

/** Loads, until the reader is asked. */
const MOST = 8;
const tries = Number(sessionStorage.getItem("loads") ?? 0) + 1;
import("./main.js").then(
  () => sessionStorage.removeItem("loads"),
  () => {
    sessionStorage.setItem("loads", String(tries < MOST ? tries : 0));
    const text = document.querySelector(".first");
    if (tries < MOST) setTimeout(() => location.reload(), 300 * tries);
    else if (text) text.textContent = "The page did not load completely. Reload it.";
  },
);
export {};
