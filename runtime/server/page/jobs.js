// The jobs: sent one after the other, followed until they end, kept with what came of them.
//
// An entry is what the browser keeps of one: its settings, the words of its request, the server's id once it has one,
// its state (unsent, then the server's own), and its result.

const MOST_STREAMS = 3;
const POLL_MILLISECONDS = 2500;
const MOST_PAUSE = 10000;
const BUSY = [429, 502, 503, 504];

class Jobs {
  // `failed` is called with an error's message, `reuse` with an entry and its files.
  constructor({ failed, reuse }) {
    this.cards = new Map();
    this.streams = new Map();
    this.failed = failed;
    this.actions = {
      cancel: (entry) => this.cancel(entry),
      again: (entry) => this.again(entry),
      remove: (entry) => this.remove(entry),
      reuse: async (entry) => reuse(entry.settings, await this.blobs(entry)),
      view: (card, index) => viewer.open(card, index, this.actions.reuse),
    };
    this.tab = secret.session.getItem(`${PREFIX}tab`) ?? randomKey();
    secret.session.setItem(`${PREFIX}tab`, this.tab);
  }

  get list() {
    return [...this.cards.values()].map(({ entry }) => entry);
  }

  card = (entry) => this.cards.get(entry.key);

  start() {
    for (const entry of entries.all()) this.show(entry);
    setInterval(() => this.tick(), 500);
    setInterval(() => this.poll(), POLL_MILLISECONDS);
    document.addEventListener("visibilitychange", () => this.attend());
    window.addEventListener("storage", ({ key, newValue }) => {
      if (key?.startsWith(PREFIX + ENTRY)) this.adopt(key.slice((PREFIX + ENTRY).length), JSON.parse(newValue));
    });
    collectFiles();
    this.tick();
    this.goOn();
  }

  // After a start, and after a key was given.
  goOn() {
    this.locked = false;
    this.sendAll();
    this.attend();
  }

  show(entry) {
    const card = new Card(entry, this.actions);
    this.cards.set(entry.key, card);
    this.place(card);
    this.tick();
    return card;
  }

  // What runs comes first, then what waits, in the queue's order, then what is finished, the newest in front.
  place(card) {
    const rank = ({ entry }) => {
      if (!isOpen(entry)) return [2, -entry.created];
      return [entry.state === "running" ? 0 : 1, entry.created];
    };
    const [kind, order] = rank(card);
    const behind = ([itsKind, itsOrder]) => itsKind > kind || (itsKind === kind && itsOrder > order);
    const next = [...byId("cards").children].find(({ card: other }) => other !== card && behind(rank(other)));
    if (card.node.isConnected && card.node.nextElementSibling === (next ?? null)) return;
    const held = card.node.contains(document.activeElement) ? document.activeElement : null;
    byId("cards").insertBefore(card.node, next ?? null);
    held?.focus();
  }

  // What another tab added, changed or deleted (null). What a slower tab says of a job that has ended here is old.
  adopt(key, entry) {
    const card = this.cards.get(key);
    const old = entry && card && entry.job === card.entry.job && isOpen(entry) && !isOpen(card.entry);
    if (!entry && card) this.hide(card.entry);
    else if (entry && !card) this.show(entry);
    else if (entry && !old && (entry.state !== card.entry.state || entry.job !== card.entry.job)) {
      Object.assign(card.entry, entry);
      card.render();
      this.place(card);
    }
    this.attend();
  }

  async submit(settings, words) {
    const given = Object.values(settings.files).flat();
    const unloaded = (items) => items.map(({ blob, ...item }) => item);
    const listed = Object.entries(settings.files).map(([name, items]) => [name, unloaded(items)]);
    const kept = { ...settings, files: Object.fromEntries(listed) };
    const blank = { state: "unsent", job: null, error: null, result: null };
    const entry = { key: randomKey(), created: Date.now(), tab: this.tab, settings: kept, request: words, ...blank };
    this.save(entry);
    this.show(entry);
    byId("results").scrollIntoView({ block: "start" });
    for (const { key, blob } of given) await files.put(key, blob);
    this.prune();
    this.sendAll();
  }

  // The result stays as long as there is room for it; what is followed is never given up.
  prune() {
    const finished = this.list.filter((entry) => !isOpen(entry)).sort((one, other) => one.created - other.created);
    for (const entry of finished.slice(0, Math.max(0, this.cards.size - MOST_ENTRIES))) this.remove(entry);
  }

  save({ note, until, position, step, steps, ...entry }) {
    entries.save(entry);
  }

