// One file: what is known of it, and its transcript. A click on a time plays.
let shown = null;
let lines = [];
let doubtNow = -1;

const openFile = async (file, at = null) => {
  shown = file;
  doubtNow = -1;
  const transcript = await transcriptOf(file.number);
  if (shown !== file) return;
  byId("file").hidden = false;
  byId("file-h").replaceChildren(foreign(file.title || file.name));
  byId("file-body").replaceChildren(...about(file), ...said(file, transcript));
  for (const row of byId("table").tBodies[0].rows) {
    row.classList.toggle("chosen", Number(row.dataset.file) === file.number);
  }
  history.replaceState(null, "", `#file-${file.number}`);
  byId("file").scrollIntoView();
  byId("file-h").focus({ preventScroll: true });
  if (at !== null) goTo(at);
};

const fact = (name, value) => (value === null || value === undefined || value === "" ? null
  : element("div", {}, element("dt", {}, name), element("dd", {}, value instanceof Node ? value : foreign(String(value)))));

const link = (address, text) => (address ? element("a", { href: address, rel: "noreferrer noopener" }, text) : null);

const about = (file) => {
  const made = [];
  if (file.error) made.push(element("p", { class: "note" }, foreign(file.error)));
  const accuracy = [
    file.measured === null ? "" : `${percent(file.measured)} measured`,
    file.estimated === null ? "" : `${percent(file.estimated)} estimated`,
  ].filter(Boolean).join(", ");
  const took = file.took === null ? "" : `${file.took.toFixed(1)} s${
    file.duration && file.took ? `, ${(file.duration / file.took).toPrecision(3)} × real time` : ""}`;
  made.push(element("dl", { class: "facts" }, ...[
    fact("File", file.name),
    fact("Status", file.failed ? `${file.status} at ${file.step}` : file.status + (file.step ? ` at ${file.step}` : "")),
    fact("Length", file.duration === null ? "" : clock(file.duration * 1000)),
    fact("Speech", file.speech === null ? "" : clock(file.speech * 1000)),
    fact("Language", file.language),
    fact("Model", file.model),
    fact("Accuracy", accuracy),
    fact("Took", took),
    fact("Attempts", file.retries ? `${file.attempts}, ${plural(file.retries, "retry").replace("retrys", "retries")}` : file.attempts),
    fact("Cost", file.cost === null ? "" : `$${file.cost.toFixed(5)}`),
    fact("Channel", file.channel),
    fact("Copy of", file.copy_of),
    fact("Web page", link(file.webpage, file.webpage)),
    fact("Transcript", link(file.transcript, "open the file")),
    fact("Enhanced", link(file.enhanced, "open the file")),
    fact("Edits", file.edits === null ? "" : `${file.edits} made, ${file.refused || 0} refused`),
  ].filter(Boolean)));
  for (const code of file.warnings) {
    made.push(element("p", { class: "warning" }, element("span", { class: "tag" }, code), ` ${meaningOf(code)}`));
  }
  return made;
};

// What the list of warnings above says of one.
const meaningOf = (code) => {
  const button = document.querySelector(`[data-query="${CSS.escape(`warning:${code}`)}"]`);
  const [, what, wayOut] = button ? button.closest("tr").cells : [];
  if (!what) return "";
  const meaning = [...what.childNodes].filter((node) => node.className !== "quiet");
  return `${meaning.map((node) => node.textContent).join("").trim()}. What to do: ${wayOut.textContent}`;
};

const said = (file, transcript) => {
  lines = [];
  if (!transcript) {
    const why = file.status === "succeeded" ? "The page holds no transcript of this file: see the file itself, or `trax-ray search`."
      : "There is no transcript.";
    return [element("p", { class: "quiet" }, why)];
  }
  const tools = element("div", { class: "tools" }, element("button", {
    type: "button", disabled: !canPlay(file), onclick: () => play(file, 0),
  }, "▶ Play from the beginning"));
  const doubts = Object.keys(transcript.w || {}).length + (transcript.u || []).length;
  if (doubts) tools.append(element("button", { type: "button", onclick: nextDoubt }, `Next of ${plural(doubts, "doubtful place")}`));
  const diff = transcript.x ? element("input", { type: "checkbox", id: "diff" }) : null;
  if (diff) {
    diff.checked = true;
    diff.addEventListener("change", () => list.replaceWith(list = draw()));
    tools.append(element("label", {}, diff, ` show what the enhancement changed (${plural(Object.keys(transcript.x).length, "segment")})`));
  }
  const names = [...new Set((transcript.k || []).filter(Boolean))];
  if (names.length) tools.append(element("span", { class: "quiet" }, `${plural(names.length, "speaker")}`));
  const draw = () => {
    lines = [];
    const gaps = [...(transcript.u || [])];
    const items = [];
    let speaker = null;
    transcript.t.forEach((text, at) => {
      while (gaps.length && gaps[0][0] <= transcript.s[at]) items.push(drawGap(file, gaps.shift()));
      const name = transcript.k ? transcript.k[at] : null;
      items.push(drawLine(file, transcript, at, name !== speaker ? name : null, names, diff && diff.checked));
      speaker = name;
    });
    items.push(...gaps.map((gap) => drawGap(file, gap)));
    return element("ol", { id: "transcript", tabindex: "0", "aria-label": "Transcript" }, ...items);
  };
  let list = draw();
  return [tools, list];
};

