// Chooses the page by its address, and refreshes it while the task is running.

import { Refused, Task } from "./api.js";
import { Batch } from "./batch.js";
import { airflowLink, el, icon, notify } from "./dom.js";
import { showRecent } from "./recent.js";
import { showSingle, taskPath } from "./single.js";

const REFRESH_MS = 4000;
const ENDS = [401, 403, 404]; // the next request would get the same answer
const page = document.getElementById("page");
const params = new URLSearchParams(location.search);
const iterations = el("nav.iterations", { "aria-label": "Iterations of the loop", hidden: true });

/** The error, as children of an element. */
function words(error) {
  const status = error instanceof Refused ? error.status : 0;
  if (status === 401) return [el("p", {}, "You are not logged in to Airflow."), airflowLink("/", "Log in", icon("out"))];
  return [el("p", {}, status === 403 ? "Your role in Airflow does not let you read this Dag's results." : error.message)];
}

function problem(error) {
  page.replaceChildren(el("div.empty", { role: "alert" }, ...words(error)));
}

function frame(task) {
  const inner = el("div.inner");
  const bar = el("nav.trail", {}, el("a", { href: "./" }, "All videos"), el("span.gap"), airflowLink(taskPath(task), "Task in Airflow", icon("out")));
  page.replaceChildren(...(params.get("from") ? [bar] : []), iterations, inner);
  return inner;
}

/** The iterations of a task in a loop, to choose one. */
function showIterations({ iterations: all = [], loop_index: shown }) {
  const link = (index) => {
    const query = new URLSearchParams(params);
    query.set("loop_index", index);
    return el("a", { href: `?${query}`, "aria-current": index === shown ? "page" : null }, String(index));
  };
  iterations.hidden = all.length < 2;
  iterations.replaceChildren("Iteration", ...all.map(link));
}

/** The page of a task of others: below Airflow 3.4 the tab is on all tasks. */
function elsewhere(videos) {
  const links = videos.map((task_id) => airflowLink(taskPath({ ...task, task_id, map_index: -1 }), task_id));
  return el(
    "div.empty",
    {},
    el("p", {}, "This task is not one of the ModelsLab provider, so there is no video to show."),
    links.length > 0 && el("p.elsewhere", {}, "Tasks of this run with videos:", links),
    el("p", {}, el("a", { href: "./" }, "All videos")),
  );
}

function isNumber(text) {
  return /^\d+$/.test(text || "");
}

/** The iteration that Airflow's page shows around this one: it has no placeholder for it. */
function iterationAround() {
  try {
    return window.parent === window ? null : new URLSearchParams(window.parent.location.search).get("iteration");
  } catch {
    return null;
  }
}

const iteration = [params.get("loop_index"), iterationAround()].find(isNumber);

const task = new Task({
  dag_id: params.get("dag_id"),
  run_id: params.get("run_id"),
  task_id: params.get("task_id"),
  // Airflow leaves the placeholder as it is where a task is not mapped.
  map_index: isNumber(params.get("map_index")) ? Number(params.get("map_index")) : -1,
  loop_index: iteration === undefined ? null : Number(iteration), // else the newest
});

let end = () => {};
let batch = null;
let drawn = "";
let goesOn = false;
let lastRefresh; // time of the data that is shown
let note = null; // above a page that is not up to date

async function refresh() {
  const answer = await task.show(batch?.answer.batch.version);
  if (answer.kind === "other") {
    end();
    page.replaceChildren(elsewhere(answer.videos ?? []));
    return false;
  }
  showIterations(answer.task);
  if (answer.kind === "batch") {
    if (answer.unchanged) batch.update({ ...batch.answer, task: answer.task });
    else if (batch) batch.update(answer);
    else {
      const inner = frame(answer.task);
      batch = new Batch(inner, task, answer);
      if (answer.problem) inner.prepend(el("p.note", { role: "alert" }, answer.problem));
      end = () => batch.close();
    }
  } else {
    // The playback is not interrupted when only a time has changed.
    const now = JSON.stringify([answer.single, answer.problem, answer.task.state]);
    if (now !== drawn) {
      end();
      end = showSingle(frame(answer.task), task, answer);
      drawn = now;
    }
  }
  if (goesOn && answer.task.ended) notify(`${answer.task.task_id}: ${answer.task.state === "failed" ? "failed" : "done"}`);
  return !answer.task.ended;
}

/** Show above the page that its data is out of date. */
function stale(error, ends) {
  if (note && !ends) return; // said once
  note?.remove();
  note = el(ends ? "div.problem" : "div.note", { role: ends ? "alert" : "status" });
  page.prepend(note);
  note.append(el("p", {}, `Not up to date since ${lastRefresh.toLocaleTimeString()}`), ...words(error));
}

async function watch() {
  try {
    if (!document.hidden) {
      goesOn = await refresh();
      lastRefresh = new Date();
      note?.remove();
      note = null;
    }
    if (goesOn || !lastRefresh) setTimeout(watch, REFRESH_MS);
  } catch (error) {
    if (!lastRefresh) return problem(error);
    const ends = ENDS.includes(error.status);
    stale(error, ends);
    if (!ends) setTimeout(watch, REFRESH_MS * 4);
  } finally {
    page.removeAttribute("aria-busy");
  }
}

if (task.dag_id) watch();
else
  showRecent(page)
    .catch(problem)
    .finally(() => page.removeAttribute("aria-busy"));
