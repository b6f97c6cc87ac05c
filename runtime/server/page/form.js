// The form: built from what the server says of a bundle, so that a new system needs no line here.

const FREQUENT = ["language", "seed", "steps", "guidance", "size", "count"];
const VERBS = { picture: "Draw", text: "Describe", sound: "Make a sound" };
const PREVIEWS = 12;

class Form {
  constructor(submit) {
    this.node = byId("form");
    this.prompt = byId("prompt");
    this.chooser = byId("bundle");
    this.chooser.addEventListener("change", () => this.choose(this.chooser.value));
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(submit);
    });
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.node.requestSubmit();
    });
    this.node.addEventListener("input", (event) => {
      this.clearProblem(event.target);
      this.keep();
    });
    this.node.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);
  }

  // Takes the server's capabilities; the bundle chosen last is chosen again.
  start({ bundles, limits }) {
    this.bundles = bundles;
    this.limits = limits;
    const title = ({ name, system }) => (name === system ? name : `${name} (${system})`);
    const option = (bundle) => element("option", { value: bundle.name }, title(bundle));
    this.chooser.replaceChildren(...bundles.map(option));
    const last = words.read("bundle");
    this.choose((bundles.find(({ name }) => name === last) ?? bundles[0]).name);
    this.node.hidden = false;
  }

  // Shows a bundle's options, with what was last set; files go over to options of the same name.
  choose(name) {
    const before = new Map((this.fileControls ?? []).map((control) => [control.name, control.items]));
    const prompt = this.prompt.value;
    this.bundle = this.bundles.find((bundle) => bundle.name === name);
    this.chooser.value = name;
    words.write("bundle", name);
    this.build();
    const kept = words.read(`form.${name}`) ?? { prompt: "", values: {} };
    this.write({ prompt: prompt || kept.prompt, values: kept.values });
    for (const control of this.fileControls) control.set(this.fitting(control, before.get(control.name) ?? []));
    const verbs = this.bundle.gives.map((what) => VERBS[what]).filter(Boolean);
    byId("draw").textContent = verbs[0] ?? "Draw";
    show(byId("form-problem"), "");
  }

  fitting = (control, items) => (control.several ? items : items.slice(0, 1));

  build() {
    const { bundle } = this;
    const options = Object.entries(bundle.options).filter(([name]) => this.isShown(name));
    const made = (kinds, make) => options.filter(([, { form }]) => form in kinds).map((option) => make(...option));
    this.controls = made(CONTROLS, (name, schema) => CONTROLS[schema.form](name, schema, bundle));
    this.fileControls = made(FILE_CONTROLS, (name, schema) => this.fileControl(name, schema));
    const named = new Map(this.controls.map((control) => [control.name, control]));
    const frequent = FREQUENT.filter((name) => named.has(name)).map((name) => named.get(name).node);
    const rare = this.controls.filter(({ name }) => !FREQUENT.includes(name)).map(({ node }) => node);
    // A mask is painted over a picture, and stands below it.
    this.fileControls.sort((one, other) => (one.name === "mask") - (other.name === "mask"));
    byId("media").replaceChildren(...this.fileControls.map(({ node }) => node));
    byId("frequent").replaceChildren(...frequent);
    byId("rare").replaceChildren(...rare);
    byId("more").hidden = !rare.length;
    byId("prompt-field").hidden = bundle.prompt === "none";
    this.prompt.required = bundle.prompt === "required";
    this.prompt.placeholder = bundle.prompt === "optional" ? "May be left out" : "";
  }

  isShown(name) {
    if (name === "size") return this.bundle.size && !this.bundle.size.fixed;
    return !(name === "guidance" && this.bundle.guidance === null);
  }

  fileControl(name, schema) {
    const context = { limits: this.limits, changed: (control) => this.filesChanged(control) };
    if (name !== "mask") return new FILE_CONTROLS[schema.form](name, schema, context);
    return new MaskControl(name, schema, { ...context, base: () => this.maskBase() });
  }

  // A mask belongs to the picture that is redrawn, or whose subject is taken.
  maskBase() {
    const pictures = (this.fileControls ?? []).filter(({ accept, name }) => accept === "image" && name !== "mask");
    const named = ["image", "subject"].flatMap((name) => pictures.filter((control) => control.name === name));
    return [...named, ...pictures].find((control) => control.items.length)?.items[0];
  }

  filesChanged(changed) {
    for (const control of this.fileControls ?? []) {
      if (control instanceof MaskControl && control !== changed) control.baseChanged();
    }
  }

  // What a person set, in words that are kept and written back. Files are no part of it.
  read() {
    const read = this.controls.map((control) => [control.name, control.read()]);
    const values = Object.fromEntries(read.filter(([, value]) => value !== undefined));
    return { prompt: this.bundle.prompt === "none" ? "" : this.prompt.value, values };
  }

  write({ prompt, values }) {
    this.prompt.value = prompt;
    for (const control of this.controls) {
      control.write(values[control.name]);
      control.input.removeAttribute("aria-invalid");
    }
    byId("more").open = this.controls.some(({ name }) => !FREQUENT.includes(name) && values[name] !== undefined);
  }

  keep() {
    words.write(`form.${this.bundle.name}`, this.read());
  }

  submit(submit) {
    if (!this.node.checkValidity()) return this.node.reportValidity();
    const seed = this.controls.find(({ name }) => name === "seed");
    if (seed?.fresh.checked) seed.roll();
    this.keep();
    const { prompt, values } = this.read();
    const given = this.fileControls.filter(({ items }) => items.length);
    const bytes = given.flatMap(({ items }) => items).reduce((sum, { blob }) => sum + blob.size, 0);
    if (bytes > this.limits.body_bytes) {
      const [most, got] = [this.limits.body_bytes, bytes].map(megabytes);
      return show(byId("form-problem"), `files: expected at most ${most} together, got ${got}; use smaller ones`);
    }
    show(byId("form-problem"), "");
    const listed = Object.fromEntries(given.map(({ name, items }) => [name, items.map((item) => ({ ...item }))]));
    submit({ bundle: this.bundle.name, prompt, values, files: listed }, this.request({ prompt, values }));
  }

  // The words of a request as they are sent.
  request({ prompt, values }) {
    const options = this.controls
      .filter(({ name }) => values[name] !== undefined)
      .map(({ name, json }) => `${JSON.stringify(name)}: ${json(values[name])}`);
    const said = this.bundle.prompt === "none" || (this.bundle.prompt === "optional" && !prompt.trim()) ? null : prompt;
    const head = JSON.stringify({ bundle: this.bundle.name, prompt: said, previews: PREVIEWS });
    return `${head.slice(0, -1)}, "options": {${options.join(", ")}}}`;
  }

  // Settings of before, files among them, back in the form: the seed stays.
  async reuse(settings, blobs) {
    if (!this.bundles.some(({ name }) => name === settings.bundle)) {
      return show(byId("form-problem"), `bundle: this server no longer has ${settings.bundle}; choose another`);
    }
    this.prompt.value = "";
    this.choose(settings.bundle);
    this.write(settings);
    const seed = this.controls.find(({ name }) => name === "seed");
    seed?.setFresh(false);
    for (const control of this.fileControls) {
      const items = (settings.files[control.name] ?? []).map((item) => ({ ...item, blob: blobs.get(item.key) }));
      control.set(this.fitting(control, items.filter(({ blob }) => blob)));
    }
    this.keep();
    (this.bundle.prompt === "none" ? byId("draw") : this.prompt).focus({ preventScroll: true });
    // On a phone the form is above the results; on a desk it stays in sight.
    if (this.node.getBoundingClientRect().top < 0) this.node.scrollIntoView({ block: "start" });
  }

  // Lines of an error that begin with an option's name stand at that option, too.
  showProblems(message) {
    for (const line of message.split("\n")) {
      const name = line.split(":")[0];
      const control = [...this.controls, ...this.fileControls].find((one) => one.name === name);
      if (!control) continue;
      control.input.setAttribute("aria-invalid", "true");
      control.node.closest("details")?.setAttribute("open", "");
      show(control.problem, line);
    }
  }

  clearProblem(input) {
    const control = this.controls?.find(({ node }) => node.contains(input));
    if (!control) return;
    control.input.removeAttribute("aria-invalid");
    show(control.problem, "");
  }

  // Files that were dropped or pasted anywhere go to the control in use, else to the first with room for their kind.
  take(given) {
    const inUse = this.fileControls?.find(({ node }) => node.contains(document.activeElement));
    const taken = new Map();
    for (const file of given) {
      const fit = (this.fileControls ?? []).filter((control) => control.takes(file) && control.name !== "mask");
      const wanted = [inUse, ...fit.filter((control) => control.hasRoom()), ...fit];
      const into = wanted.find((control) => control?.takes(file));
      if (into) taken.set(into, [...(taken.get(into) ?? []), file]);
    }
    for (const [control, its] of taken) control.add(its);
    return taken.size > 0;
  }
}
