// The server's HTTP interface: answers, its errors, the key, and streams of events.

const API = "/x2i/v1";

class ApiError extends Error {
  constructor(message, status, param = null, retryAfter = null) {
    super(message);
    Object.assign(this, { status, param, retryAfter });
  }

  // A proxy in between may answer in words of its own.
  static async from(response) {
    const text = await response.text();
    const seconds = Number(response.headers.get("Retry-After"));
    const given = response.headers.has("Retry-After") && Number.isFinite(seconds) ? Math.max(1, seconds) : null;
    let error = null;
    try {
      error = JSON.parse(text).error;
    } catch (fault) {
      if (!(fault instanceof SyntaxError)) throw fault;
    }
    const message = error?.message ?? `The server answered ${response.status} ${response.statusText}`.trim();
    return new ApiError(message, response.status, error?.param, given);
  }
}

let asking = null;

// Resolves when another key is there to try, rejects when the person closes the dialog.
function askKey(refused) {
  if (secret.value !== refused) return Promise.resolve();
  asking ??= (async () => {
    const dialog = byId("key");
    const input = byId("key-value");
    if (refused) byId("key-text").textContent = "The server refused the key. Please check it.";
    input.value = "";
    const submit = (event) => {
      event.preventDefault();
      secret.value = input.value.trim();
      dialog.close();
    };
    dialog.addEventListener("submit", submit);
    await openDialog(dialog);
    dialog.removeEventListener("submit", submit);
    asking = null;
    byId("key-button").hidden = false;
    if (secret.value === refused) throw new ApiError("This server asks for a key, and none was given.", 401);
  })();
  return asking;
}

// A response of status 2xx. Raises ApiError for another, TypeError where the server cannot be reached.
async function request(path, options = {}) {
  for (;;) {
    const key = secret.value;
    const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
    const response = await fetch(API + path, { ...options, headers });
    if (response.ok) return response;
    const error = await ApiError.from(response);
    if (error.status !== 401) throw error;
    await askKey(key);
  }
}

const json = async (path, options) => (await request(path, options)).json();

// fetch and no EventSource, which cannot send the key.
async function* jobEvents(id, signal) {
  const response = await request(`/jobs/${id}/events`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    // An event ends in an empty line; what is behind it belongs to the next.
    const searched = Math.max(0, text.length - 1);
    text += value.replaceAll("\r", "");
    if (!text.includes("\n\n", searched)) continue;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = readEvent(block);
      if (event.data) yield { event: event.name, data: JSON.parse(event.data) };
    }
  }
}

function readEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return { name, data: data.join("\n") };
}
