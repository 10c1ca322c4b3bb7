// Draws the raw inputs with their players. Each drawer returns a figure and registers, in
// `spots`, the elements of each player: spots.get(index) -> [element, ...].
function register(spots, index, element) {
  if (!spots.has(index)) spots.set(index, []);
  spots.get(index).push(element);
}

function spot(index, label, extra) {
  return { "data-player": index, tabindex: -1, role: "button", "aria-label": label, ...extra };
}

function drawInput(input, part, view, spots, number) {
  const draw = { text: drawText, image: drawPicture, vector: drawCells }[input.kind];
  const what = { text: "text", image: "picture", vector: "features" }[input.kind];
  const caption = h("figcaption", null, h("b", null, input.modality),
    input.modality !== what && input.kind !== "image" && h("span", null, ` · ${what}`),
    input.file && h("span", { class: "file" }, " · ", h("bdi", null, input.file)));
  const long = part.pieces && part.pieces.reduce((n, piece) => n + piece[0].length, 0) > 320;
  return h("figure", { class: `input ${input.kind}${long ? " long" : ""}` }, caption,
    draw(input, part, view, spots, number), homeless(part, view, spots));
}

function drawText(input, part, view, spots) {
  const text = h("bdi", { class: "running", dir: "auto", role: "group",
    "aria-label": `${input.modality}: words, walk with the arrow keys` });
  if (!part.pieces.length) return h("p", { class: "quiet" }, "This text is empty.");
  for (const [piece, player, flags] of part.pieces) {
    const classes = (flags & 1 ? " unseen" : "") + (flags & 2 ? " planted" : "");
    if (player < 0) {
      text.append(classes ? h("span", { class: classes.trim() }, piece) : piece);
      continue;
    }
    const word = h("span", spot(player, view.players[player].label, { class: "word" + classes }),
      piece);
    register(spots, player, word);
    text.append(word);
  }
  const none = !part.pieces.some((p) => p[1] >= 0);
  return h("div", null, text,
    none && h("p", { class: "quiet" }, "No content tokens: nothing here could be explained."));
}

function drawPicture(input, part, view, spots, number) {
  const [width, height] = input.size;
  const hatch = `hatch-${number}`;
  const overlay = s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none",
    role: "group", "aria-label": `${input.modality}: parts, walk with the arrow keys` });
  overlay.append(s("defs", null, s("pattern", { id: hatch, width: 8, height: 8,
    patternUnits: "userSpaceOnUse",
    patternTransform: `rotate(45) scale(${Math.max(width, height) / 400})` },
  s("rect", { class: "hatch-ground", width: 8, height: 8 }),
  s("path", { class: "hatch-line", d: "M0 0V8" }))));
  const groups = new Map();
  for (const [player, x0, y0, x1, y1] of part.boxes) {
    if (!groups.has(player)) {
      const group = s("g", spot(player, view.players[player].label, { class: "patch" }));
      groups.set(player, group);
      register(spots, player, group);
      overlay.append(group);
    }
    groups.get(player).append(box([x0, y0, x1, y1], "veil"));
  }
  for (const place of part.unseen) {
    overlay.append(box(place, "unseen", { fill: `url(#${hatch})` }));
  }
  for (const place of part.causes) overlay.append(box(place, "truth back"), box(place, "truth"));
  const longest = Math.max(width, height);
  const frame = h("div", { class: "frame", "--ratio": width / height }, overlay);
  if (input.picture) {
    frame.prepend(h("img", { src: input.picture, alt: `${input.modality} of this sample`,
      class: longest < 200 ? "small" : null }));
  } else {
    frame.classList.add("missing");
  }
  return h("div", { class: "picture", "--wide": Math.max(0.2, Math.min(1, width / height)) }, frame,
    input.problem && h("p", { class: "notice" }, "The picture cannot be shown: ",
      h("bdi", null, input.problem)));
}

function box([x0, y0, x1, y1], kind, extra) {
  return s("rect", { class: kind, x: x0, y: y0, width: Math.max(0, x1 - x0),
    height: Math.max(0, y1 - y0), ...extra });
}

function drawCells(input, part, view, spots) {
  const strip = h("div", { class: "cells", role: "group",
    "aria-label": `${input.modality}: steps, walk with the arrow keys` });
  for (const [player, planted] of part.cells) {
    const cell = h("span",
      spot(player, view.players[player].label, { class: planted ? "cell planted" : "cell" }));
    register(spots, player, cell);
    strip.append(cell);
  }
  if (!part.cells.length) return h("p", { class: "quiet" }, "No content tokens.");
  return strip;
}

function homeless(part, view, spots) {
  if (!part.homeless.length) return null;
  return h("p", { class: "homeless" }, "Without a place in the input: ",
    part.homeless.map((player) => {
      const word = h("span", spot(player, view.players[player].label, { class: "word" }),
        view.players[player].label);
      register(spots, player, word);
      return [word, " "];
    }));
}

// The chip that stands for a player in a sentence: its word, or a crop of its picture.
function chip(view, index, inputs) {
  const player = view.players[index];
  const input = inputs[player.m];
  if (player.kind !== "image") {
    return h("bdi", { class: "name" }, player.kind === "text" ? `“${player.label}”` : player.label);
  }
  const boxes = view.parts[player.m].boxes.filter((b) => b[0] === index);
  const several = inputs.filter((i) => i.kind === "image").length > 1;
  const label = several ? `${player.label} of ${input.modality}` : player.label;
  if (!input.picture || !boxes.length) return h("span", { class: "name of-picture" }, `the ${label}`);
  const left = Math.min(...boxes.map((b) => b[1])), top = Math.min(...boxes.map((b) => b[2]));
  const right = Math.max(...boxes.map((b) => b[3])), bottom = Math.max(...boxes.map((b) => b[4]));
  const [width, height] = input.size;
  // A small patch alone is often a blank: show some of what lies around it.
  const small = right - left < width / 5;
  const side = Math.max(right - left, bottom - top) * (small ? 1.7 : 1);
  return h("span", { class: "name of-picture" }, "the ", s("svg", { class: "crop", "aria-hidden": "true",
    viewBox: `${(left + right - side) / 2} ${(top + bottom - side) / 2} ${side} ${side}` },
  s("image", { href: input.picture, width, height, preserveAspectRatio: "none",
    class: Math.max(width, height) < 200 ? "small" : null }),
  small && box([left, top, right, bottom], "crop-mark")), ` ${label}`);
}
