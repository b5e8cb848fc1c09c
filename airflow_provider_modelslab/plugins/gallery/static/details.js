// What is known of one clip, in the order in which people ask: what was wanted, how, where it is.

import { bytes, copyButton, el, seconds, when } from "./dom.js";

const NAMES = {
  landed: "Landed",
  skipped: "Was there before",
  finished: "Done, not copied to S3",
  submitted: "Submitted; this task does not wait",
  waiting: "Waiting",
  pending: "Pending",
  failed: "Failed",
  nothing: "Nothing to show",
};

const KINDS = { landed: "good", skipped: "good", finished: "good", failed: "bad", submitted: "wait", waiting: "wait", pending: "wait" };

export function badge(outcome, text) {
  return el(`span.badge.${KINDS[outcome] || "quiet"}`, {}, text || NAMES[outcome] || outcome);
}

function size(request, facts) {
  const width = facts.width ?? request.width;
  const height = facts.height ?? request.height;
  return width && height ? `${width} × ${height}` : null;
}

function facts(found) {
  const { request, facts: told, result } = found;
  const rows = [
    ["Model", told.model_id],
    ["Seed", told.seed ?? request.seed],
    ["Made in", seconds(told.generation_time_s)],
    ["Cost", told.cost && `${told.cost} ${told.currency ?? ""}`.trim()],
    ["Until it landed", seconds(told.seconds)],
    ["Strength", request.strength],
    ["Size", size(request, told)],
    ["Frames", told.num_frames ?? request.num_frames],
    ["Frames a second", told.fps ?? request.fps],
    ["Steps", request.num_inference_steps],
    ["Guidance", request.guidance_scale],
    ["Motion module", request.motion_module],
    ["LoRAs", list(request.lora_models)],
    ["Motion LoRAs", list(request.motion_loras)],
    ["File", bytes(result?.bytes)],
    ["Submitted", told.submitted_at && when(told.submitted_at)],
    ["Landed", told.landed_at && when(told.landed_at)],
    ["Links end", found.outcome === "finished" && told.expires_at && when(told.expires_at)],
    ["Expected after", told.eta_s && found.outcome === "waiting" && seconds(told.eta_s)],
    ["Device", told.device],
    ["Job", told.job_id, "wide"],
  ];
  return el(
    "dl.facts",
    {},
    rows
      .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
      .map(([name, value, kind]) => el("div", { class: kind }, el("dt", {}, name), el("dd", {}, String(value)))),
  );
}

function list(value) {
  return Array.isArray(value) ? value.join(", ") : value;
}

function places(found) {
  const rows = [
    ["Source", found.source],
    ["Result", found.result?.uri],
    ["How it was made", found.result?.sidecar_uri],
    ["SHA-256", found.result?.sha256],
  ].filter(([, value]) => value);
  if (!rows.length) return null;
  return el(
    "dl.places",
    {},
    rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("code", {}, value), copyButton(() => value, name.toLowerCase())))),
  );
}

/** The request as it can be given again: without what nobody said. */
function requestText(request) {
  const said = Object.entries(request).filter(([, value]) => value !== null && value !== "" && !(typeof value === "object" && !Object.keys(value).length));
  return JSON.stringify(Object.fromEntries(said), null, 2);
}

export function details(found) {
  const { request, error } = found;
  const text = requestText(request);
  return el(
    "div.details",
    {},
    error && el("div.problem", { role: "alert" }, el("strong", {}, error.code ? String(error.code).replaceAll("_", " ") : "Failed"), el("p", {}, error.message || "")),
    found.notes?.map((note) => el("p.note", {}, note)),
    request.prompt && el("section.words", {}, el("h3", {}, "Prompt"), el("p.prompt", {}, String(request.prompt))),
    request.negative_prompt && el("section.words", {}, el("h3", {}, "Negative prompt"), el("p.prompt.quiet", {}, String(request.negative_prompt))),
    facts(found),
    places(found),
    Object.keys(request).length > 0 &&
      el("details.request", {}, el("summary", {}, "Request"), el("div.code", {}, copyButton(() => text, "request"), el("pre", {}, text))),
  );
}
