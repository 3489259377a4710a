// The places that are most worth hearing, worst first.
const SPOTS_AT_ONCE = 25;
const LEAD_MS = 500;
const spotList = byId("spots");
let spots = [];
let spotsShown = SPOTS_AT_ONCE;
let spotNow = -1;

const WHY = {
  coverage: "speech without words",
  repetition: "says the same again and again",
  low_confidence: "the model is unsure",
};

const whyOf = (spot) => {
  const words = Math.max(1, Math.round(spot.words));
  const reasons = spot.reasons.map((code) => WHY[code] || code).join(", ");
  return `${reasons}: about ${plural(words, "word")} wrong or missing`;
};

const loadSpots = async () => {
  if (!spotList) return;
  spots = (await unpack("spots-0")).map(([at, start, end, text, reasons, words]) => ({
    file: files[at], start, end, text, reasons, words, key: `${files[at].id} ${start}`,
  }));
  drawSpots();
};

const hidden = (spot) => byId("hide-checked").checked && marks.has(spot.key);

const drawSpots = () => {
  if (!spotList) return;
  const wanted = spots.filter((spot) => !hidden(spot));
  spotList.replaceChildren(...wanted.slice(0, spotsShown).map(drawSpot));
  const left = wanted.length - Math.min(spotsShown, wanted.length);
  byId("more-spots").hidden = left === 0;
  byId("more-spots").textContent = `Show ${number(left)} more`;
  const done = spots.filter((spot) => marks.has(spot.key)).length;
  byId("checked-count").textContent = `${number(done)} of ${number(spots.length)} checked`;
};

const drawSpot = (spot) => {
  const at = spots.indexOf(spot);
  const tick = element("input", { type: "checkbox" });
  tick.checked = marks.has(spot.key);
  tick.addEventListener("change", () => check(at, tick.checked));
  const play = element("button", {
    type: "button", class: "play", "aria-label": `Play at ${clock(spot.start)}`, disabled: !canPlay(spot.file),
    onclick: () => { goToSpot(at); playSpot(); },
  }, `▶ ${clock(spot.start)}`);
  const place = element("a", {
    href: `#file-${spot.file.number}`, onclick: (event) => { event.preventDefault(); openFile(spot.file, spot.start); },
  }, foreign(spot.file.name));
  const why = element("span", { class: "why" }, whyOf(spot));
  return element("li", { "data-spot": at, class: (at === spotNow ? "now " : "") + (tick.checked ? "checked" : "") },
    play,
    element("div", {},
      element("div", { class: "said" }, spot.text ? foreign(spot.text) : element("em", {}, "no words")),
      element("div", { class: "where" }, why, " · ", place)),
    element("label", {}, tick, " checked"));
};

const goToSpot = (at) => {
  spotNow = at;
  const wanted = spots.filter((spot) => !hidden(spot)).indexOf(spots[at]);
  if (wanted >= spotsShown) {
    spotsShown = wanted + SPOTS_AT_ONCE;
    drawSpots();
  }
  for (const item of spotList.children) item.classList.toggle("now", Number(item.dataset.spot) === at);
  const item = spotList.querySelector(".now");
  if (item) item.scrollIntoView({ block: "nearest" });
};

const stepSpot = (by) => {
  let at = spotNow + by;
  while (at >= 0 && at < spots.length && hidden(spots[at])) at += by;
  if (at >= 0 && at < spots.length) goToSpot(at);
};

const playSpot = () => {
  if (spotNow < 0) stepSpot(1);
  const spot = spots[spotNow];
  if (!spot) return;
  if (isPlaying(spot.file)) audio.pause();
  else play(spot.file, Math.max(0, spot.start - LEAD_MS), spot.end + LEAD_MS);
};

const check = (at, checked) => {
  setMark(spots[at].key, checked);
  drawSpots();
};

const onKey = (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea, audio");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !spots.length) return;
  const pressed = event.target.closest("button, a, summary, label, input");
  if (event.key === "j") stepSpot(1);
  else if (event.key === "k") stepSpot(-1);
  else if (event.key === "c" && spotNow >= 0) check(spotNow, !marks.has(spots[spotNow].key));
  else if (event.key === " " && !pressed && spotNow >= 0) playSpot();
  else return;
  event.preventDefault();
};

if (spotList) {
  document.addEventListener("keydown", onKey);
  byId("hide-checked").addEventListener("change", drawSpots);
  byId("more-spots").addEventListener("click", () => { spotsShown = spots.length; drawSpots(); });
  byId("save-marks").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([marksAsText()], { type: "application/json" }));
    element("a", { href: address, download: "marks.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  byId("load-marks").addEventListener("change", async (event) => {
    try {
      readMarks(await event.target.files[0].text());
      keepMarks();
      drawSpots();
    } catch (error) {
      trouble(`These marks can't be read: ${error.message}`);
    }
    event.target.value = "";
  });
}
