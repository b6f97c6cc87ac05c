// A card shows one entry: what was asked, how far it is, what came of it.

const OPEN = ["unsent", "queued", "running"];
const isOpen = (entry) => OPEN.includes(entry.state);
const FINISHED = { failed: "Failed", cancelled: "Cancelled", done: "Done" };

const titleOf = ({ settings }) => settings.prompt.trim() || settings.bundle;
const seedOf = ({ settings }) => settings.values.seed ?? "0";

function fileName(entry, number, total, ending) {
  const words = titleOf(entry).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  return `${words.slice(0, 48) || "x2i"}-${seedOf(entry)}${total > 1 ? `-${number + 1}` : ""}.${ending}`;
}

function saveFile(url, name) {
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

class Card {
  // `actions`: cancel, again, reuse, remove, view, each called with the entry.
  constructor(entry, actions) {
    this.entry = entry;
    this.actions = actions;
    this.urls = [];
    this.title = element("h3", { class: "prompt", dir: "auto", id: `title-${entry.key}` }, titleOf(entry));
    this.frame = element("div", { class: "frame" });
    this.bar = element("div", { class: "fill" });
    const named = { "aria-labelledby": this.title.id };
    this.progress = element("div", { class: "progress", role: "progressbar", ...named }, this.bar);
    this.status = element("p", { class: "soft status" });
    this.made = element("div", { class: "made" });
    this.facts = element("dl", { class: "facts" });
    this.buttons = element("div", { class: "actions" });
    const body = element("div", { class: "body" }, this.title, this.status, this.made, this.facts, this.buttons);
    this.node = element("article", { class: "card", tabIndex: -1, ...named }, this.frame, this.progress, body);
    this.node.card = this;
    this.render();
  }

  // Everything anew, on each change of state; the focus stays in the card.
  render() {
    const { entry } = this;
    const held = this.node.contains(document.activeElement);
    this.node.dataset.state = entry.state;
    this.progress.hidden = !isOpen(entry);
    this.made.replaceChildren();
    if (!isOpen(entry)) this.frame.replaceChildren();
    if (entry.error) this.frame.append(element("p", { class: "problem" }, icon("warning"), entry.error.message));
    if (entry.state === "done") this.showResult(entry.result);
    this.facts.replaceChildren(...factsOf(entry));
    this.buttons.replaceChildren(...this.tools());
    this.tick();
    if (held) (this.buttons.querySelector("button") ?? this.node).focus();
  }

  tools() {
    const { entry, actions } = this;
    const named = (text) => ({ title: text, "aria-label": `${text}: ${titleOf(entry)}` });
    if (isOpen(entry)) return [button("Cancel", "close", () => actions.cancel(entry), named("Cancel"))];
    const again = button("Use again", "sliders", () => actions.reuse(entry), named("Use again"));
    again.title = "Use these settings again";
    const bin = iconButton("Delete", "bin", () => actions.remove(entry), named("Delete"));
    if (entry.state !== "done") {
      return [button("Try again", "again", () => actions.again(entry), named("Try again")), again, bin];
    }
    const files = [...entry.result.pictures, ...entry.result.sounds];
    const save = files.length ? iconButton("Download", "download", () => this.download(), named("Download")) : null;
    return [again, save, bin].filter(Boolean);
  }

  // The line below the prompt and the bar, as they are at this moment.
  tick() {
    const { entry } = this;
    const share = entry.state === "running" && entry.steps ? entry.step / entry.steps : null;
    this.status.textContent = this.line();
    this.progress.classList.toggle("unknown", entry.state === "running" && share === null);
    this.progress.setAttribute("aria-valuetext", this.status.textContent);
    if (share === null) this.progress.removeAttribute("aria-valuenow");
    else this.progress.setAttribute("aria-valuenow", entry.step);
    this.progress.setAttribute("aria-valuemax", entry.steps ?? 1);
    this.bar.style.transform = `scaleX(${share ?? 0})`;
  }

  line() {
    const { entry } = this;
    if (entry.note) return entry.note;
    if (entry.state === "unsent") return "Waits to be sent";
    if (entry.state === "queued") {
      return entry.position ? `${entry.position} before it in the queue` : "Next in the queue";
    }
    if (entry.state === "running") {
      if (!entry.step) return "Begins";
      const left = entry.until > Date.now() ? ` · ${duration((entry.until - Date.now()) / 1000)} left` : "";
      return `Step ${entry.step} of ${entry.steps}${left}`;
    }
    if (entry.state !== "done") return FINISHED[entry.state];
    const [first] = entry.result.pictures;
    const seconds = entry.result.seconds && `${entry.result.seconds.total.toFixed(1)} s`;
    const pixels = first && `${first.width} × ${first.height}`;
    const facts = [entry.settings.bundle, pixels, `seed ${seedOf(entry)}`, seconds];
    // A line breaks between two facts alone.
    return facts.filter(Boolean).map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ");
  }

  preview({ pictures, texts }) {
    const shown = pictures.map((url) => element("img", { src: url, alt: `Preview: ${titleOf(this.entry)}` }));
    this.frame.replaceChildren(...shown, ...texts.map((text) => element("p", { class: "quote", dir: "auto" }, text)));
    this.frame.dataset.count = shown.length;
  }

  async showResult({ pictures, texts, sounds, warnings }) {
    const { entry } = this;
    const quotes = texts.map((text) => element("blockquote", { class: "quote", dir: "auto" }, text));
    this.made.append(...warnings.map((text) => element("p", { class: "warning" }, icon("warning"), text)));
    this.frame.replaceChildren(...(pictures.length ? [] : quotes));
    if (pictures.length) this.made.prepend(...quotes);
    const blobs = await Promise.all([...pictures, ...sounds].map(({ key }) => files.get(key)));
    // The entry was tried again, or adopted from another tab, meanwhile.
    if (entry.result?.pictures !== pictures) return;
    this.revoke();
    this.urls = blobs.map((blob) => (blob ? URL.createObjectURL(blob) : null));
    const opened = pictures.map((picture, index) => this.pictureButton(picture, index));
    this.frame.prepend(...opened);
    this.frame.dataset.count = opened.length;
    for (const [index] of sounds.entries()) {
      const url = this.urls[pictures.length + index];
      this.made.prepend(element("audio", { controls: true, src: url, "aria-label": `Sound: ${titleOf(entry)}` }));
    }
  }

  alt(index) {
    const total = this.entry.result.pictures.length;
    return total > 1 ? `${titleOf(this.entry)}, picture ${index + 1} of ${total}` : titleOf(this.entry);
  }

  pictureButton({ width, height }, index) {
    const url = this.urls[index];
    if (!url) return element("p", { class: "quote" }, "This picture is no longer in this browser.");
    const image = element("img", { src: url, alt: this.alt(index), width, height });
    image.classList.toggle("small", Math.max(width, height) <= 128);
    const click = () => this.actions.view(this, index);
    return element("button", { type: "button", class: "picture", on: { click } }, image);
  }

  // The files as the server gave them: a picture carries its parameters.
  download(only = null) {
    const { pictures, sounds } = this.entry.result;
    for (const [index, url] of this.urls.entries()) {
      if (!url || (only !== null && only !== index)) continue;
      const picture = index < pictures.length;
      const [number, total] = picture ? [index, pictures.length] : [index - pictures.length, sounds.length];
      saveFile(url, fileName(this.entry, number, total, picture ? "png" : "wav"));
    }
  }

  revoke() {
    for (const url of this.urls) if (url) URL.revokeObjectURL(url);
    this.urls = [];
  }

  remove() {
    this.revoke();
    this.node.remove();
  }
}

// A result at full size, with all that it was made from.
const viewer = {
  open(card, index, reuse) {
    const dialog = byId("viewer");
    const { pictures } = card.entry.result;
    const stop = new AbortController();
    const listen = (node, name, handler) => node.addEventListener(name, handler, { signal: stop.signal });
    let at = index;
    const turn = (by) => {
      at = (at + by + pictures.length) % pictures.length;
      this.show(card, at);
    };
    this.show(card, at);
    listen(byId("viewer-back"), "click", () => turn(-1));
    listen(byId("viewer-next"), "click", () => turn(1));
    listen(dialog, "keydown", ({ key }) => {
      if (key === "ArrowLeft" || key === "ArrowRight") turn(key === "ArrowLeft" ? -1 : 1);
    });
    listen(byId("viewer-download"), "click", () => card.download(at));
    listen(byId("viewer-again"), "click", () => {
      dialog.close();
      reuse(card.entry);
    });
    listen(dialog, "click", (event) => event.target === dialog && dialog.close());
    openDialog(dialog).then(() => stop.abort());
  },

  show(card, at) {
    const { entry } = card;
    const { pictures } = entry.result;
    const picture = byId("viewer-picture");
    byId("viewer-title").textContent = titleOf(entry);
    Object.assign(picture, { src: card.urls[at], alt: card.alt(at) });
    picture.classList.toggle("small", Math.max(pictures[at].width, pictures[at].height) <= 128);
    byId("viewer-back").hidden = byId("viewer-next").hidden = pictures.length < 2;
    const { width, height } = pictures[at];
    const place = pictures.length > 1 ? fact("Picture", `${at + 1} of ${pictures.length}`) : null;
    const facts = [place, fact("Pixels", `${width} × ${height}`), ...factsOf(entry)];
    byId("viewer-facts").replaceChildren(...facts.filter(Boolean));
  },
};

const fact = (name, text) => element("div", {}, element("dt", {}, name), element("dd", { dir: "auto" }, text));

// What an entry was made from, for a list of terms.
function factsOf({ settings, result, created }) {
  const count = ([name, { length }]) => fact(readable(name), `${length} file${length > 1 ? "s" : ""}`);
  const value = ([name, text]) => fact(readable(name), [text].flat().join(" × "));
  return [
    fact("Bundle", settings.bundle),
    ...Object.entries(settings.values).map(value),
    ...Object.entries(settings.files).map(count),
    ...(result?.seconds ? [fact("Time", `${result.seconds.total.toFixed(2)} s`)] : []),
    fact("Asked", new Date(created).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })),
  ];
}
