// The page of a task that makes one video.

import { airflowLink, el, icon } from "./dom.js";
import { badge, details } from "./details.js";
import { pair } from "./pair.js";

const INSTEAD = {
  waiting: "Waiting for the result",
  retrying: "No result yet; the task is tried again",
  submitted: "Submitted; another task waits for it",
  failed: "There is no result: the task failed",
  pending: "Not reached yet",
  nothing: "There is no result",
};

export function taskPath(task, tab = "") {
  const mapped = task.map_index >= 0 ? `/mapped/${task.map_index}` : "";
  const iteration = task.loop_id == null ? "" : `?${new URLSearchParams({ loop_id: task.loop_id, iteration: task.loop_index })}`;
  return `/dags/${encodeURIComponent(task.dag_id)}/runs/${encodeURIComponent(task.run_id)}/tasks/${encodeURIComponent(task.task_id)}${mapped}${tab}${iteration}`;
}

/** Draws the page; returns a function that stops the playback. */
export function showSingle(container, task, answer) {
  const found = answer.single;
  const stage = pair({
    title: `${task.task_id}`,
    waiting: INSTEAD[found.outcome],
    links: async (renew) => (found.result || found.source ? await task.links(0, { renew }) : {}),
  });
  container.replaceChildren(
    el("header.head", {}, el("h1", {}, task.task_id), badge(found.outcome), el("span.quiet", {}, answer.task.operator)),
    answer.problem ? el("p.note", { role: "alert" }, answer.problem) : "",
    stage.view,
    found.outcome === "failed" && !found.error
      ? el("p.note", {}, "The task has no job, or its job returned no error. ", airflowLink(taskPath(answer.task), "See its log", icon("out")))
      : "",
    details(found),
  );
  container.dataset.outcome = found.outcome;
  const key = (event) => {
    if (event.key === " " && !event.target.closest("button,input,summary,a,textarea")) {
      event.preventDefault();
      stage.toggle();
    }
  };
  document.addEventListener("keydown", key);
  return () => {
    document.removeEventListener("keydown", key);
    stage.close();
  };
}
