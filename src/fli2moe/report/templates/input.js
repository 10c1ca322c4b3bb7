// Draws the raw inputs. Parts (words, patches, cells) are shaded and pointed at, the players that
// they belong to (themselves, or groups of them) are outlined and joined. Each drawer returns a
// figure and registers the elements: spots.players.get(index), spots.parts.get(index) -> [element].
function register(map, index, element) {
  if (!map.has(index)) map.set(index, []);
  map.get(index).push(element);
  return element;
}

function spot(spots, index, element) {
  fill(element, { "data-part": index, tabindex: -1, role: "button" }, []);
  return register(spots.parts, index, element);
}

// Puts the elements of one player that follow each other into one span.
function runs(parent, spots) {
  let last = -1, run = null;
  return (player, child) => {
    if (player >= 0 && player !== last) {
      run = register(spots.players, player, h("span", { class: "run", "data-player": player }));
      parent.append(run);
    }
    (player < 0 ? parent : run).append(child);
    last = player;
  };
}

function drawInput(input, drawing, view, spots, number) {
  const draw = { text: drawText, image: drawPicture, vector: drawCells }[input.kind];
  const what = { text: "text", image: "picture", vector: "features" }[input.kind];
  const caption = h("figcaption", null, h("b", null, input.modality),
    input.modality !== what && input.kind !== "image" && h("span", null, ` · ${what}`),
    input.file && h("span", { class: "file" }, " · ", h("bdi", null, input.file)));
  const long = (drawing.pieces || []).reduce((n, piece) => n + piece[0].length, 0) > 320;
  return h("figure", { class: `input ${input.kind}${long ? " long" : ""}` }, caption,
    draw(input, drawing, spots, number), homeless(drawing, view, spots));
}

function drawText(input, drawing, spots) {
  const text = h("bdi", { class: "running", dir: "auto", role: "group",
    "aria-label": `${input.modality}: words, walk with the arrow keys` });
  if (!drawing.pieces.length) return h("p", { class: "quiet" }, "This text is empty.");
  const add = runs(text, spots);
  for (const [piece, player, part, flags] of drawing.pieces) {
    const classes = (flags & 1 ? " unseen" : "") + (flags & 2 ? " planted" : "");
    if (part >= 0) add(player, spot(spots, part, h("span", { class: "word" + classes }, piece)));
    else add(player, classes ? h("span", { class: classes.trim() }, piece) : piece);
  }
  const none = !drawing.pieces.some((p) => p[2] >= 0);
  return h("div", null, text,
    none && h("p", { class: "quiet" }, "No content tokens: nothing here could be explained."));
}

function drawPicture(input, drawing, spots, number) {
  const [width, height] = input.size;
  const hatch = `hatch-${number}`;
  const overlay = s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none",
    role: "group", "aria-label": `${input.modality}: parts, walk with the arrow keys` });
  overlay.append(s("defs", null, s("pattern", { id: hatch, width: 8, height: 8,
    patternUnits: "userSpaceOnUse",
    patternTransform: `rotate(45) scale(${Math.max(width, height) / 400})` },
  s("rect", { class: "hatch-ground", width: 8, height: 8 }),
  s("path", { class: "hatch-line", d: "M0 0V8" }))));
  // Edges lie above all patches, so that no neighbour covers half of one. They are registered
  // first: curves end on them.
  const edges = drawing.edges.map(([player, ...place]) =>
    register(spots.players, player, box(place, "edge", { "data-player": player })));
  for (const [player, part, ...place] of drawing.boxes) {
    if (!spots.parts.has(part)) {
      overlay.append(register(spots.players, player,
        spot(spots, part, s("g", { class: "patch", "data-player": player }))));
    }
    spots.parts.get(part)[0].append(box(place, "veil"));
  }
  for (const place of drawing.unseen) {
    overlay.append(box(place, "unseen", { fill: `url(#${hatch})` }));
  }
  overlay.append(s("g", null, edges));
  for (const place of drawing.causes) overlay.append(box(place, "truth back"), box(place, "truth"));
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

function drawCells(input, drawing, spots) {
  const strip = h("div", { class: "cells", role: "group",
    "aria-label": `${input.modality}: steps, walk with the arrow keys` });
  const add = runs(strip, spots);
  for (const [player, part, planted] of drawing.cells) {
    add(player, spot(spots, part, h("span", { class: planted ? "cell planted" : "cell" })));
  }
  if (!drawing.cells.length) return h("p", { class: "quiet" }, "No content tokens.");
  return strip;
}

function homeless(drawing, view, spots) {
  if (!drawing.homeless.length) return null;
  const line = h("p", { class: "homeless" }, "Without a place in the input: ");
  const add = runs(line, spots);
  for (const [player, part] of drawing.homeless) {
    add(player, spot(spots, part, h("span", { class: "word" }, view.parts[part].label)));
    add(-1, " ");
  }
  return line;
}

// The chip that stands for a player in a sentence: its word, or a crop of its picture.
function chip(view, index, inputs) {
  const player = view.players[index];
  const input = inputs[player.m];
  if (player.kind !== "image") {
    return h("bdi", { class: "name" }, player.kind === "text" ? `“${player.label}”` : player.label);
  }
  const boxes = view.drawings[player.m].edges.filter((b) => b[0] === index);
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
