// Sounds that are given: by choosing, dropping, pasting or the microphone. The server reads WAV, FLAC and OGG; what
// else the browser can decode, its own recordings among it, becomes WAV here.

const MOST_SECONDS = 120;

class SoundControl extends FileControl {
  constructor(name, schema, { changed }) {
    super(name, schema, { accept: "audio", changed });
    this.recordButton = button("Record", "microphone", () => this.record());
    this.buttons.append(this.recordButton, button("Choose", "folder", () => this.input.click()));
    this.level = element("meter", { min: 0, max: 1, value: 0, "aria-label": "Level of the microphone" });
    this.time = element("span", { class: "time" }, "0 s");
    this.stopButton = button("Stop", "stop", () => this.recorder.stop(), { class: "main" });
    this.recording = element("div", { class: "recording", hidden: true }, this.level, this.time, this.stopButton);
    this.zone.append(this.recording);
    this.hint.textContent = "Drop or paste a sound here, or";
    this.render();
  }

  async read(file) {
    const start = new Uint8Array(await file.slice(0, 4).arrayBuffer());
    const known = ["RIFF", "fLaC", "OggS"].includes(String.fromCharCode(...start));
    const name = file.name || "sound";
    if (known) return { key: randomKey(), blob: file, name };
    const blob = waveFile(await decodeSound(file));
    return { key: randomKey(), blob, name: `${name.replace(/\.[^.]*$/, "")}.wav` };
  }

  async record() {
    show(this.problem, "");
    if (!navigator.mediaDevices) {
      // Browsers give the microphone to pages of https and of this machine alone; a phone's recorder is another way.
      show(this.problem, "microphone: the browser gives it to pages over https alone; choose a recording instead");
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      show(this.problem, `microphone: it could not be used (${error.message}); allow it in the page's settings`);
      return;
    }
    const pieces = [];
    this.recorder = new MediaRecorder(stream);
    this.recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
    const stopped = new Promise((resolve) => this.recorder.addEventListener("stop", resolve));
    this.recorder.start();
    this.showRecording(true);
    const meter = followLevel(stream, (level, seconds) => {
      this.level.value = level;
      this.time.textContent = duration(Math.floor(seconds));
      if (seconds > MOST_SECONDS && this.recorder.state === "recording") this.recorder.stop();
    });
    await stopped;
    meter.stop();
    for (const track of stream.getTracks()) track.stop();
    this.showRecording(false);
    await this.add([new File(pieces, "recording", { type: this.recorder.mimeType })]);
    this.list.querySelector("audio")?.focus();
  }

  showRecording(now) {
    this.recording.hidden = !now;
    this.buttons.hidden = this.hint.hidden = now;
    (now ? this.stopButton : this.recordButton).focus();
    announce(now ? "Recording" : "Recording stopped");
  }

  row(item, index, url) {
    return element(
      "li",
      { class: "sound" },
      element("audio", { controls: true, src: url, "aria-label": item.name }),
      iconButton(`Remove ${item.name}`, "close", () => this.remove(index)),
    );
  }
}

// Calls `tell` with the level from 0 to 1 and the seconds since the start, at every frame until it is stopped.
function followLevel(stream, tell) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const samples = new Float32Array(analyser.fftSize);
  const began = performance.now();
  let frame;
  context.createMediaStreamSource(stream).connect(analyser);
  const look = () => {
    analyser.getFloatTimeDomainData(samples);
    const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    tell(Math.min(1, peak), (performance.now() - began) / 1000);
    frame = requestAnimationFrame(look);
  };
  look();
  return {
    stop() {
      cancelAnimationFrame(frame);
      context.close();
    },
  };
}

async function decodeSound(file) {
  const context = new AudioContext();
  try {
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    const name = file.name || "sound";
    throw new Error(`${name}: expected a sound, got a file that this browser cannot play; use WAV or FLAC`);
  } finally {
    context.close();
  }
}

// 16-bit WAV of at most two channels, interleaved.
function waveFile(sound) {
  const channels = Math.min(2, sound.numberOfChannels);
  const parts = Array.from({ length: channels }, (_, channel) => sound.getChannelData(channel));
  const bytes = 2 * channels * sound.length;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const word = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, sound.sampleRate, true);
  view.setUint32(28, 2 * channels * sound.sampleRate, true);
  view.setUint16(32, 2 * channels, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, bytes, true);
  for (let i = 0, at = 44; i < sound.length; i++) {
    for (const part of parts) {
      view.setInt16(at, Math.max(-1, Math.min(1, part[i])) * 0x7fff, true);
      at += 2;
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}