const timeButton = (file, start, end) => element("button", {
  type: "button", class: "at", disabled: !canPlay(file), "aria-label": `Play at ${clock(start)}`,
  onclick: () => play(file, start),
}, clock(start));

const drawGap = (file, [start, end]) => {
  const item = element("li", { class: "gap" }, element("span", { class: "margin" }), timeButton(file, start, end),
    element("p", {}, `speech without words, ${((end - start) / 1000).toFixed(1)} s`));
  lines.push({ start, end, item, doubt: true });
  return item;
};

const drawLine = (file, transcript, at, speaker, names, diff) => {
  const warned = transcript.w && transcript.w[at];
  const sure = transcript.c ? transcript.c[at] : null;
  const text = transcript.t[at];
  const other = transcript.x ? transcript.x[at] : undefined;
  const content = other === undefined ? [foreign(text)] : diff ? compareWords(text, other) : [foreign(other)];
  const item = element("li", { class: warned ? "doubt" : "", title: warned ? warned.join(", ") : null },
    element("span", { class: "margin" }),
    timeButton(file, transcript.s[at], transcript.e[at]),
    element("p", { dir: "auto" },
      speaker ? element("span", { class: `speaker s${names.indexOf(speaker) % 4}` }, foreign(speaker), ": ") : null,
      ...content,
      warned ? element("span", { class: "sure" }, ` ${sure === null ? warned.join(", ") : `${sure} % sure`}`) : null));
  lines.push({ start: transcript.s[at], end: transcript.e[at], item, doubt: Boolean(warned) });
  return item;
};

// What was taken out and put in, word by word: the longest common sequence.
const compareWords = (before, after) => {
  const [a, b] = [before, after].map((text) => text.split(/(\s+)/).filter((word) => word.trim()));
  if (a.length * b.length > 4e6) return [element("del", {}, before), " ", element("ins", {}, after)];
  const wide = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      lengths[i * wide + j] = a[i] === b[j] ? lengths[(i + 1) * wide + j + 1] + 1
        : Math.max(lengths[(i + 1) * wide + j], lengths[i * wide + j + 1]);
    }
  }
  const made = [];
  const add = (kind, word) => {
    const last = made[made.length - 1];
    if (last && last.kind === kind) last.words.push(word);
    else made.push({ kind, words: [word] });
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { add("same", a[i]); i++; j++; }
    else if (i < a.length && (j === b.length || lengths[(i + 1) * wide + j] >= lengths[i * wide + j + 1])) add("del", a[i++]);
    else add("ins", b[j++]);
  }
  return made.flatMap(({ kind, words }) => [
    kind === "same" ? foreign(words.join(" ")) : element(kind, {}, foreign(words.join(" "))), " ",
  ]);
};

const lineAt = (at) => {
  let found = null;
  for (const line of lines) {
    if (line.start > at) break;
    if (!line.item.classList.contains("gap")) found = line;
  }
  return found;
};

const markMoment = (file, at) => {
  if (file !== shown) return;
  const now = lineAt(at + 50);
  for (const line of lines) {
    const is = line === now;
    if (line.item.classList.contains("now") !== is) {
      line.item.classList.toggle("now", is);
      if (is && !audio.paused) showLine(line.item);
    }
  }
};

const showLine = (item) => {
  const box = byId("transcript");
  const top = item.offsetTop - box.offsetTop;
  if (top < box.scrollTop || top + item.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = Math.max(0, top - box.clientHeight / 3);
  }
};

const goTo = (at) => {
  const line = lines.find((each) => each.start >= at) || lineAt(at);
  if (!line) return;
  for (const each of lines) each.item.classList.toggle("now", each === line);
  showLine(line.item);
};

const nextDoubt = () => {
  const doubts = lines.filter((line) => line.doubt);
  doubtNow = (doubtNow + 1) % doubts.length;
  for (const each of lines) each.item.classList.toggle("now", each === doubts[doubtNow]);
  showLine(doubts[doubtNow].item);
};
