// Elements, made by hand: text is only ever set as text, so that nothing that the server or a person wrote is markup.

const byId = (id) => document.getElementById(id);

// Properties are set where the element has them (`on` holds handlers by event), and as attributes elsewhere.
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.classList.add("icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

function button(text, iconName, click, properties = {}) {
  return element("button", { type: "button", on: { click }, ...properties }, icon(iconName), text);
}

const iconButton = (text, iconName, click, properties = {}) =>
  button(null, iconName, click, { class: "round", "aria-label": text, title: text, ...properties });

function show(node, text) {
  node.textContent = text;
  node.hidden = !text;
}

// The polite voice of the page, for what changes without being touched.
function announce(text) {
  byId("live").textContent = text;
}

// Opens a dialog; resolves when it closes, by a button, by Escape, or by `close`.
function openDialog(dialog) {
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

for (const closer of document.querySelectorAll("dialog [data-close]")) {
  closer.addEventListener("click", () => closer.closest("dialog").close());
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Names of options as people read them: object_resolution is Object resolution.
const readable = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");

function duration(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;

// randomUUID exists only where the page came over https or from this machine.
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");
}
