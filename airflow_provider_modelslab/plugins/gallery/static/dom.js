// Elements from data. Text always goes in as text: prompts and messages come from anywhere.

/** An element: el("a.button", {href}, "text", child...); on* are listeners, null children are left out. */
export function el(what, attributes = {}, ...children) {
  const [name, ...classes] = what.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace the children, unless they are the same. The focus stays at the same position: someone may be about to press it. */
export function redraw(element, ...children) {
  const next = element.cloneNode(false);
  next.append(...children);
  if (next.isEqualNode(element)) return;
  const at = [...element.children].indexOf(document.activeElement);
  element.replaceChildren(...next.childNodes);
  element.children[at]?.focus({ preventScroll: true });
}

/** An icon that is drawn here; names nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

const SHAPES = {
  play: "M7 4.5v15l13-7.5z",
  pause: "M6 4.5h4v15H6zM14 4.5h4v15h-4z",
  copy: "M8 3h11a2 2 0 0 1 2 2v11h-2V5H8zM5 7h9a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V9a2 2 0 0 1 2-2zm0 2v10h9V9z",
  close: "m6.4 5 5.6 5.6L17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4-5.6-5.6L6.4 19 5 17.6l5.6-5.6L5 6.4z",
  left: "m15 5-7 7 7 7 1.5-1.5L11 12l5.5-5.5z",
  right: "m9 5 7 7-7 7-1.5-1.5L13 12 7.5 6.5z",
  save: "M11 3h2v9.2l3.3-3.3 1.4 1.4L12 16l-5.7-5.7 1.4-1.4 3.3 3.3zM4 18h16v2H4z",
  out: "M14 4h6v6h-2V7.4l-8.3 8.3-1.4-1.4L16.6 6H14zM5 6h5v2H6v10h10v-4h2v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1z",
  tick: "m9.5 16.2-4-4L4 13.6l5.5 5.5L20 8.6 18.6 7.2z",
};

/** Show a text to screen readers, and to everybody for a moment. */
export function notify(text) {
  let toast = document.querySelector(".toast");
  if (!toast) {
    toast = el("div.toast", { role: "status" });
    (document.querySelector("dialog[open]") || document.body).append(toast);
  }
  toast.textContent = text;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => toast.remove(), 2500);
}

/** Put a text on the clipboard, also where the page has no secure context. */
export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { "aria-hidden": "true", class: "offscreen" });
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return notify("The browser does not allow copying");
  }
  notify(`${what} copied`);
}

export function copyButton(text, what) {
  return el("button.bare", { type: "button", title: `Copy ${what}`, "aria-label": `Copy ${what}`, onclick: () => copyText(text(), what) }, icon("copy"));
}

/** Give a text as a file. */
export function saveText(text, name) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A link to a page of Airflow itself. This page is in a frame that may not steer the one around, which itself may. */
export function airflowLink(path, ...children) {
  const href = location.pathname.split("/modelslab/gallery")[0] + path;
  const follow = (event) => {
    let outer = null;
    try {
      outer = window.parent === window ? null : window.parent.document;
    } catch {
      return;
    }
    if (!outer || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const link = outer.createElement("a");
    link.href = href;
    link.click();
  };
  return el("a.out", { href, onclick: follow }, ...children);
}

export const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

export function bytes(count) {
  if (!Number.isFinite(count)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (count >= 999.5 && power < units.length - 1) {
    count /= 1000;
    power += 1;
  }
  return `${power && count < 9.95 ? count.toFixed(1) : Math.round(count)} ${units[power]}`;
}

export function seconds(count) {
  if (!Number.isFinite(count)) return "";
  if (count < 90) return `${count < 9.95 ? count.toFixed(1) : Math.round(count)} s`;
  const minutes = Math.round(count / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function when(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return String(text);
  return moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }).replaceAll(/(?<=\d) (?=[AP]M|\d)/g, "\u00a0");
}

export function number(count) {
  return Number(count).toLocaleString("en").replaceAll(",", "\u202f");
}

export function lastPart(path) {
  return path.split(/[?#]/)[0].replace(/\/+$/, "").split("/").pop() || path;
}
