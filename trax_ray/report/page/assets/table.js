// The list of files: sorted, filtered, searched in names and in what was said.
const AT_ONCE = 200;
const NUMERIC = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const percent = (value) => (value === null ? "" : `${value.toFixed(1)} %`);

const HEADS = [
  ["name", "File", "", (file) => file.title || file.name, true],
  ["status", "Status", "", (file) => file.status, true],
  ["duration", "Length", "num", (file) => (file.duration === null ? "" : clock(file.duration * 1000))],
  ["language", "Language", "", (file) => file.language || "", true],
  ["model", "Model", "", (file) => file.model || "", true],
  ["measured", "Measured", "num", (file) => percent(file.measured)],
  ["estimated", "Estimated", "num", (file) => percent(file.estimated)],
  ["warnings", "Warnings", "", null],
  ["words", "Words", "num", (file) => (file.words === null ? "" : number(file.words))],
  ["took", "Took", "num", (file) => (file.took === null ? "" : `${file.took.toFixed(1)} s`)],
  ["cost", "US$", "num", (file) => (file.cost === null ? "" : file.cost.toFixed(4))],
];

const view = { sort: null, down: false, all: false, rows: [], words: [] };

const usedHeads = () => HEADS.filter(([key]) => (
  ["name", "status", "duration", "warnings"].includes(key) || files.some((file) => file[key] !== null)
));
let heads = [];

const drawHead = () => {
  heads = usedHeads();
  byId("table").tHead.rows[0].replaceChildren(...heads.map(([key, label, kind]) => {
    const sorted = view.sort !== key ? "none" : view.down ? "descending" : "ascending";
    return element("th", { scope: "col", class: `${kind} c-${key}`, "aria-sort": sorted },
      element("button", { type: "button", onclick: () => sortBy(key) }, label));
  }));
};

const sortBy = (key) => {
  view.down = view.sort === key ? !view.down : false;
  view.sort = key;
  drawHead();
  drawRows();
};

const compare = (first, second) => {
  const [a, b] = view.sort === "warnings" ? [first.warnings.length, second.warnings.length]
    : [first[view.sort], second[view.sort]];
  // What isn't known comes last, whichever way it is sorted.
  if (a === null || b === null) return (a === null) - (b === null) || first.number - second.number;
  const order = typeof a === "number" ? a - b : NUMERIC.compare(a, b);
  return (view.down ? -order : order) || first.number - second.number;
};

// `code:` and `warning:` pick by the page's own words; phrases stand in quotes; all of them must be there.
const parse = (query) => {
  const found = { words: [], code: "", warning: "" };
  for (const [, phrase, word] of query.matchAll(/"([^"]*)"?|(\S+)/g)) {
    const [name, value] = (word || "").split(/:(.+)/);
    if (value && (name === "code" || name === "warning")) found[name] = value;
    else found.words.push(fold(phrase === undefined ? word : phrase));
  }
  found.words = found.words.filter(Boolean);
  return found;
};

const filterFiles = () => {
  const began = performance.now();
  const asked = parse(byId("query").value);
  const picked = Object.fromEntries(["status", "warning", "language", "model"].map(
    (name) => [name, byId(`f-${name}`).value]
  ));
  view.words = asked.words;
  view.rows = files.filter((file) => (
    (!picked.status || file.status === picked.status)
    && (!picked.language || file.language === picked.language)
    && (!picked.model || file.model === picked.model)
    && (!picked.warning || file.warnings.includes(picked.warning))
    && (!asked.warning || file.warnings.includes(asked.warning))
    && (!asked.code || file.code === asked.code)
    && asked.words.every((word) => file.folded.includes(word) || (file.said || "").includes(word))
  ));
  body.dataset.searchMs = (performance.now() - began).toFixed(1);
};

const update = () => {
  view.all = false;
  filterFiles();
  drawRows();
};

// Where in what was said a word is: the number of the segment, and of the letter in it.
const placeOf = (file, words) => {
  for (const word of words) {
    const at = (file.said || "").indexOf(word);
    if (at < 0) continue;
    let low = 0;
    let high = file.ends.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (file.ends[middle] <= at) low = middle + 1;
      else high = middle;
    }
    return { segment: low, at: at - (low ? file.ends[low - 1] : 0), length: word.length };
  }
  return null;
};

