// Requests to the routes behind this page. Links to clips are fetched together, and cached while they are valid.

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function get(path, query) {
  const url = new URL(`api/${path}`, location.href);
  url.search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== null));
  const answer = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (answer.ok) return answer;
  let detail = "";
  try {
    detail = (await answer.json()).detail;
  } catch {
    // no JSON: a proxy's own page
  }
  throw new Refused(answer.status, typeof detail === "string" && detail ? detail : `HTTP ${answer.status}`);
}

/** One task instance. */
export class Task {
  constructor({ dag_id, run_id, task_id, map_index, loop_index }) {
    Object.assign(this, { dag_id, run_id, task_id, map_index, loop_index });
    this.named = { run_id, loop_index };
    this.path = `dags/${encodeURIComponent(dag_id)}/tasks/${encodeURIComponent(task_id)}/${map_index}`;
    this.known = new Map();
    this.waiting = new Map();
  }

  async show(version) {
    return (await get(this.path, { ...this.named, version })).json();
  }

  async clip(index) {
    return (await get(`${this.path}/clips/${index}`, this.named)).json();
  }

  async retry(indices) {
    const answer = await get(`${this.path}/retry`, { ...this.named, clips: indices?.join(",") });
    return { text: await answer.text(), leftOut: Number(answer.headers.get("X-Left-Out")) || 0 };
  }

  async sample(count) {
    return Object.values(await this.#links({ sample: count }));
  }

  async #links(query) {
    return (await (await get(`${this.path}/links`, { ...this.named, ...query })).json()).links;
  }

  /** The links of one clip; those that are requested within a moment go in one request. */
  links(index, { renew = false } = {}) {
    const known = this.known.get(index);
    if (known && !renew && known.until > performance.now()) return known.links;
    if (renew) {
      const links = this.#fetch([index], true).then((found) => found[index] ?? {});
      this.known.set(index, { links, until: performance.now() + 25 * 60_000 });
      return links;
    }
    const links = new Promise((done, failed) => {
      this.waiting.set(index, { done, failed });
      if (this.waiting.size === 1) setTimeout(() => this.#flush(), 40);
    });
    this.known.set(index, { links, until: performance.now() + 25 * 60_000 });
    links.catch(() => this.known.delete(index));
    return links;
  }

  async #flush() {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (let start = 0; start < waiting.length; start += 100) {
      const part = waiting.slice(start, start + 100);
      try {
        const found = await this.#fetch(part.map(([index]) => index), false);
        for (const [index, { done }] of part) done(found[index] ?? {});
      } catch (error) {
        for (const [, { failed }] of part) failed(error);
      }
    }
  }

  #fetch(indices, renew) {
    return this.#links({ clips: indices.join(","), renew: renew || undefined });
  }
}

export async function recent(filters, after) {
  return (await get("recent", { ...filters, after })).json();
}
