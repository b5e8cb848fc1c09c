// The latest videos of all Dags that the user may read.

import { Task, recent } from "./api.js";
import { calm, el, number, seconds, notify, when } from "./dom.js";
import { Gif } from "./gif.js";

const SAMPLE = 4;

function count(item) {
  const { counts } = item;
  const done = (counts.landed || 0) + (counts.skipped || 0);
  const failed = counts.failed ? `, ${number(counts.failed)} failed` : "";
  return `${number(done)} of ${number(counts.found || 0)} clips${failed}`;
}

function media(link) {
  if (link.type === "image") return Object.assign(new Gif(), { src: link.url });
  const video = el("video", { preload: "metadata", playsinline: true, "aria-hidden": "true" });
  Object.assign(video, { muted: true, loop: true, src: `${link.url}#t=0.001` });
  return video;
}

async function fill(frame, item) {
  const task = new Task(item);
  try {
    const found = item.kind === "batch" ? await task.sample(SAMPLE) : [await task.links(0)];
    const links = found.map((sides) => sides.result).filter((link) => link?.url);
    frame.append(...links.map(media));
    if (links.length > 1) frame.classList.add("many", ["two", "three", "four"][links.length - 2]);
  } catch {
    // the task's own page shows the reason
  }
}

function card(item, seen) {
  const query = new URLSearchParams({ dag_id: item.dag_id, run_id: item.run_id, task_id: item.task_id, map_index: item.map_index, from: "recent" });
  if (item.loop_index != null) query.set("loop_index", item.loop_index);
  const frame = el("span.frame");
  const facts = [item.model_id, item.counts ? count(item) : item.seed !== null && `seed ${item.seed}`, seconds(item.seconds)].filter(Boolean);
  const link = el(
    "a.card",
    { href: `?${query}` },
    frame,
    el(
      "span.caption",
      {},
      el("span.name", {}, item.prompt ? String(item.prompt) : item.task_id),
      el("span.detail", {}, facts.join(" · ")),
      el("span.detail", {}, `${item.dag_id} · ${item.task_id}${item.map_index >= 0 ? `[${item.map_index}]` : ""}${item.loop_index == null ? "" : ` · iteration ${item.loop_index}`} · ${when(item.ended_at)}`),
    ),
  );
  const play = (on) => [...frame.children].forEach((one) => (on && !calm.matches ? one.play()?.catch(() => {}) : one.pause()));
  for (const event of ["pointerenter", "focus"]) link.addEventListener(event, () => play(true));
  for (const event of ["pointerleave", "blur"]) link.addEventListener(event, () => play(false));
  link.fill = () => fill(frame, item);
  seen.observe(link);
  return link;
}

export async function showRecent(container) {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      target.fill();
    }
  });
  const list = el("div.recent");
  const more = el("button", { type: "button", hidden: true, onclick: further }, "Show more");
  let after;

  async function page() {
    const found = await recent(after);
    list.append(...found.items.map((item) => card(item, seen)));
    after = found.next;
    more.hidden = !after;
  }

  async function further() {
    more.disabled = true;
    try {
      await page();
    } catch (error) {
      notify(`No more came: ${error.message}`);
    } finally {
      more.disabled = false;
      more.focus({ preventScroll: true }); // which it lost when it was disabled
    }
  }

  await page();
  container.replaceChildren(
    el("header.head", {}, el("h1", {}, "Videos"), el("span.quiet", {}, "what landed last, over all Dags that you may read")),
    list.children.length || after ? list : el("p.empty", {}, "No task of the ModelsLab provider has landed a video yet."),
    el("div.more", {}, more),
  );
}
