// Pictures that are given: by choosing, dropping, pasting or the camera; one, or several in order.

const SENT_AS_THEY_ARE = ["image/png", "image/jpeg", "image/webp"];

// What every server reads, in a size that this one takes: other kinds become PNG, larger pictures are made smaller.
async function readPicture(file, mostPixels) {
  const url = URL.createObjectURL(file);
  const picture = new Image();
  picture.src = url;
  try {
    await picture.decode();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    const name = file.name || "picture";
    throw new Error(`${name}: expected a picture, got a file that this browser cannot show; use PNG or JPEG`);
  } finally {
    URL.revokeObjectURL(url);
  }
  let { naturalWidth: width, naturalHeight: height } = picture;
  let blob = file;
  const scale = Math.sqrt(mostPixels / (width * height));
  if (scale < 1 || !SENT_AS_THEY_ARE.includes(file.type)) {
    const factor = Math.min(1, scale);
    [width, height] = [width, height].map((side) => Math.max(1, Math.floor(side * factor)));
    const canvas = element("canvas", { width, height });
    canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
    blob = await canvasFile(canvas, file.type === "image/jpeg" ? file.type : "image/png");
  }
  return { key: randomKey(), blob, name: file.name || "picture.png", width, height };
}

const canvasFile = (canvas, type = "image/png") => new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));

// A control that holds files: its zone takes what is dropped on it, its buttons do the rest.
class FileControl {
  constructor(name, schema, { accept, changed }) {
    this.name = name;
    this.several = schema.type === "array";
    this.accept = accept;
    this.changed = changed;
    this.items = [];
    this.list = element("ol", { class: "items" });
    this.input = element("input", { type: "file", accept: `${accept}/*`, multiple: this.several, hidden: true });
    this.input.id = `option-${name}`;
    this.input.addEventListener("change", () => {
      this.add([...this.input.files]);
      this.input.value = "";
    });
    this.buttons = element("div", { class: "actions" });
    this.hint = element("p", { class: "soft hint" });
    this.problem = element("p", { class: "problem", role: "alert", hidden: true });
    this.zone = element("div", { class: "zone" }, this.list, this.hint, this.buttons, this.input);
    this.node = element(
      "div",
      { class: "field", role: "group", "aria-label": readable(name) },
      element("label", { htmlFor: this.input.id }, readable(name)),
      element("p", { class: "help" }, schema.description ?? ""),
      this.zone,
      this.problem,
    );
    this.zone.addEventListener("dragover", (event) => this.zone.classList.toggle("over", holdsFiles(event)));
    for (const name of ["dragleave", "drop"]) {
      this.zone.addEventListener(name, () => this.zone.classList.remove("over"));
    }
    this.zone.addEventListener("drop", (event) => {
      const given = [...event.dataTransfer.files];
      if (!given.length) return;
      event.preventDefault();
      event.stopPropagation();
      this.add(given);
    });
  }

  takes(file) {
    return file.type.startsWith(`${this.accept}/`);
  }

  hasRoom() {
    return this.several || !this.items.length;
  }

  // One after the other, so that the order is that of giving.
  add(given) {
    this.adding = (this.adding ?? Promise.resolve()).then(() => this.addNow(given));
    return this.adding;
  }

  async addNow(given) {
    show(this.problem, "");
    const wanted = this.several ? given : given.slice(0, 1);
    for (const file of wanted) {
      try {
        const item = await this.read(file);
        this.items = this.several ? [...this.items, item] : [item];
      } catch (error) {
        if (error.constructor !== Error) throw error;
        show(this.problem, error.message);
      }
    }
    this.render();
    this.changed(this);
  }

  set(items) {
    this.items = items;
    show(this.problem, "");
    this.render();
    this.changed(this);
  }

  move(index, place) {
    if (place < 0 || place >= this.items.length || place === index) return;
    const [item] = this.items.splice(index, 1);
    this.items.splice(place, 0, item);
    this.render();
    this.changed(this);
  }

  remove(index) {
    this.items.splice(index, 1);
    this.render();
    this.changed(this);
    this.buttons.querySelector("button")?.focus();
  }

