// What somebody has checked. It stays in the browser, and can be saved as a file and loaded again.
const STORE = `trax_ray marks ${body.dataset.store}`;
const marks = new Map();

const readMarks = (text) => {
  const found = JSON.parse(text);
  if (!found || typeof found.marks !== "object") throw new Error("there are no marks in it");
  for (const [key, at] of Object.entries(found.marks)) marks.set(key, String(at));
};

const marksAsText = () => JSON.stringify(
  { batch: body.dataset.store, marks: Object.fromEntries(marks) }, null, 1
);

const keepMarks = () => {
  try {
    localStorage.setItem(STORE, marksAsText());
  } catch (error) {
    trouble(`This browser keeps no marks (${error.name}): save them before you close the page.`);
  }
};

try {
  const kept = localStorage.getItem(STORE);
  if (kept) readMarks(kept);
} catch (error) {
  trouble(`The marks that this browser keeps can't be read: ${error.message}`);
}

const setMark = (key, checked) => {
  if (checked) marks.set(key, new Date().toISOString());
  else marks.delete(key);
  keepMarks();
};
