// One clip of a batch, side by side, over the grid.

import { el, icon, lastPart } from "./dom.js";
import { badge, details } from "./details.js";
import { pair } from "./pair.js";

const INSTEAD = { failed: "There is no result: it failed", pending: "Not reached yet" };

/** Opens it; gives {close}. */
export function openClip({ task, clip, neighbour, closed }) {
  let stage = null;
  let current = clip;
  const body = el("div.body");
  const title = el("h2", { id: "clip-title" });
  const mark = el("span");
  const before = el("button.bare", { type: "button", "aria-label": "Clip before", title: "Clip before (←)", onclick: () => go(-1) }, icon("left"));
  const after = el("button.bare", { type: "button", "aria-label": "Next clip", title: "Next clip (→)", onclick: () => go(1) }, icon("right"));
  const shut = el("button.bare", { type: "button", "aria-label": "Close", title: "Close (Esc)", onclick: () => dialog.close() }, icon("close"));
  const dialog = el("dialog.clipview", { "aria-labelledby": "clip-title" }, el("header.head", {}, before, after, title, mark, el("span.gap"), shut), body);

  async function show(next) {
    current = next;
    stage?.close();
    const name = lastPart(current.source);
    title.textContent = name;
    mark.replaceChildren(badge(current.status));
    before.disabled = !neighbour(current, -1);
    after.disabled = !neighbour(current, 1);
    stage = pair({ title: name, waiting: INSTEAD[current.status], links: (renew) => task.links(current.index, { renew }) });
    const more = el("div", {}, el("p.quiet", {}, "Loading…"));
    body.replaceChildren(stage.view, more);
    dialog.dataset.clip = String(current.index);
    try {
      const found = await task.clip(current.index);
      if (current !== next) return;
      more.replaceChildren(details(found));
      if (found.facts.audio) stage.offerSound();
    } catch (error) {
      if (current === next) more.replaceChildren(el("p.note", { role: "alert" }, error.message));
    }
  }

  function go(step) {
    const next = neighbour(current, step);
    if (next) show(next);
  }

  dialog.addEventListener("keydown", (event) => {
    if (event.target.closest("input,textarea")) return;
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === " " && !event.target.closest("button,summary,a")) stage.toggle();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    stage?.close();
    dialog.remove();
    closed(current);
  });
  document.body.append(dialog);
  dialog.showModal();
  show(clip);
  return { close: () => dialog.close() };
}
