// The latest videos of all Dags that the user may read.

import { Task, recent } from "./api.js";
import { badge } from "./details.js";
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
    frame.prepend(...links.map(media));
    if (links.length > 1) frame.classList.add("many", ["two", "three", "four"][links.length - 2]);
  } catch {
    // the task's own page shows the reason
  }
}

function card(item, seen) {
  const query = new URLSearchParams({ dag_id: item.dag_id, run_id: item.run_id, task_id: item.task_id, map_index: item.map_index, from: "recent" });
  if (item.loop_index != null) query.set("loop_index", item.loop_index);
  const partial = item.outcome === "partial";
  const frame = el("span.frame", {}, partial ? badge("failed", "Some failed") : null);
  const facts = [item.model_id, item.counts ? count(item) : item.seed != null && `seed ${item.seed}`, seconds(item.seconds)].filter(Boolean);
  const link = el(
    "a.card",
    { href: `?${query}` },
    frame,
    el(
      "span.caption",
      {},
      el("span.name", {}, item.prompt ? String(item.prompt) : item.task_id),
      el("span.detail", {}, facts.join(" · ")),
      el("span.detail", {}, `${item.dag_id} · ${item.task_id}${item.map_index >= 0 ? `[${item.map_index}]` : ""}${item.loop_index == null ? "" : ` · iteration ${item.loop_index}`} · ${when(item.landed_at)}`),
    ),
  );
  const play = (on) => [...frame.querySelectorAll("video, modelslab-gif")].forEach((one) => (on && !calm.matches ? one.play()?.catch(() => {}) : one.pause()));
  for (const event of ["pointerenter", "focus"]) link.addEventListener(event, () => play(true));
  for (const event of ["pointerleave", "blur"]) link.addEventListener(event, () => play(false));
  link.fill = () => fill(frame, item);
  seen.observe(link);
  return link;
}

const FILTERS = ["q", "dag", "model", "outcome", "since", "until"];
const PAUSE_MS = 300; // after the last key

/** The filters as the server takes them: days become times, since a day begins at another time in each time zone. */
function asked(values) {
  const day = (text, plus) => {
    if (!text) return undefined;
    const [year, month, date] = text.split("-").map(Number);
    const time = new Date(year, month - 1, date + plus);
    return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
  };
  return { q: values.q || undefined, dag: values.dag || undefined, model: values.model || undefined, outcome: values.outcome || undefined, since: day(values.since, 0), until: day(values.until, 1) };
}

function filterBar(values, changed) {
  const names = { dag: el("datalist", { id: "dags" }), model: el("datalist", { id: "models" }) };
  const text = (name, label, more = {}) => el("input.search", { name, "aria-label": label, placeholder: label, value: values[name] ?? "", ...more });
  const date = (name, label) => el("label.quiet", {}, label, el("input.search", { type: "date", name, value: values[name] ?? "" }));
  const outcome = el(
    "select.search",
    { name: "outcome", "aria-label": "Outcome" },
    [["", "All outcomes"], ["landed", "All landed"], ["partial", "Some failed"]].map(([value, label]) => el("option", { value, selected: values.outcome === value }, label)),
  );
  const bar = el(
    "form.bar.filters",
    { role: "search" },
    text("q", "Search prompt, file, task, run…", { type: "search" }),
    text("dag", "Dag", { list: "dags" }),
    text("model", "Model", { list: "models" }),
    outcome,
    date("since", "From "),
    date("until", "To "),
    Object.values(names),
  );
  const read = () => Object.fromEntries(FILTERS.map((name) => [name, bar.elements[name].value.trim()]));
  bar.addEventListener("input", () => changed(read()));
  bar.addEventListener("submit", (event) => event.preventDefault());
  /** Offer the names that were seen. */
  const learn = (items) => {
    for (const [name, key] of [["dag", "dag_id"], ["model", "model_id"]]) {
      const known = new Set([...names[name].children].map((option) => option.value));
      const more = new Set(items.map((item) => item[key]).filter((value) => value && !known.has(value)));
      names[name].append(...[...more].map((value) => el("option", { value })));
    }
  };
  return { bar, learn };
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
  const said = el("p.empty", { role: "status", hidden: true });
  const more = el("button", { type: "button", hidden: true, onclick: further }, "Show more");
  const params = new URLSearchParams(location.search);
  let filters = Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? ""]));
  let after;
  let turn = 0; // answers to earlier filters are dropped
  let timer;
  const { bar, learn } = filterBar(filters, (values) => {
    filters = values;
    clearTimeout(timer);
    timer = setTimeout(begin, PAUSE_MS);
  });

  async function page() {
    const mine = turn;
    const found = await recent(asked(filters), after);
    if (mine !== turn) return;
    learn(found.items);
    list.append(...found.items.map((item) => card(item, seen)));
    after = found.next;
    more.hidden = !after;
    const some = Object.values(filters).some(Boolean);
    more.textContent = some ? "Search further" : "Show more";
    said.hidden = list.children.length > 0;
    if (!said.hidden) said.textContent = after ? "None of the latest videos matches." : some ? "No video matches." : "No task of the ModelsLab provider has landed a video yet.";
  }

  async function begin() {
    turn += 1;
    after = undefined;
    const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
    list.replaceChildren();
    try {
      await page();
    } catch (error) {
      notify(`The search failed: ${error.message}`);
    }
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
    bar,
    list,
    said,
    el("div.more", {}, more),
  );
}
