// Source and result side by side (or one over the other), started together and held together.

import { calm, el, icon } from "./dom.js";
import { Gif } from "./gif.js";

/** One clip: a video or a gif, or words where there is none. */
function clip(side, label) {
  const box = el("figure.clip", { "data-side": side }, el("figcaption", {}, label));
  return { box, media: null, side, label };
}

function say(target, text) {
  target.media?.remove();
  target.media = null;
  target.box.querySelector(".say")?.remove();
  target.box.append(el("p.say", {}, text));
}

/**
 * The stage with its controls.
 * @param {object} options - links: a function(renew) that gives {source, result}; waiting: what stands for the result.
 */
export function pair({ links, waiting, title }) {
  const source = clip("source", "Source");
  const result = clip("result", "Result");
  const both = [source, result];
  const play = el("button.round", { type: "button", "aria-label": "Play", title: "Play or pause (space)" }, icon("play"));
  const line = el("input.line", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Position", disabled: true });
  // Many times a second: a screen reader announces the position only when someone changes it, see announcePosition.
  const clock = el("span.clock", { "aria-hidden": "true" });
  const over = el("button.toggle", { type: "button", "aria-pressed": "false", disabled: true, title: "Lay the result over the source" }, "Compare");
  const sound = el("button.toggle", { type: "button", "aria-pressed": "false", hidden: true, title: "Play the sound of the result" }, "Sound");
  const wipe = el("input.wipe", { type: "range", min: 0, max: 100, value: 50, "aria-label": "How much of the source to show", hidden: true });
  const stage = el("div.stage", { role: "group", "aria-label": title }, source.box, result.box, wipe);
  const view = el("div.pair", {}, stage, el("div.controls", {}, play, line, clock, sound, over));
  let wanted = !calm.matches;
  let gone = false;
  let label = "Play";
  let loud = false;

  const media = (kind) => both.map((one) => one.media).filter((one) => one instanceof kind);
  const videos = () => media(HTMLVideoElement);
  const gifs = () => media(Gif);
  // The result says how long a round is; the source, which may go on for minutes, is shown as far.
  const leader = () => (result.media instanceof HTMLVideoElement ? result.media : videos()[0]);

  // At its end a clip counts as paused, for the moment until it begins again. One that the browser does not let play does too.
  const playing = () => wanted && (leader() ? !leader().paused || leader().ended : gifs().length > 0);

  function draw() {
    const lead = leader();
    const next = playing() ? "Pause" : "Play";
    if (next !== label) {
      // Only then: a browser drops a click whose pressed element is gone when the button of the mouse comes up.
      label = next;
      play.replaceChildren(icon(label.toLowerCase()));
      play.setAttribute("aria-label", label);
    }
    play.disabled = !lead && !gifs().length;
    if (!lead || !Number.isFinite(lead.duration)) return;
    line.disabled = false;
    line.value = String(Math.round((lead.currentTime / lead.duration) * 1000));
    clock.textContent = `${lead.currentTime.toFixed(1)} / ${lead.duration.toFixed(1)} s`;
  }

  function announcePosition() {
    const lead = leader();
    if (lead && Number.isFinite(lead.duration)) line.setAttribute("aria-valuetext", `${lead.currentTime.toFixed(1)} of ${lead.duration.toFixed(1)} s`);
  }

  function seek(at) {
    for (const video of videos()) video.currentTime = Math.min(at, Number.isFinite(video.duration) ? video.duration : at);
  }

  async function start() {
    wanted = true;
    for (const gif of gifs()) gif.play();
    seek(leader()?.currentTime ?? 0);
    await Promise.allSettled(videos().filter((video) => !video.ended).map((video) => video.play()));
    draw();
  }

  function stop() {
    wanted = false;
    for (const one of [...videos(), ...gifs()]) one.pause();
    draw();
  }

  function again() {
    seek(0);
    for (const video of videos()) video.play().catch(() => {});
  }

  function tick() {
    if (gone) return;
    const lead = leader();
    if (lead && !lead.paused) {
      for (const video of videos()) {
        if (video !== lead && !video.paused && Math.abs(video.currentTime - lead.currentTime) > 0.12) video.currentTime = lead.currentTime;
      }
    }
    draw();
    requestAnimationFrame(tick);
  }

  function put(target, link, onbroken) {
    target.box.querySelector(".say")?.remove();
    target.media?.remove();
    if (!link) return Promise.resolve(say(target, target === result ? waiting || "No result" : "The source was not recorded"));
    if (!link.url) return Promise.resolve(say(target, link.why || "Not available"));
    return new Promise((done) => {
      const image = link.type === "image";
      const name = `${target.label} of ${title}`;
      target.media = image ? new Gif(name) : el("video", { muted: true, playsinline: true, preload: "auto", "aria-label": name });
      if (!image) target.media.muted = !loud || target !== result;
      target.media.addEventListener(image ? "load" : "canplay", done, { once: true });
      target.media.addEventListener("error", () => {
        onbroken();
        done();
      });
      target.media.src = link.url;
      target.box.append(target.media);
    });
  }

  async function load(renew) {
    let found;
    try {
      found = await links(renew);
    } catch (error) {
      for (const target of both) say(target, error.message);
      return;
    }
    if (gone) return;
    let renewed = renew;
    await Promise.all(
      both.map((target) =>
        put(target, found[target.side], () => {
          if (!renewed) {
            renewed = true; // the link may have ended: once again with a new one
            load(true);
          } else if (target.media) {
            say(target, `This browser cannot show ${target === source ? "the source" : "the result"}: it is gone, not open to it, or of a kind that it does not play.`);
          }
        }),
      ),
    );
    if (gone) return;
    over.disabled = !(source.media && result.media);
    leader()?.addEventListener("ended", () => (wanted ? again() : draw()));
    if (wanted) start();
    else draw();
    announcePosition();
  }

  play.addEventListener("click", () => (playing() ? stop() : start()));
  line.addEventListener("input", () => {
    const lead = leader();
    if (lead && Number.isFinite(lead.duration)) seek((Number(line.value) / 1000) * lead.duration);
    draw();
    announcePosition();
  });
  line.addEventListener("focus", announcePosition);
  over.addEventListener("click", () => {
    const on = stage.classList.toggle("over");
    over.setAttribute("aria-pressed", String(on));
    wipe.hidden = !on;
    stage.style.setProperty("--wipe", `${wipe.value}%`);
  });
  sound.addEventListener("click", () => {
    loud = !loud;
    sound.setAttribute("aria-pressed", String(loud));
    if (result.media instanceof HTMLVideoElement) result.media.muted = !loud;
  });
  wipe.addEventListener("input", () => stage.style.setProperty("--wipe", `${wipe.value}%`));
  stage.addEventListener("click", (event) => event.target !== wipe && !play.disabled && play.click());

  load(false);
  requestAnimationFrame(tick);
  return {
    view,
    /** Offers the sound, which is off at first. */
    offerSound() {
      sound.hidden = false;
    },
    toggle: () => play.disabled || play.click(),
    close() {
      gone = true;
      for (const video of videos()) {
        video.pause();
        video.removeAttribute("src");
        video.load();
      }
    },
  };
}