  // A change of state, kept and shown.
  change(entry, changes) {
    const before = entry.state;
    Object.assign(entry, { note: "" }, changes);
    if (!this.cards.has(entry.key)) return;
    this.save(entry);
    if (entry.state === before && !changes.result) return this.card(entry).tick();
    this.card(entry).render();
    this.place(this.card(entry));
    this.tick();
    const end = `${entry.error?.message ?? FINISHED[entry.state]}: ${titleOf(entry)}`;
    announce(isOpen(entry) ? this.card(entry).line() : end);
  }

  fail(entry, error) {
    this.change(entry, { state: "failed", error: { message: error.message } });
    this.failed(error.message, entry);
  }

  async blobs(entry) {
    const keys = Object.values(entry.settings.files).flat().map(({ key }) => key);
    return new Map(await Promise.all(keys.map(async (key) => [key, await files.get(key)])));
  }

  // Another tab sends its own.
  async sendAll() {
    if (this.sending) return;
    this.sending = true;
    const next = () => this.list.find((entry) => entry.state === "unsent" && entry.tab === this.tab);
    try {
      for (let entry = next(), pause = 1; entry && !this.locked; entry = next()) pause = await this.send(entry, pause);
    } finally {
      this.sending = false;
    }
  }

  // Returns the seconds to wait when the server cannot be reached next time.
  async send(entry, pause) {
    const body = new FormData();
    body.append("request", entry.request);
    const blobs = await this.blobs(entry);
    for (const [name, items] of Object.entries(entry.settings.files)) {
      for (const item of items) if (blobs.get(item.key)) body.append(name, blobs.get(item.key), item.name);
    }
    try {
      const job = await json("/jobs", { method: "POST", body });
      entry.job = job.id;
      if (isOpen(entry)) this.change(entry, { state: "queued", position: job.position });
      // It was cancelled while it was sent.
      else await json(`/jobs/${job.id}/cancel`, { method: "POST" });
      this.attend();
      return 1;
    } catch (error) {
      if (!isOpen(entry)) return 1;
      if (error instanceof ApiError && error.status === 401) this.lock(entry, error);
      else if (error instanceof ApiError && !BUSY.includes(error.status)) this.fail(entry, error);
      else if (error instanceof ApiError) await this.hold(entry, error.message, error.retryAfter ?? pause);
      else if (error instanceof TypeError) await this.hold(entry, "The server cannot be reached.", pause);
      else throw error;
      return Math.min(2 * pause, MOST_PAUSE / 1000);
    }
  }

  // Counts the seconds down; ends before where the entry is cancelled.
  async hold(entry, reason, seconds) {
    const until = Date.now() + 1000 * seconds;
    announce(`${reason} It is tried again in ${duration(seconds)}.`);
    while (Date.now() < until && entry.state === "unsent") {
      entry.note = `${reason} Tried again in ${duration((until - Date.now()) / 1000)}.`;
      this.card(entry)?.tick();
      await sleep(250);
    }
    entry.note = "";
  }

  lock(entry, error) {
    this.locked = true;
    entry.note = error.message;
    this.card(entry)?.tick();
  }

  // The job as the server says it is.
  async take(entry, job) {
    if (!isOpen(entry)) return;
    if (job.state === "done") return this.keep(entry, job);
    const until = job.seconds_left === null ? null : Date.now() + 1000 * job.seconds_left;
    const { state, position, step, steps, error } = job;
    this.change(entry, { state, position, step, steps, until, error });
    if (state === "failed") this.failed(error.message, entry);
  }

  // Results expire at the server: their files come here first, then the entry is done.
  async keep(entry, { id, result }) {
    const fetched = async ({ url, ...facts }) => {
      const response = await fetch(url);
      if (!response.ok) throw await ApiError.from(response);
      return { ...facts, key: `${id}/${url.split("/").pop()}`, blob: await response.blob() };
    };
    const fetchAll = (all) => Promise.all(all.map(fetched));
    const [pictures, sounds] = await Promise.all([result.pictures, result.sounds].map(fetchAll));
    if (!isOpen(entry)) return;
    const named = (all) => all.map(({ blob, ...facts }) => facts);
    const { texts, warnings, seconds } = result;
    const kept = { pictures: named(pictures), sounds: named(sounds), texts, warnings, seconds };
    this.save({ ...entry, result: kept });
    for (const { key, blob } of [...pictures, ...sounds]) await files.put(key, blob);
    this.change(entry, { state: "done", result: kept });
  }

