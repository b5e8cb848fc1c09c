// The page of a batch: its outcome, a grid of its clips, and a list of clips to retry.

import { copyButton, copyText, el, icon, lastPart, number, redraw, saveText, seconds, notify, bytes } from "./dom.js";
import { badge } from "./details.js";
import { openClip } from "./dialog.js";
import { Grid } from "./grid.js";

const OUTCOMES = [
  ["all", "All"],
  ["landed", "Landed"],
  ["skipped", "Skipped"],
  ["failed", "Failed"],
  ["pending", "Pending"],
];

export function readRows(batch) {
  const at = Object.fromEntries(batch.columns.map((name, index) => [name, index]));
  const { source, uri } = batch.heads;
  return batch.rows.map((row) => {
    const clip = Object.fromEntries(batch.columns.map((name) => [name, row[at[name]]]));
    clip.key = clip.index;
    clip.tail = clip.source; // what differs from clip to clip
    clip.source = source + clip.source;
    clip.uri = uri + clip.uri;
    clip.stamp = `${clip.status} ${clip.job_id}`;
    clip.text = [clip.tail, lastPart(clip.uri), clip.code, clip.message, clip.job_id, clip.seed].join(" ").toLowerCase();
    return clip;
  });
}

export class Batch {
  constructor(container, task, answer) {
    Object.assign(this, { task, outcome: "all", words: "", chosen: new Set() });
    this.grid = new Grid({
      draw: (clip) => this.#card(clip),
      links: (clip, options) => task.links(clip.index, options),
      side: (clip) => (isDone(clip) ? "result" : "source"),
    });
    this.counts = el("div.counts", { role: "group", "aria-label": "Filter by outcome" });
    this.search = el("input.search", { type: "search", placeholder: "Search source, file, job, error…", "aria-label": "Search clips", oninput: () => this.#filter() });
    this.playing = el("button.toggle", { type: "button", "aria-pressed": "false", onclick: () => this.#playAll() }, "Play all");
    this.again = el("div.again", { role: "group", "aria-label": "Retry" });
    this.status = el("p.quiet.detail", { role: "status" });
    this.head = el("header.head");
    this.meter = el("div.meter", { role: "img" });
    this.summary = el("p.quiet.summary");
    container.replaceChildren(
      this.head,
      this.meter,
      this.summary,
      el("div.bar", {}, this.counts, this.search, this.playing),
      this.again,
      this.status,
      this.grid.element,
    );
    this.update(answer);
  }

  close() {
    this.grid.close();
    this.dialog?.close();
  }

  update(answer) {
    this.answer = answer;
    const { batch, task } = answer;
    this.clips = readRows(batch);
    this.byIndex = new Map(this.clips.map((clip) => [clip.index, clip]));
    const counts = Object.fromEntries(OUTCOMES.map(([name]) => [name, 0]));
    for (const clip of this.clips) counts[clip.status] += 1;
    counts.all = this.clips.length;
    this.totals = counts;
    const state = task.state === "up_for_retry" ? badge("waiting", "Retry follows") : batch.live || !task.ended ? badge("waiting", "Running") : badge(task.state === "failed" ? "failed" : "landed", task.state === "failed" ? "Failed" : "Done");
    this.head.replaceChildren(el("h1", {}, task.task_id), state, el("span.quiet", {}, task.operator));
    this.#meter(counts);
    this.summary.replaceChildren(...this.#sentence(batch));
    redraw(
      this.counts,
      ...OUTCOMES.filter(([name]) => name === "all" || counts[name]).map(([name, label]) =>
        el(`button.count.${name}`, { type: "button", "aria-pressed": String(this.outcome === name), "data-outcome": name, onclick: () => this.#choose(name) }, label, el("b", {}, number(counts[name]))),
      ),
    );
    this.#filter();
    this.#again();
  }

  #meter(counts) {
    const parts = OUTCOMES.slice(1).filter(([name]) => counts[name]);
    this.meter.setAttribute("aria-label", parts.map(([name]) => `${counts[name]} ${name}`).join(", "));
    this.meter.replaceChildren(
      ...parts.map(([name]) => {
        const part = el(`i.${name}`, {});
        part.style.flexGrow = String(counts[name]);
        return part;
      }),
    );
  }

  #sentence(batch) {
    const { summary, common } = batch;
    const parts = [
      common.prompt && el("q", {}, String(common.prompt)),
      common.model_id,
      summary.bytes ? bytes(summary.bytes) : null,
      summary.seconds ? `in ${seconds(summary.seconds)}` : null,
      summary.duplicates ? `${number(summary.duplicates)} named twice` : null,
      batch.live && batch.modified ? `as of ${new Date(batch.modified).toLocaleTimeString()}` : null,
    ].filter(Boolean);
    return parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
  }

  #choose(name) {
    this.outcome = name;
    for (const button of this.counts.children) button.setAttribute("aria-pressed", String(button.dataset.outcome === name));
    this.#filter();
  }

  #filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.shown = this.clips.filter((clip) => (this.outcome === "all" || clip.status === this.outcome) && words.every((word) => clip.text.includes(word)));
    this.status.textContent = this.shown.length === this.clips.length ? "" : `${number(this.shown.length)} of ${number(this.clips.length)} clips`;
    if (!this.clips.length) {
      this.status.textContent = this.answer.task.ended ? "This batch left no results manifest." : "The clips are shown here as soon as the batch has written a checkpoint.";
    }
    this.grid.show(this.shown);
  }

  #playAll() {
    const on = this.playing.getAttribute("aria-pressed") !== "true";
    this.playing.setAttribute("aria-pressed", String(on));
    this.grid.play(on);
  }

  // -- retry -----------------------------------------------------------------------------------------------------------

  #again() {
    const open = this.totals.failed + this.totals.pending;
    const picked = this.chosen.size;
    // While the task goes on, or is to be tried again, it makes these clips itself.
    this.again.hidden = !picked && (!open || !this.answer.task.ended);
    if (this.again.hidden) return;
    const what = picked ? `${number(picked)} chosen` : `${number(open)} failed or not reached`;
    redraw(
      this.again,
      el("span", {}, el("strong", {}, "Retry: "), what),
      el("button", { type: "button", onclick: () => this.#retry("copy") }, icon("copy"), "Copy list"),
      el("button", { type: "button", onclick: () => this.#retry("save") }, icon("save"), "Download JSONL"),
      picked ? el("button.bare", { type: "button", onclick: () => this.#forget() }, "Clear choice") : "",
      ...this.#stored(picked),
    );
  }

  #stored(picked) {
    const { retry } = this.answer.batch.summary;
    if (!retry || picked) return [];
    return [el("span.stored", { title: "The same list in S3: the source of another run" }, el("code", {}, retry), copyButton(() => retry, "location of the list"))];
  }

  async #retry(how) {
    try {
      const { text, leftOut } = await this.task.retry(this.chosen.size ? [...this.chosen].sort((a, b) => a - b) : null);
      if (!text) notify("None of them can be listed: their links were signed, and are not stored");
      else if (how === "copy") await copyText(text, "List");
      else saveText(text, `${this.task.task_id}.retry.jsonl`);
      if (text && leftOut) notify(`${leftOut} left out: their links were signed, and are not stored`);
    } catch (error) {
      notify(error.message);
    }
  }

  #forget() {
    this.chosen.clear();
    for (const card of this.grid.cards.values()) card.element.querySelector("input").checked = false;
    this.#again();
  }

  #pick(clip, on) {
    if (on) this.chosen.add(clip.index);
    else this.chosen.delete(clip.index);
    this.#again();
  }

  // -- a card ---------------------------------------------------------------------------------------------------------

  #card(clip) {
    const name = lastPart(clip.tail) || clip.source;
    const detail = isDone(clip) ? [clip.seed !== null && clip.seed !== undefined ? `seed ${clip.seed}` : null, seconds(clip.seconds), bytes(clip.bytes)].filter(Boolean).join(" · ") : problem(clip) || (clip.status === "pending" ? (this.answer.batch.live ? "waiting" : "not reached") : clip.code);
    const pick = el("input", { type: "checkbox", "aria-label": `Choose ${name} for a retry`, onchange: () => this.#pick(clip, pick.checked) });
    pick.checked = this.chosen.has(clip.index);
    return el(
      `article.card.${clip.status}`,
      {},
      el(
        "button.frame",
        { type: "button", "aria-label": `${name}: ${clip.status}. Open side by side`, onclick: () => this.open(clip), onkeydown: (event) => this.#key(event, clip) },
        clip.status === "landed" ? null : badge(clip.status, clip.status === "skipped" ? "Skipped" : undefined),
      ),
      el("label.pick", { title: "Choose for a retry" }, pick),
      el(
        "div.caption",
        {},
        // The picture's button is the one for the keyboard and screen readers.
        el("button.name", { type: "button", tabindex: -1, "aria-hidden": "true", title: clip.source, onclick: () => this.open(clip) }, name),
        el("span.detail", { title: detail }, (isDone(clip) ? detail : briefly(detail)) || "\u00a0"),
      ),
    );
  }

  #key(event, clip) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.grid.columns, ArrowDown: this.grid.columns }[event.key];
    if (!step) return;
    event.preventDefault();
    this.grid.focus(this.shown.indexOf(clip) + step);
  }

  open(clip) {
    this.dialog = openClip({
      task: this.task,
      clip,
      neighbour: (current, step) => this.shown[this.shown.findIndex((one) => one.index === current.index) + step],
      closed: (last) => this.grid.focus(this.shown.findIndex((one) => one.index === last.index)),
    });
  }
}

/** The error in a few words that fit on a card. */
function problem(clip) {
  return clip.code === "validation" ? clip.message?.replace(/^[^:]* is not valid:\s*/, "") : clip.message;
}

/** The half of a message that differs: without the job's number, and of a location only its last part. */
export function briefly(text) {
  return String(text ?? "")
    .replace(/^(The )?[Jj]ob \S+ (has )?failed:?\s*/, "")
    .replaceAll(/\b(?:s3|https?|file):\/\/\S*\/([^\s/]+)/g, "…/$1");
}

function isDone(clip) {
  return clip.status === "landed" || clip.status === "skipped";
}
