// The gallery, the address, printing.
const SENTENCES = read("sentences");
const home = document.getElementById("card");
const links = [...document.querySelectorAll("#gallery a")];
let current = null, card = null;

async function open(index, move) {
  const wanted = Math.max(0, Math.min(links.length - 1, index));
  if (wanted === current) return;
  current = wanted;
  if (card) card.leave();
  card = null;
  links.forEach((link, k) => {
    if (k === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  const list = document.getElementById("gallery"), item = links[current].parentElement;
  if (item.hidden && fitting.includes(current)) turn(Math.floor(fitting.indexOf(current) / PAGE));
  list.scrollTop = item.offsetTop - list.offsetTop - 60;
  list.scrollLeft = item.offsetLeft - list.offsetLeft - 60;
  const data = await unpack(`data-${current + 1}`);
  if (wanted !== current) return; // another was asked for meanwhile
  card = Card(data, home);
  if (move) home.scrollIntoView({ block: "start" });
}

function fromAddress(move) {
  const match = /^#sample-(\d+)$/.exec(location.hash);
  if (match || current === null) open(match ? Number(match[1]) - 1 : 0, move && Boolean(match));
}

// Samples that fit the filters stand on pages; all others are hidden.
const PAGE = Number(document.getElementById("gallery").dataset.page);
const byId = (id) => document.getElementById(id);
const find = byId("find"), which = byId("which");
const ofClass = byId("of-class"), ofExpert = byId("of-expert");
let fitting = links.map((_, k) => k), page = 0;

function fits(link) {
  const data = link.parentElement.dataset;
  return link.textContent.toLowerCase().includes(find.value.trim().toLowerCase())
    && (!which.value || data.right === which.value)
    && (!ofClass || !ofClass.value || data.classes.split(" ").includes(ofClass.value))
    && (!ofExpert || !ofExpert.value || data.expert === ofExpert.value);
}

function turn(to) {
  const pages = Math.max(1, Math.ceil(fitting.length / PAGE));
  page = Math.max(0, Math.min(pages - 1, to));
  const shown = new Set(fitting.slice(page * PAGE, (page + 1) * PAGE));
  links.forEach((link, k) => { link.parentElement.hidden = !shown.has(k); });
  byId("none-found").hidden = fitting.length > 0;
  if (!byId("pages")) return;
  const first = page * PAGE;
  byId("page-of").textContent = fitting.length
    ? `${first + 1}–${Math.min(first + PAGE, fitting.length)} of ${fitting.length}` : "none";
  byId("earlier").disabled = page === 0;
  byId("later").disabled = page === pages - 1;
}

function filter() {
  fitting = links.map((_, k) => k).filter((k) => fits(links[k]));
  turn(0);
}
if (find) {
  find.addEventListener("input", filter);
  for (const choice of [which, ofClass, ofExpert]) {
    if (choice) choice.addEventListener("change", filter);
  }
  if (byId("pages")) {
    byId("earlier").addEventListener("click", () => turn(page - 1));
    byId("later").addEventListener("click", () => turn(page + 1));
    turn(0);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const next = step > 0 ? fitting.find((k) => k > current) : fitting.findLast((k) => k < current);
  if (next !== undefined) location.hash = `sample-${next + 1}`;
});

// Curves are drawn for a width; printing keeps that width, so that they still meet their ends.
function beforePrint() {
  const stage = home.querySelector(".stage");
  stage.style.width = `${Math.min(stage.clientWidth, 660)}px`;
  if (card) card.redraw();
}
function afterPrint() {
  home.querySelector(".stage").style.width = "";
  if (card) card.redraw();
}
window.addEventListener("beforeprint", beforePrint);
window.addEventListener("afterprint", afterPrint);
window.addEventListener("hashchange", () => fromAddress(true));
document.fonts.ready.then(() => { if (card) card.redraw(); });
fromAddress(false);
