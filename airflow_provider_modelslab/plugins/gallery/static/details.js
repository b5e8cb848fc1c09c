// The details of one clip: error, prompt, facts, locations, request.

import { bytes, copyButton, el, seconds, when } from "./dom.js";

const NAMES = {
  landed: "Landed",
  skipped: "Landed earlier",
  finished: "Done, not copied to S3",
  submitted: "Submitted; this task does not wait",
  waiting: "Waiting",
  retrying: "Retry follows",
  pending: "Pending",
  failed: "Failed",
  nothing: "Nothing to show",
};

const KINDS = { landed: "good", skipped: "good", finished: "good", failed: "bad", submitted: "wait", waiting: "wait", retrying: "wait", pending: "wait" };

export function badge(outcome, text) {
  return el(`span.badge.${KINDS[outcome] || "quiet"}`, {}, text || NAMES[outcome] || outcome);
}

function size(request, facts) {
  const width = facts.width ?? request.width;
  const height = facts.height ?? request.height;
  return width && height ? `${width} × ${height}` : null;
}

/** The model that made it, and the name that the request gave where that was an alias. */
function model(request, facts) {
  const alias = facts.model_id && request.model_id && facts.model_id !== request.model_id;
  return alias ? `${facts.model_id} (requested as ${request.model_id})` : facts.model_id;
}

function facts(found) {
  const { request, facts: known, result } = found;
  const rows = [
    ["Model", model(request, known)],
    ["Seed", known.seed ?? request.seed],
    ["Generation time", seconds(known.generation_time_s)],
    ["Cost", known.cost && `${known.cost} ${known.currency ?? ""}`.trim()],
    ["Time to land", seconds(known.seconds)],
    ["Strength", request.strength],
    ["Size", size(request, known)],
    ["Frames", known.num_frames ?? request.num_frames],
    ["FPS", known.fps ?? request.fps],
    ["Steps", request.num_inference_steps],
    ["Guidance", request.guidance_scale],
    ["Motion module", request.motion_module],
    ["LoRAs", list(request.lora_models)],
    ["Motion LoRAs", list(request.motion_loras)],
    ["File", bytes(result?.bytes)],
    ["Submitted", known.submitted_at && when(known.submitted_at)],
    ["Landed", known.landed_at && when(known.landed_at)],
    ["Links expire", found.outcome === "finished" && known.expires_at && when(known.expires_at)],
    ["Expected after", known.eta_s && found.outcome === "waiting" && seconds(known.eta_s)],
    ["Device", known.device],
    ["Job", known.job_id, "wide"],
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

function locations(found) {
  const rows = [
    ["Source", found.source],
    ["Result", found.result?.uri],
    ["Sidecar", found.result?.sidecar_uri],
    ["SHA-256", found.result?.sha256],
  ].filter(([, value]) => value);
  if (!rows.length) return null;
  return el(
    "dl.locations",
    {},
    rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("code", {}, value), copyButton(() => value, name.toLowerCase())))),
  );
}

/** The request as JSON to submit again, without empty attributes. */
function requestText(request) {
  const given = Object.entries(request).filter(([, value]) => value !== null && value !== "" && !(typeof value === "object" && !Object.keys(value).length));
  return JSON.stringify(Object.fromEntries(given), null, 2);
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
    locations(found),
    Object.keys(request).length > 0 &&
      el("details.request", {}, el("summary", {}, "Request"), el("div.code", {}, copyButton(() => text, "request"), el("pre", {}, text))),
  );
}
