// One player for all recordings: nothing is loaded before somebody asks for it.
const audio = byId("audio");
const player = { file: null, from: 0, until: null, chosen: new Map() };

const sourceOf = (file) => {
  const name = file.name.split("/").pop();
  const chosen = player.chosen.get(file.name) || player.chosen.get(name);
  return chosen ? URL.createObjectURL(chosen) : file.sound;
};

const canPlay = (file) => Boolean(file.sound) || player.chosen.size > 0;

// From a moment, in milliseconds; up to another one where it is given.
const play = (file, from, until = null) => {
  byId("player").hidden = false;
  const source = sourceOf(file);
  byId("playing").replaceChildren(foreign(file.name), ` at ${clock(from)}`);
  if (!source) {
    soundIsAway();
    return;
  }
  byId("find-sound").hidden = true;
  player.until = until;
  player.from = from / 1000;
  if (player.file !== file || !audio.src) {
    player.file = file;
    audio.preload = "auto";
    audio.src = source;
    audio.addEventListener("loadedmetadata", () => { audio.currentTime = player.from; }, { once: true });
  } else {
    audio.currentTime = player.from;
  }
  audio.play().catch((error) => {
    if (error.name === "NotAllowedError") byId("playing").append(": press play");
  });
};

const soundIsAway = () => {
  byId("find-sound").hidden = false;
  byId("playing").append(": the recording isn't where it was, or the browser can't play it");
};

const isPlaying = (file) => player.file === file && !audio.paused;

audio.addEventListener("error", () => { if (audio.getAttribute("src")) soundIsAway(); });
audio.addEventListener("timeupdate", () => {
  const at = audio.currentTime * 1000;
  if (player.until !== null && at >= player.until) {
    player.until = null;
    audio.pause();
  }
  markMoment(player.file, at);
});
byId("close-player").addEventListener("click", () => {
  audio.pause();
  byId("player").hidden = true;
});
byId("folder").addEventListener("change", (event) => {
  for (const each of event.target.files) {
    player.chosen.set(each.name, each);
    const path = each.webkitRelativePath.split("/").slice(1).join("/");
    if (path) player.chosen.set(path, each);
  }
  if (player.file || player.chosen.size) {
    const file = player.file;
    player.file = null;
    if (file) play(file, player.from * 1000);
  }
});
