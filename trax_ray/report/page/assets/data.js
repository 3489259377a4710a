// What the page holds: inputs by columns, transcripts chunk by chunk. Whatever comes from a recording, a file's name or
// a service becomes text of the document and never markup.
const COLUMNS = $COLUMNS;
const CHUNK = 100;
const body = document.body;
const files = [];
const chunks = new Map();

const byId = (id) => document.getElementById(id);

const element = (name, attributes = {}, ...content) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...content.filter((each) => each !== null && each !== undefined));
  return made;
};

const foreign = (text) => element("bdi", {}, text);

const trouble = (text) => {
  byId("trouble").textContent = text;
  byId("trouble").hidden = false;
};

const unpack = async (id) => {
  const packed = byId(id);
  if (!packed) return [];
  const letters = atob(packed.textContent);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
};

const loadFiles = async () => {
  for (let number = 0; number < Number(body.dataset.rowChunks); number++) {
    for (const row of await unpack(`rows-${number}`)) {
      const file = { number: files.length };
      COLUMNS.forEach((name, at) => { file[name] = row[at]; });
      file.folded = fold(`${file.name}\n${file.title || ""}\n${file.channel || ""}`);
      files.push(file);
    }
  }
};

// The transcript of an input; null where the page holds none.
const transcriptOf = async (number) => {
  const chunk = Math.floor(number / CHUNK);
  if (!chunks.has(chunk)) {
    if (chunks.size > 4) chunks.delete(chunks.keys().next().value);
    chunks.set(chunk, unpack(`text-${chunk}`));
  }
  return (await chunks.get(chunk))[number % CHUNK] || null;
};

const ASCII = /^[\x00-\x7f]*$/;

// Case and accents don't count. Marks are only taken off where that leaves the length as it is.
const fold = (text) => {
  const lower = text.toLowerCase();
  return ASCII.test(lower) ? lower : lower.normalize("NFD").replace(/[\u0300-\u036f]/g, "");
};

// What was said, for the search: one folded text for each input, and where its segments end in it.
const loadTexts = async (told) => {
  for (let chunk = 0; chunk < Number(body.dataset.textChunks); chunk++) {
    const rows = await unpack(`text-${chunk}`);
    rows.forEach((transcript, at) => {
      const file = files[chunk * CHUNK + at];
      if (!transcript || !file) return;
      let length = 0;
      const ends = new Uint32Array(transcript.t.length);
      const texts = transcript.t.map((text, number) => {
        const folded = fold(text || "");
        length += folded.length + 1;
        ends[number] = length;
        return folded;
      });
      file.said = texts.join("\n");
      file.ends = ends;
    });
    told(Math.min(files.length, (chunk + 1) * CHUNK));
    if (chunk % 10 === 9) await new Promise((resolve) => setTimeout(resolve));
  }
};

const clock = (milliseconds) => {
  const seconds = Math.floor((milliseconds || 0) / 1000);
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}:${two(seconds % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
};

const number = (value) => value.toLocaleString("en");
const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
