// A grid of which only what can be seen exists: ten thousand clips cost as many elements as a screenful.

import { calm, el } from "./dom.js";
import { Gif } from "./gif.js";

const GAP = 14;
const NARROWEST = 232;
const TEXT = 72; // pixels below a picture
const SPARE = 1; // rows drawn above and below what can be seen
const VISIBLE_MS = 120; // milliseconds for which a clip must be visible before its links are fetched

/**
 * @param {object} options - draw(item): a card's element with a .frame; links(item): its links; side(item): which is shown.
 */
export class Grid {
  constructor({ draw, links, side }) {
    Object.assign(this, { draw, links, side });
    this.items = [];
    this.cards = new Map();
    this.playAll = false;
    this.element = el("div.grid", { role: "list" });
    this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.#see(entry)), { threshold: 0.15 });
    this.measure = new ResizeObserver(() => this.#layout());
    this.measure.observe(this.element);
    this.onscroll = () => {
      this.frameRequest ||= requestAnimationFrame(() => {
        this.frameRequest = 0;
        this.#render();
      });
    };
    window.addEventListener("scroll", this.onscroll, { passive: true });
    window.addEventListener("resize", this.onscroll, { passive: true });
  }

  close() {
    window.removeEventListener("scroll", this.onscroll);
    window.removeEventListener("resize", this.onscroll);
    this.seen.disconnect();
    this.measure.disconnect();
    for (const key of [...this.cards.keys()]) this.#drop(key);
  }

  /** Show these; cards of items that stay are drawn anew when their `stamp` differs. */
  show(items) {
    this.items = items;
    for (const [key, card] of this.cards) {
      if (items[card.at]?.key !== key || items[card.at].stamp !== card.item.stamp) this.#drop(key);
    }
    this.#layout();
  }

  play(on) {
    this.playAll = on;
    for (const card of this.cards.values()) this.#move(card);
  }

  /** Bring an item into view and its button into focus. */
  focus(at) {
    if (!this.items[at]) return;
    const top = Math.floor(at / this.columns) * this.row;
    const box = this.element.getBoundingClientRect();
    if (box.top + top < 60 || box.top + top + this.row > window.innerHeight) {
      window.scrollTo({ top: window.scrollY + box.top + top - window.innerHeight / 3 });
    }
    this.#render();
    this.cards.get(this.items[at].key)?.element.querySelector("button.frame")?.focus({ preventScroll: true });
  }

  #layout() {
    const width = this.element.clientWidth;
    if (!width) return;
    this.columns = Math.max(1, Math.floor((width + GAP) / (NARROWEST + GAP)));
    this.width = (width - GAP * (this.columns - 1)) / this.columns;
    this.row = Math.round((this.width * 9) / 16) + TEXT + GAP;
    const height = Math.ceil(this.items.length / this.columns) * this.row;
    this.element.style.height = `${height}px`;
    this.#render();
  }

  #render() {
    if (!this.columns) return;
    const top = this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / this.row) - SPARE) * this.columns;
    const last = Math.min(this.items.length, (Math.ceil((window.innerHeight - top) / this.row) + SPARE) * this.columns);
    const wanted = new Set();
    const added = new Set();
    for (let at = first; at < last; at += 1) {
      const item = this.items[at];
      wanted.add(item.key);
      let card = this.cards.get(item.key);
      if (!card) {
        card = { item, at, element: this.draw(item), shown: false };
        card.element.setAttribute("role", "listitem");
        card.element.card = card;
        const frame = card.element.querySelector(".frame");
        for (const event of ["pointerenter", "focus"]) frame.addEventListener(event, () => this.#hold(card, true));
        for (const event of ["pointerleave", "blur"]) frame.addEventListener(event, () => this.#hold(card, false));
        this.cards.set(item.key, card);
        added.add(card);
      }
      card.at = at;
      card.element.setAttribute("aria-setsize", String(this.items.length));
      card.element.setAttribute("aria-posinset", String(at + 1));
      const { style } = card.element;
      style.width = `${this.width}px`;
      style.transform = `translate(${(at % this.columns) * (this.width + GAP)}px, ${Math.floor(at / this.columns) * this.row}px)`;
    }
    for (const key of [...this.cards.keys()]) if (!wanted.has(key)) this.#drop(key);
    // Cards are in the order in which they are read and tabbed through. Only new ones are inserted: a moved one loses the focus.
    let after = null;
    for (let at = last - 1; added.size && at >= first; at -= 1) {
      const card = this.cards.get(this.items[at].key);
      if (added.delete(card)) {
        this.element.insertBefore(card.element, after);
        this.seen.observe(card.element);
      }
      after = card.element;
    }
  }

  #drop(key) {
    const card = this.cards.get(key);
    this.cards.delete(key);
    this.seen.unobserve(card.element);
    this.#hide(card);
    card.element.remove();
  }

  #see({ target, isIntersecting }) {
    const { card } = target;
    card.shown = isIntersecting;
    clearTimeout(card.timer);
    if (isIntersecting) card.timer = setTimeout(() => this.#fill(card), VISIBLE_MS);
    else this.#hide(card);
  }

  async #fill(card, added = false) {
    const side = this.side(card.item);
    if ((card.media && !added) || !side) return;
    let link;
    try {
      link = (await this.links(card.item, { added }))[side];
    } catch {
      return; // the page tells what is wrong with its data; a picture that is missing says enough here
    }
    if (!card.shown || !link?.url) return;
    card.media?.remove();
    const image = link.type === "image";
    card.media = image ? new Gif() : Object.assign(el("video", { "aria-hidden": "true", preload: "metadata", playsinline: true }), { muted: true, loop: true });
    card.media.addEventListener(image ? "load" : "loadeddata", () => card.element.classList.add("filled"), { once: true });
    card.media.addEventListener("error", () => (added ? card.element.classList.add("broken") : this.#fill(card, true)), { once: true });
    card.media.src = image ? link.url : `${link.url}#t=0.001`; // the fragment makes browsers draw the first picture
    card.element.querySelector(".frame").prepend(card.media);
    this.#move(card);
  }

  #hide(card) {
    clearTimeout(card.timer);
    if (!card.media) return;
    if (card.media instanceof HTMLVideoElement) {
      card.media.pause();
      card.media.removeAttribute("src");
      card.media.load(); // gives its memory and connection back
    }
    card.media.remove();
    card.media = null;
    card.element.classList.remove("filled");
  }

  #hold(card, held) {
    card.held = held;
    this.#move(card);
  }

  #move(card) {
    if (this.playAll || (card.held && !calm.matches)) card.media?.play()?.catch(() => {});
    else card.media?.pause();
  }
}
