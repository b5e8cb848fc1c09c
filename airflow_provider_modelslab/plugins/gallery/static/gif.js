// A gif that can be paused, which <img> cannot: while it is, its first picture stands in its place.

import { el } from "./dom.js";

/** Begins paused. Tells "load" and "error" of its picture; `play` and `pause` are named as those of a video. */
export class Gif extends HTMLElement {
  #image;
  #still;

  /** @param {string} label - what a screen reader says of it; none where something else does. */
  constructor(label = "") {
    super();
    this.#image = el("img", { alt: label, hidden: true, referrerpolicy: "no-referrer" });
    this.#still = el("canvas", label ? { role: "img", "aria-label": label, hidden: true } : { "aria-hidden": "true", hidden: true });
    this.#image.addEventListener("load", () => {
      if (this.paused) this.pause();
      this.dispatchEvent(new Event("load"));
    });
    this.#image.addEventListener("error", () => this.dispatchEvent(new Event("error")));
    this.append(this.#image, this.#still);
  }

  get paused() {
    return this.#image.hidden;
  }

  set src(url) {
    this.#image.src = url;
  }

  play() {
    this.#image.hidden = false;
    this.#still.hidden = true;
  }

  pause() {
    this.#image.hidden = true;
    const { naturalWidth: width, naturalHeight: height } = this.#image;
    if (!width) return; // not there yet
    Object.assign(this.#still, { width, height, hidden: false });
    this.#still.getContext("2d").drawImage(this.#image, 0, 0); // of what moves, a canvas takes the first picture
  }
}

customElements.define("modelslab-gif", Gif);
