// The mask of a picture: white on black, of its size. It is painted over the picture, or chosen as a file.

class MaskControl extends PictureControl {
  // `base` gives the item of the picture that the mask belongs to, or undefined.
  constructor(name, schema, { limits, changed, base }) {
    super(name, schema, { limits, changed });
    this.base = base;
    this.paintButton = button("Paint", "brush", () => this.paint());
    this.buttons.replaceChildren(this.paintButton, button("Choose", "folder", () => this.input.click()));
    this.baseChanged();
  }

  // A mask that was painted over another picture is none of this one.
  baseChanged() {
    const base = this.base();
    this.paintButton.disabled = !base;
    const missing = "Give a picture first to paint over it, or";
    this.hint.textContent = base ? "Paint over the picture, drop a mask here, or" : missing;
    if (this.items[0]?.over && this.items[0].over !== base?.key) this.set([]);
  }

  async paint() {
    const base = this.base();
    const blob = await paintMask(base, this.items[0]?.blob);
    if (!blob) return;
    this.set([{ key: randomKey(), blob, name: "mask.png", width: base.width, height: base.height, over: base.key }]);
  }
}

// Marks are kept as strokes and drawn again on undo: copies of a large canvas would fill the memory.
class Easel {
  constructor(width, height, start) {
    Object.assign(this, { width, height, start });
    this.canvas = byId("painter-canvas");
    Object.assign(this.canvas, { width, height });
    this.context = this.canvas.getContext("2d");
    this.marks = [];
    this.draw();
  }

  draw() {
    this.context.globalCompositeOperation = "source-over";
    this.context.clearRect(0, 0, this.width, this.height);
    if (this.start) this.context.drawImage(this.start, 0, 0, this.width, this.height);
    for (const mark of this.marks) this.apply(mark);
  }

  apply(mark) {
    const { context, width, height } = this;
    if (mark.kind === "clear") return context.clearRect(0, 0, width, height);
    context.fillStyle = context.strokeStyle = PAINT;
    if (mark.kind === "invert") {
      context.globalCompositeOperation = "xor";
      return context.fillRect(0, 0, width, height);
    }
    context.globalCompositeOperation = mark.kind === "erase" ? "destination-out" : "source-over";
    Object.assign(context, { lineWidth: mark.width, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    // A line of no length is none: the first point is a dot of its own.
    context.arc(...mark.points[0], mark.width / 2, 0, 2 * Math.PI);
    context.fill();
    context.beginPath();
    for (const point of mark.points) context.lineTo(...point);
    context.stroke();
  }

  add(mark) {
    this.marks.push(mark);
    this.apply(mark);
  }

  extend(point) {
    const mark = this.marks.at(-1);
    mark.points.push(point);
    this.apply({ ...mark, points: mark.points.slice(-2) });
  }

  undo() {
    this.marks.pop();
    this.draw();
  }

  // What is painted becomes white, the rest black.
  file() {
    const { width, height } = this;
    const white = element("canvas", { width, height });
    const over = white.getContext("2d");
    over.drawImage(this.canvas, 0, 0);
    over.globalCompositeOperation = "source-in";
    over.fillStyle = "#fff";
    over.fillRect(0, 0, width, height);
    over.globalCompositeOperation = "destination-over";
    over.fillStyle = "#000";
    over.fillRect(0, 0, width, height);
    return canvasFile(white);
  }
}

const PAINT = "#ff3d81";

// A mask's file as paint on nothing: its brightness is how much there is.
async function paintOf(blob, width, height) {
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(await createImageBitmap(blob), 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data[i + 3] = Math.max(pixels.data[i], pixels.data[i + 1], pixels.data[i + 2]);
    pixels.data.set([0xff, 0x3d, 0x81], i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// Opens the painter over a picture. Resolves to the mask as PNG, or to null where it was left.
async function paintMask(base, mask) {
  const { width, height } = base;
  const easel = new Easel(width, height, mask && (await paintOf(mask, width, height)));
  const picture = byId("painter-picture");
  const url = URL.createObjectURL(base.blob);
  const stop = new AbortController();
  let done = false;
  const listen = (target, name, handler) => target.addEventListener(name, handler, { signal: stop.signal });
  const click = (id, handler) => listen(byId(id), "click", handler);
  const tools = { erase: false, share: () => Number(byId("painter-size").value) / 100 };
  const choose = (erase) => {
    tools.erase = erase;
    byId("painter-erase").setAttribute("aria-pressed", `${erase}`);
    byId("painter-paint").setAttribute("aria-pressed", `${!erase}`);
  };
  choose(false);
  picture.src = url;
  picture.classList.toggle("small", Math.max(width, height) <= 128);
  byId("painter-help").textContent = `What is painted becomes white in the mask, ${width} × ${height} pixels.`;
  click("painter-paint", () => choose(false));
  click("painter-erase", () => choose(true));
  click("painter-undo", () => easel.undo());
  click("painter-clear", () => easel.add({ kind: "clear" }));
  click("painter-invert", () => easel.add({ kind: "invert" }));
  click("painter-done", () => {
    done = true;
    byId("painter").close();
  });
  listen(byId("painter"), "keydown", (event) => {
    if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    easel.undo();
  });
  followPointer(easel, tools, listen);
  followKeys(easel, tools, listen);
  await openDialog(byId("painter"));
  stop.abort();
  URL.revokeObjectURL(url);
  return done ? easel.file() : null;
}

// The brush's width in the picture's pixels: at its largest half of the shorter side.
const brushWidth = (easel, tools) => Math.max(1, (tools.share() * Math.min(easel.width, easel.height)) / 2);

const newStroke = (easel, tools, point) =>
  easel.add({ kind: tools.erase ? "erase" : "paint", width: brushWidth(easel, tools), points: [point] });

function showBrush(easel, tools, [x, y]) {
  const brush = byId("painter-brush");
  const scale = easel.canvas.clientWidth / easel.width;
  const side = brushWidth(easel, tools) * scale;
  Object.assign(brush.style, { width: `${side}px`, height: `${side}px` });
  brush.style.transform = `translate(${x * scale - side / 2}px, ${y * scale - side / 2}px)`;
  brush.hidden = false;
}

function followPointer(easel, tools, listen) {
  const { canvas } = easel;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const along = (at, from, side, most) => ((at - from) / side) * most;
    return [
      along(event.clientX, box.left, box.width, easel.width),
      along(event.clientY, box.top, box.height, easel.height),
    ];
  };
  listen(canvas, "pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    newStroke(easel, tools, place(event));
  });
  listen(canvas, "pointermove", (event) => {
    showBrush(easel, tools, place(event));
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    // Between two frames the pointer goes a way of its own.
    const between = event.getCoalescedEvents?.() ?? [];
    for (const one of between.length ? between : [event]) easel.extend(place(one));
  });
  listen(canvas, "pointerleave", () => (byId("painter-brush").hidden = true));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function followKeys(easel, tools, listen) {
  let at = [easel.width / 2, easel.height / 2];
  listen(easel.canvas, "focus", () => showBrush(easel, tools, at));
  listen(easel.canvas, "blur", () => (byId("painter-brush").hidden = true));
  listen(easel.canvas, "keydown", (event) => {
    const step = Math.max(1, brushWidth(easel, tools) / 4);
    if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key];
      at = [
        Math.min(easel.width, Math.max(0, at[0] + x * step)),
        Math.min(easel.height, Math.max(0, at[1] + y * step)),
      ];
    } else if (event.key !== " ") return;
    event.preventDefault();
    if (event.key === " ") newStroke(easel, tools, at);
    showBrush(easel, tools, at);
  });
}