  // Object URLs live as long as their item is shown.
  render() {
    for (const url of this.urls ?? []) URL.revokeObjectURL(url);
    this.urls = this.items.map((item) => URL.createObjectURL(item.blob));
    this.list.replaceChildren(...this.items.map((item, index) => this.row(item, index, this.urls[index])));
    this.list.hidden = !this.items.length;
    this.zone.classList.toggle("filled", this.items.length > 0);
  }
}

const holdsFiles = (event) => [...event.dataTransfer.types].includes("Files");

class PictureControl extends FileControl {
  constructor(name, schema, { limits, changed }) {
    super(name, schema, { accept: "image", changed });
    this.limits = limits;
    this.hint.textContent = `Drop or paste ${this.several ? "pictures" : "a picture"} here, or`;
    const camera = element("input", { type: "file", accept: "image/*", capture: "environment", hidden: true });
    camera.addEventListener("change", () => {
      this.add([...camera.files]);
      camera.value = "";
    });
    this.buttons.append(
      button("Choose", "folder", () => this.input.click()),
      button("Camera", "camera", async () => {
        // On a phone the system's own camera is better than ours, and needs no https.
        if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) return camera.click();
        const file = await takePicture().catch((error) => show(this.problem, cameraProblem(error)));
        if (file) this.add([file]);
      }),
    );
    this.zone.append(camera);
    this.render();
  }

  async read(file) {
    if (this.items.length >= this.limits.pictures && this.several) {
      throw new Error(`${this.name}: expected at most ${this.limits.pictures} pictures; remove one first`);
    }
    // The server counts the pixels of all pictures of a request together, a mask's among them.
    return readPicture(file, this.limits.pixels / (this.several ? this.limits.pictures : 4));
  }

  row(item, index, url) {
    const place = this.several ? `Picture ${index + 1}` : readable(this.name);
    const tools = [];
    if (this.several && this.items.length > 1) {
      const step = (text, name, to) =>
        iconButton(text, name, () => {
          this.move(index, to);
          // The focus stays with the picture, so that it can be moved on.
          const again = this.list.children[to].querySelector(`[data-step="${name}"]:not(:disabled)`);
          (again ?? this.list.children[to].querySelector("button:not(:disabled)")).focus();
        }, { disabled: to < 0 || to >= this.items.length, "data-step": name });
      tools.push(step(`Move ${place} forward`, "left", index - 1), step(`Move ${place} back`, "right", index + 1));
    }
    tools.push(iconButton(`Remove ${place}`, "close", () => this.remove(index)));
    const row = element(
      "li",
      { class: "thumb" },
      element("img", { src: url, alt: `${place}: ${item.name}`, draggable: false }),
      this.several ? element("span", { class: "place", "aria-hidden": "true" }, `${index + 1}`) : null,
      element("div", { class: "tools" }, ...tools),
    );
    if (this.several) this.makeDraggable(row, index);
    return row;
  }

  makeDraggable(row, index) {
    const type = `x2i/${this.name}`.toLowerCase();
    row.draggable = true;
    row.addEventListener("dragstart", (event) => event.dataTransfer.setData(type, `${index}`));
    row.addEventListener("dragover", (event) => {
      if (event.dataTransfer.types.includes(type)) event.preventDefault();
    });
    row.addEventListener("drop", (event) => {
      if (!event.dataTransfer.types.includes(type)) return;
      event.preventDefault();
      event.stopPropagation();
      this.move(Number(event.dataTransfer.getData(type)), index);
    });
  }
}

const cameraProblem = (error) =>
  error.name === "NotAllowedError"
    ? "camera: the browser was not allowed to use it; allow it in the page's settings"
    : `camera: none could be used (${error.message})`;

// A picture from the camera of a desk, as a file; undefined where the person closes the dialog.
async function takePicture() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = byId("camera-video");
  let file;
  const take = async () => {
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    file = new File([await canvasFile(canvas, "image/jpeg")], "camera.jpg", { type: "image/jpeg" });
    byId("camera").close();
  };
  video.srcObject = stream;
  byId("camera-take").addEventListener("click", take);
  await openDialog(byId("camera"));
  byId("camera-take").removeEventListener("click", take);
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
  return file;
}
