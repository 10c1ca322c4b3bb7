// The gallery, the address, printing.
const SENTENCES = read("sentences");
const home = document.getElementById("card");
const links = [...document.querySelectorAll("#gallery a")];
let current = null, card = null;

function open(index, move) {
  const wanted = Math.max(0, Math.min(links.length - 1, index));
  if (wanted === current) return;
  current = wanted;
  if (card) card.leave();
  links.forEach((link, k) => {
    if (k === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  const list = document.getElementById("gallery"), item = links[current].parentElement;
  list.scrollTop = item.offsetTop - list.offsetTop - 60;
  list.scrollLeft = item.offsetLeft - list.offsetLeft - 60;
  card = Card(read(`data-${current + 1}`), home);
  if (move) home.scrollIntoView({ block: "start" });
}

function fromAddress(move) {
  const match = /^#sample-(\d+)$/.exec(location.hash);
  if (match || current === null) open(match ? Number(match[1]) - 1 : 0, move && Boolean(match));
}

const find = document.getElementById("find"), which = document.getElementById("which");
function filter() {
  const words = find.value.trim().toLowerCase();
  let left = 0;
  for (const link of links) {
    const item = link.parentElement;
    item.hidden = !(link.textContent.toLowerCase().includes(words)
      && (!which.value || item.dataset.right === which.value));
    left += item.hidden ? 0 : 1;
  }
  document.getElementById("none-found").hidden = left > 0;
}
if (find) {
  find.addEventListener("input", filter);
  which.addEventListener("change", filter);
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  let next = current + step;
  while (links[next] && links[next].parentElement.hidden) next += step;
  if (links[next]) location.hash = `sample-${next + 1}`;
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
