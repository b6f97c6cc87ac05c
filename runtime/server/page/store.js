// What the browser keeps: words in localStorage, files in IndexedDB. What it refuses lasts as long as the page.

const PREFIX = "x2i.";
const ENTRY = "entry.";
const MOST_ENTRIES = 100;

function openStorage(name) {
  try {
    window[name].setItem(`${PREFIX}try`, "");
    window[name].removeItem(`${PREFIX}try`);
    return window[name];
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, text) => kept.set(key, text),
      removeItem: (key) => kept.delete(key),
      key: (index) => [...kept.keys()][index] ?? null,
      get length() {
        return kept.size;
      },
    };
  }
}

// What is old stays; clearing some of it makes room.
function tellFull() {
  show(byId("connection"), "This browser has no room left: what is new is gone after a reload.");
}

const words = {
  local: openStorage("localStorage"),
  read(key) {
    const text = this.local.getItem(PREFIX + key);
    return text === null ? null : JSON.parse(text);
  },
  write(key, value) {
    try {
      this.local.setItem(PREFIX + key, JSON.stringify(value));
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      tellFull();
    }
  },
  drop(key) {
    this.local.removeItem(PREFIX + key);
  },
};

// The key of the server leaves with the tab.
const secret = {
  session: openStorage("sessionStorage"),
  get value() {
    return this.session.getItem(`${PREFIX}key`) ?? "";
  },
  set value(text) {
    this.session.setItem(`${PREFIX}key`, text);
  },
};

// One item an entry, so that two tabs never overwrite each other's.
const entries = {
  all() {
    const keys = Array.from({ length: words.local.length }, (_, index) => words.local.key(index));
    const own = keys.filter((key) => key.startsWith(PREFIX + ENTRY)).map((key) => words.read(key.slice(PREFIX.length)));
    return own.sort((one, other) => one.created - other.created);
  },
  save(entry) {
    words.write(ENTRY + entry.key, entry);
  },
  remove(entry) {
    words.drop(ENTRY + entry.key);
  },
  has: (entry) => words.read(ENTRY + entry.key) !== null,
};

const files = {
  kept: new Map(),
  database: new Promise((resolve) => {
    if (!window.indexedDB) return resolve(null);
    const asked = indexedDB.open("x2i", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("files");
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => resolve(null);
  }),
  async ask(mode, work) {
    const database = await this.database;
    return new Promise((resolve, reject) => {
      const transaction = database.transaction("files", mode);
      const request = work(transaction.objectStore("files"));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  },
  async put(key, blob) {
    try {
      if (await this.database) return await this.ask("readwrite", (store) => store.put(blob, key));
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
    this.kept.set(key, blob);
    tellFull();
  },
  async get(key) {
    return this.kept.get(key) ?? ((await this.database) && this.ask("readonly", (store) => store.get(key)));
  },
  async keys() {
    return (await this.database) ? this.ask("readonly", (store) => store.getAllKeys()) : [];
  },
  async remove(key) {
    await this.ask("readwrite", (store) => store.delete(key));
  },
};

function fileKeys(entry) {
  const given = Object.values(entry.settings.files).flat();
  const made = entry.result ? [...entry.result.pictures, ...entry.result.sounds] : [];
  return [...given, ...made].map((file) => file.key);
}

// Deletes files that no entry names. Entries are saved before their files, so that another tab finds them named.
async function collectFiles() {
  const held = await files.keys();
  const named = new Set(entries.all().flatMap(fileKeys));
  for (const key of held) if (!named.has(key)) await files.remove(key);
}
