// What starts the page.

const form = new Form((settings, words) => jobs.submit(settings, words));
const jobs = new Jobs({
  failed: (message, entry) => entry.settings.bundle === form.bundle?.name && form.showProblems(message),
  reuse: (settings, blobs) => form.reuse(settings, blobs),
});

// Asks until the server answers: the page may be opened before it, or come from a browser's cache.
async function connect() {
  for (let pause = 1; ; pause = Math.min(2 * pause, 30)) {
    try {
      form.start(await json("/capabilities"));
      return show(byId("connection"), "");
    } catch (error) {
      if (!(error instanceof ApiError || error instanceof TypeError)) throw error;
      const reason = error instanceof ApiError ? error.message : "The server cannot be reached; it is tried again.";
      show(byId("connection"), reason);
      if (error.status === 401) return;
      await sleep(1000 * pause);
    }
  }
}

byId("key-button").addEventListener("click", async () => {
  try {
    await askKey(secret.value);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return;
  }
  jobs.goOn();
  connect();
});

byId("clear").addEventListener("click", () => openDialog(byId("sure")));
byId("sure-clear").addEventListener("click", () => {
  jobs.clear();
  byId("sure").close();
  byId("results").focus();
});

// A file that misses its zone must not replace the page.
document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  form.take([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  // Where text comes along, as from a document, it is the text that was meant.
  const wanted = [...event.clipboardData.files];
  if (!wanted.length || event.clipboardData.types.includes("text/plain")) return;
  if (form.take(wanted)) event.preventDefault();
});

jobs.start();
connect();
