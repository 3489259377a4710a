const openFromAddress = () => {
  const found = location.hash.match(/^#file-(\d+)$/);
  const file = found && files[Number(found[1])];
  if (file && file !== shown) openFile(file);
};

const start = async () => {
  if (!("DecompressionStream" in window)) {
    trouble("This browser is too old for the list of files and the transcripts (it has no DecompressionStream).");
    return;
  }
  await loadFiles();
  startTable();
  await loadSpots();
  openFromAddress();
  window.addEventListener("hashchange", openFromAddress);
  await loadTexts((done) => {
    const wasSearching = searching;
    searching = done < files.length ? `, reading the transcripts: ${number(done)} of ${number(files.length)}` : "";
    if (view.words.length && (done % 1000 === 0 || (wasSearching && !searching))) update();
  });
  body.dataset.ready = "yes";
};

start().catch((error) => trouble(`The page can't show its content: ${error.message}`));