  // What the server has and has not ended, the oldest first.
  open() {
    const open = this.list.filter((entry) => isOpen(entry) && entry.job);
    return open.sort((one, other) => one.created - other.created);
  }

  // A browser opens six connections to a server, for all its tabs: the jobs in front are streamed, the rest asked for.
  attend() {
    const wanted = document.hidden || this.locked ? [] : this.open().slice(0, MOST_STREAMS);
    for (const [key, stream] of this.streams) {
      if (wanted.some((entry) => entry.key === key)) continue;
      stream.abort();
      this.streams.delete(key);
    }
    for (const entry of wanted) if (!this.streams.has(entry.key)) this.follow(entry);
  }

  // Streams until the job has ended or the stream is given up; a broken line is joined again, ever more slowly.
  async follow(entry) {
    const stream = new AbortController();
    this.streams.set(entry.key, stream);
    let pause = 500;
    while (isOpen(entry) && !stream.signal.aborted) {
      try {
        for await (const { event, data } of jobEvents(entry.job, stream.signal)) {
          pause = 500;
          await this.hear(entry, event, data);
        }
        if (isOpen(entry)) await this.take(entry, await json(`/jobs/${entry.job}`));
      } catch (error) {
        if (stream.signal.aborted) return;
        this.lost(entry, error);
      }
      if (!isOpen(entry)) break;
      await sleep(pause);
      pause = Math.min(2 * pause, MOST_PAUSE);
    }
    if (this.streams.get(entry.key) === stream) this.streams.delete(entry.key);
    this.attend();
  }

  async hear(entry, event, data) {
    if (event === "job") await this.take(entry, data);
    else if (!isOpen(entry)) return;
    else if (event === "preview") this.card(entry)?.preview(data);
    else if (event === "step") this.stepped(entry, data);
  }

  stepped(entry, { step, steps, seconds_left: left }) {
    const quarter = (at) => Math.floor((4 * at) / steps);
    if (quarter(step) > quarter(entry.step ?? 0) && step < steps) {
      announce(`${25 * quarter(step)} percent: ${titleOf(entry)}`);
    }
    Object.assign(entry, { step, steps, until: left === null ? null : Date.now() + 1000 * left, note: "" });
    this.card(entry)?.tick();
  }

  lost(entry, error) {
    if (error instanceof ApiError && error.status === 404) {
      return this.fail(entry, new Error("The server no longer has this: it was restarted, or its time is over."));
    }
    if (error instanceof ApiError && error.status === 401) return this.lock(entry, error);
    if (!(error instanceof ApiError || error instanceof TypeError)) throw error;
    entry.note = "The connection is lost; it is tried again.";
    this.card(entry)?.tick();
  }

  async poll() {
    if (this.polling || this.locked) return;
    this.polling = true;
    for (const entry of this.open().filter(({ key }) => !this.streams.has(key))) {
      try {
        await this.take(entry, await json(`/jobs/${entry.job}`));
      } catch (error) {
        this.lost(entry, error);
      }
    }
    this.polling = false;
    this.attend();
  }

  async cancel(entry) {
    if (!entry.job) return this.change(entry, { state: "cancelled" });
    try {
      await this.take(entry, await json(`/jobs/${entry.job}/cancel`, { method: "POST" }));
    } catch (error) {
      this.lost(entry, error);
    }
  }

  again(entry) {
    this.change(entry, { state: "unsent", job: null, error: null, result: null, created: Date.now(), tab: this.tab });
    this.card(entry).node.focus();
    this.sendAll();
  }

  hide(entry) {
    this.card(entry).remove();
    this.cards.delete(entry.key);
    this.tick();
  }

  // Deletes it here; the focus goes to the card beside it.
  remove(entry) {
    const { node } = this.card(entry);
    const near = node.nextElementSibling ?? node.previousElementSibling ?? byId("results");
    const held = node.contains(document.activeElement);
    entries.remove(entry);
    this.hide(entry);
    collectFiles();
    if (held) near.focus();
  }

  clear() {
    for (const entry of this.list.filter((one) => !isOpen(one))) this.remove(entry);
  }

  // What changes with time alone.
  tick() {
    const open = this.list.filter(isOpen);
    for (const entry of open) this.card(entry).tick();
    const running = open.find(({ state, steps }) => state === "running" && steps);
    document.title = running ? `${Math.floor((100 * running.step) / running.steps)} % · x2i` : "x2i";
    byId("summary").textContent = open.length ? `${open.length} under way` : "";
    byId("empty").hidden = this.cards.size > 0;
    byId("clear").hidden = this.cards.size === open.length;
  }
}