const drawFound = async (file, cell) => {
  const place = placeOf(file, view.words);
  if (!place) return;
  const transcript = await transcriptOf(file.number);
  if (!transcript) return;
  const text = transcript.t[place.segment];
  const start = transcript.s[place.segment];
  const exact = fold(text).length === text.length;
  const from = Math.max(0, place.at - 50);
  const until = Math.min(text.length, place.at + place.length + 70);
  const said = exact ? [
    from ? "…" : "", text.slice(from, place.at), element("mark", {}, text.slice(place.at, place.at + place.length)),
    text.slice(place.at + place.length, until), until < text.length ? "…" : "",
  ] : [text.slice(0, 140)];
  const play = element("button", {
    type: "button", class: "small", disabled: !canPlay(file), "aria-label": `Play at ${clock(start)}`,
    onclick: (event) => { event.stopPropagation(); play_(file, start); },
  }, `▶ ${clock(start)}`);
  cell.append(element("span", { class: "found" }, play, " ", element("bdi", {}, ...said)));
};
const play_ = (file, start) => play(file, start);

// The folders are quieter than the name, and a line may end behind each.
const named = (path) => {
  const parts = path.split("/");
  const name = parts.pop();
  const folders = parts.flatMap((part) => [`${part}/`, element("wbr")]);
  return element("bdi", {}, folders.length ? element("span", { class: "folder" }, ...folders) : null, name);
};

const drawRow = (file) => {
  const cells = heads.map(([key, , kind, text]) => {
    const attributes = { class: `${kind} c-${key}` };
    if (key === "name") {
      const open = element("button", { type: "button", class: "open" }, file.title ? foreign(file.title) : named(file.name));
      const cell = element("td", attributes, open);
      if (file.title) cell.append(element("span", { class: "found" }, foreign(file.name)));
      if (view.words.length) drawFound(file, cell);
      return cell;
    }
    if (key === "status") {
      return element("td", { class: `status-${file.status} c-status` }, file.status,
        file.code ? element("span", { class: "found" }, file.code) : null);
    }
    if (key === "warnings") {
      return element("td", attributes, ...file.warnings.map((code) => element("span", { class: "tag" }, code)));
    }
    return element("td", attributes, text(file));
  });
  const row = element("tr", { "data-file": file.number, class: file === shown ? "chosen" : "" }, ...cells);
  row.addEventListener("click", () => openFile(file));
  return row;
};

const drawRows = () => {
  const rows = view.sort ? [...view.rows].sort(compare) : view.rows;
  const drawn = view.all ? rows : rows.slice(0, AT_ONCE);
  byId("table").tBodies[0].replaceChildren(...drawn.map(drawRow));
  const some = drawn.length < rows.length ? `The first ${number(drawn.length)} of ` : "";
  const of = rows.length < files.length ? ` of ${number(files.length)}` : "";
  byId("shown").textContent = `${some}${plural(rows.length, "file")}${of}${searching}`;
  byId("show-all").hidden = drawn.length === rows.length;
  byId("show-all").textContent = `Show all ${number(rows.length)}`;
};
let searching = "";

const offer = (name, values) => {
  const choice = byId(`f-${name}`);
  const known = [...new Set(values.filter(Boolean))].sort(NUMERIC.compare);
  choice.append(...known.map((value) => element("option", { value }, value)));
  choice.closest("label").hidden = known.length < (name === "status" || name === "warning" ? 1 : 2);
};

const startTable = () => {
  drawHead();
  offer("status", files.map((file) => file.status));
  offer("warning", files.flatMap((file) => file.warnings));
  offer("language", files.map((file) => file.language));
  offer("model", files.map((file) => file.model));
  let waiting = 0;
  byId("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 60);
  });
  for (const name of ["status", "warning", "language", "model"]) byId(`f-${name}`).addEventListener("change", update);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => { byId("filters").reset(); update(); });
  byId("show-all").addEventListener("click", () => { view.all = true; drawRows(); });
  for (const button of document.querySelectorAll("[data-query]")) {
    button.addEventListener("click", () => {
      byId("filters").reset();
      byId("query").value = button.dataset.query;
      update();
      byId("files").scrollIntoView();
      byId("query").focus({ preventScroll: true });
    });
  }
  update();
};
