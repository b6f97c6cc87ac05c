// A control for each option of a bundle, by its form. A control has a node, `read` (what a person set, in the words of
// the field, or undefined), `write` (the same back, or undefined to empty it) and `json` (the value as the server takes
// it).

// Numbers go out in the digits of the field: a seed may be larger than what JavaScript counts exactly.
const digits = (text) => (/^[+-]?\d+$/.test(text) ? `${BigInt(text)}` : `${Number(text)}`);

function labelled(name, schema, inner, { tall = false, extra = null } = {}) {
  const problem = element("p", { class: "problem", id: `problem-${name}`, hidden: true });
  const help = element("p", { class: "help", id: `help-${name}` }, schema.description ?? "");
  const input = inner.matches("input, select, textarea") ? inner : inner.querySelector("input, select, textarea");
  input.id = `option-${name}`;
  input.setAttribute("aria-describedby", `help-${name} problem-${name}`);
  const label = element("label", { htmlFor: input.id }, readable(name));
  const node = element("div", { class: tall ? "field tall" : "field" }, label, inner, help, problem);
  if (extra) node.append(extra);
  return { name, node, input, problem };
}

function inputControl(name, schema, input, json, { shown = input, extra = null } = {}) {
  return {
    ...labelled(name, schema, shown, { extra }),
    read: () => input.value.trim() || undefined,
    write(value) {
      input.value = value ?? "";
    },
    json,
  };
}

// What an empty field stands for: the option's default, or what the bundle says of itself.
const ownValue = (name, schema, bundle) => schema.default ?? bundle[name] ?? (name === "count" ? 1 : undefined);

function textControl(name, schema, bundle) {
  if (schema.enum) return choiceControl(name, schema, bundle);
  const input = element("input", { type: "text", dir: "auto", placeholder: schema.default ?? "", autocomplete: "off" });
  return inputControl(name, schema, input, JSON.stringify);
}

// A JSON object, which goes out as the text that it is.
function tableControl(name, schema) {
  const input = element("textarea", { rows: 3, spellcheck: false, autocomplete: "off", placeholder: "{}" });
  return inputControl(name, schema, input, JSON.stringify);
}

function numberControl(name, schema, bundle) {
  if (schema.type === "array") return numbersControl(name, schema);
  const whole = schema.form === "count";
  const own = ownValue(name, schema, bundle);
  const input = element("input", {
    type: "number",
    inputMode: whole ? "numeric" : "decimal",
    step: whole ? 1 : "any",
    min: schema.minimum,
    max: schema.maximum,
    placeholder: own ?? "",
  });
  if (name === "seed") return seedControl(schema, input);
  return inputControl(name, schema, input, digits);
}

// One number or several, with commas between.
function numbersControl(name, schema) {
  const input = element("input", { type: "text", inputMode: "decimal", autocomplete: "off" });
  input.placeholder = "a number, or 2, 3";
  input.pattern = "\\s*[+\\-]?[0-9.]+(\\s*,\\s*[+\\-]?[0-9.]+)*\\s*";
  input.title = "Numbers with commas between";
  return inputControl(name, schema, input, (text) => `[${text.split(",").map((one) => digits(one.trim()))}]`);
}

// Rolled for each drawing, until a person sets one. A rolled seed fits into 32 bits, to be read and typed.
function seedControl(schema, input) {
  const roll = () => {
    input.value = crypto.getRandomValues(new Uint32Array(1))[0];
  };
  const fresh = element("input", { type: "checkbox", id: "fresh-seed", checked: words.read("fresh-seed") ?? true });
  const setFresh = (on) => {
    fresh.checked = on;
    words.write("fresh-seed", on);
  };
  fresh.addEventListener("change", () => setFresh(fresh.checked));
  input.addEventListener("input", () => setFresh(false));
  const dice = iconButton("Roll a seed", "dice", () => {
    roll();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  const extra = element("label", { class: "check", htmlFor: fresh.id }, fresh, "New each time");
  const shown = element("div", { class: "joined" }, input, dice);
  return { ...inputControl("seed", schema, input, digits, { shown, extra }), fresh, setFresh, roll };
}

function choiceControl(name, schema, bundle) {
  const own = ownValue(name, schema, bundle);
  const input = element("select", {}, ...schema.enum.map((value) => element("option", { value }, value)));
  if (name === "language") {
    // A bundle of several languages has none of its own; the reader's is the likeliest.
    const spoken = new Intl.DisplayNames(["en"], { type: "language" }).of(navigator.language.split("-")[0]);
    input.value = [spoken, "English", ...schema.enum].find((value) => schema.enum.includes(value));
  } else {
    const text = own === undefined ? "as the bundle has it" : `${own} (as the bundle has it)`;
    input.prepend(element("option", { value: "", selected: true }, text));
  }
  const first = input.value;
  return {
    ...labelled(name, schema, input),
    read: () => input.value || undefined,
    write(value) {
      input.value = schema.enum.includes(value) ? value : first;
    },
    json: JSON.stringify,
  };
}

function flagControl(name, schema) {
  const input = element("input", { type: "checkbox", id: `option-${name}`, checked: schema.default ?? false });
  const help = element("p", { class: "help", id: `help-${name}` }, schema.description ?? "");
  const problem = element("p", { class: "problem", id: `problem-${name}`, hidden: true });
  input.setAttribute("aria-describedby", `${help.id} ${problem.id}`);
  const label = element("label", { class: "check", htmlFor: input.id }, input, readable(name));
  return {
    name,
    input,
    problem,
    node: element("div", { class: "field" }, label, help, problem),
    read: () => (input.checked === (schema.default ?? false) ? undefined : input.checked),
    write(value) {
      input.checked = value ?? schema.default ?? false;
    },
    json: JSON.stringify,
  };
}

function sizeControl(name, schema, bundle) {
  const own = bundle.size;
  const side = (word) =>
    element("input", {
      type: "number",
      inputMode: "numeric",
      min: own.multiple,
      max: schema.maximum,
      step: own.multiple,
      placeholder: own[word],
      "aria-label": `${readable(word)} in pixels`,
    });
  const [height, width] = [side("height"), side("width")];
  const swap = iconButton("Swap height and width", "swap", () => {
    [height.value, width.value] = [width.value || own.width, height.value || own.height];
    height.dispatchEvent(new Event("input", { bubbles: true }));
  });
  const times = element("span", { "aria-hidden": "true" }, "×");
  const made = labelled(name, schema, element("div", { class: "joined" }, height, times, width, swap), { tall: true });
  made.node.setAttribute("role", "group");
  made.node.setAttribute("aria-label", "Size, height and width in pixels");
  return {
    ...made,
    read() {
      if (!height.value && !width.value) return undefined;
      return [height.value || `${own.height}`, width.value || `${own.width}`];
    },
    write(value) {
      [height.value, width.value] = value ?? ["", ""];
    },
    json: (sides) => `[${sides.map(digits)}]`,
  };
}

const CONTROLS = {
  text: textControl,
  number: numberControl,
  count: numberControl,
  flag: flagControl,
  choice: choiceControl,
  size: sizeControl,
  table: tableControl,
};
const FILE_CONTROLS = { picture: PictureControl, sound: SoundControl };
