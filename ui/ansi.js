// @ts-check
// The colours of terminal text, as plain pieces. Every other control sequence is dropped: nothing of a log line has an effect.

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
// Colours are sequences that end in `m`; titles, links, cursor movements and lone control characters go.
const SEQUENCE = /\u001b\[([0-9;:]*)m|\u001b\[[0-?]*[ -/]*[@-~]|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]?|[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]/g;

/** @typedef {{text: string, classes: string, color?: string}} Piece */

/** @param {string} text */
export const plain = (text) => (/[\u0000-\u001f\u007f-\u009f]/.test(text) ? text.replace(SEQUENCE, "") : text);

/** @param {string} text @returns {Piece[]} */
export function pieces(text) {
  if (!text.includes("\u001b")) return [{ text: plain(text), classes: "" }];
  const found = [];
  let style = { bold: false, dim: false, italic: false, under: false, color: "", own: "" };
  let at = 0;
  const push = (end) => {
    if (end <= at) return;
    const classes = [style.bold && "a-bold", style.dim && "a-dim", style.italic && "a-italic", style.under && "a-under", style.color].filter(Boolean);
    found.push({ text: text.slice(at, end), classes: classes.join(" "), color: style.own || undefined });
  };
  for (const match of text.matchAll(SEQUENCE)) {
    push(match.index);
    at = match.index + match[0].length;
    if (match[1] !== undefined) style = apply(style, match[1].split(/[;:]/).map(Number));
  }
  push(text.length);
  return found;
}

/** @param {any} style @param {number[]} codes */
function apply(style, codes) {
  let next = { ...style };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) next = { bold: false, dim: false, italic: false, under: false, color: "", own: "" };
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.under = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.under = false;
    else if (code === 39) next.color = next.own = "";
    else if (code >= 30 && code <= 37) (next.color = `a-${NAMES[code - 30]}`), (next.own = "");
    else if (code >= 90 && code <= 97) (next.color = `a-${NAMES[code - 90]}`), (next.own = "");
    else if (code === 38 || code === 48) {
      const own = codes[i + 1] === 5 ? indexed(codes[i + 2]) : codes[i + 1] === 2 ? rgb(codes.slice(i + 2, i + 5)) : null;
      i += codes[i + 1] === 5 ? 2 : 4;
      if (code === 38 && own) (next.color = own.color), (next.own = own.own);
    }
  }
  return next;
}

/** @param {number} index */
function indexed(index) {
  if (!(index >= 0 && index <= 255)) return null;
  if (index < 16) return { color: `a-${NAMES[index % 8]}`, own: "" };
  if (index >= 232) return rgb(Array(3).fill(8 + (index - 232) * 10));
  const part = (n) => (n ? 55 + n * 40 : 0);
  const n = index - 16;
  return rgb([part(Math.floor(n / 36)), part(Math.floor(n / 6) % 6), part(n % 6)]);
}

/** @param {number[]} parts */
function rgb(parts) {
  if (parts.length < 3 || parts.some((part) => !(part >= 0 && part <= 255))) return null;
  return { color: "", own: `rgb(${parts.join(" ")})` };
}
