// Pairs as curves over the stage. A curve ends on the edge of the two players that face each other.
const LIFT = 3; // pixels that an end lies inside its player

function place(stage, element) {
  const origin = stage.getBoundingClientRect();
  const r = element.getClientRects()[0] || element.getBoundingClientRect();
  return { left: r.left - origin.left, right: r.right - origin.left,
    top: r.top - origin.top, bottom: r.bottom - origin.top,
    x: (r.left + r.right) / 2 - origin.left, y: (r.top + r.bottom) / 2 - origin.top,
    width: r.width };
}

function ends(a, b) {
  if (a.bottom <= b.top + 1) {
    return { from: [a.x, a.bottom - LIFT], to: [b.x, b.top + LIFT], bend: [0, 1] };
  }
  if (b.bottom <= a.top + 1) {
    return { from: [a.x, a.top + LIFT], to: [b.x, b.bottom - LIFT], bend: [0, -1] };
  }
  return a.x <= b.x
    ? { from: [a.right - LIFT, a.y], to: [b.left + LIFT, b.y], bend: [1, 0] }
    : { from: [a.left + LIFT, a.y], to: [b.right - LIFT, b.y], bend: [-1, 0] };
}

// Several curves on one player stand side by side.
function spread(pairs, places) {
  const count = new Map(), used = new Map();
  for (const pair of pairs) {
    for (const i of [pair.first, pair.second]) count.set(i, (count.get(i) || 0) + 1);
  }
  return (i) => {
    const n = count.get(i), k = used.get(i) || 0;
    used.set(i, k + 1);
    const step = Math.min(12, (places.get(i).width * 0.7) / Math.max(1, n - 1));
    return (k - (n - 1) / 2) * step;
  };
}

function drawCurves(stage, overlay, pairs, players) {
  overlay.replaceChildren();
  overlay.setAttribute("width", stage.clientWidth);
  overlay.setAttribute("height", stage.clientHeight);
  const places = new Map();
  const drawable = pairs.filter((p) => players.has(p.first) && players.has(p.second));
  for (const pair of drawable) {
    for (const i of [pair.first, pair.second]) places.set(i, place(stage, players.get(i)[0]));
  }
  // From left to right, so that neighbours on one player do not cross.
  drawable.sort((p, q) => places.get(p.first).x + places.get(p.second).x
    - places.get(q.first).x - places.get(q.second).x || (p.kind < q.kind ? -1 : 1));
  const shift = spread(drawable, places);
  const drawings = drawable.map((pair) =>
    curve(pair, places.get(pair.first), places.get(pair.second), shift));
  // Labels last, so that no other curve crosses them.
  overlay.append(...drawings.map((d) => d.lines), ...drawings.map((d) => d.label));
}

function curve(pair, a, b, shift) {
  const { from, to, bend } = ends(a, b);
  const upright = bend[1] !== 0;
  from[upright ? 0 : 1] += shift(pair.first);
  to[upright ? 0 : 1] += shift(pair.second);
  const reach = Math.max(24, Math.abs(upright ? to[1] - from[1] : to[0] - from[0]) * 0.5);
  const control = [from[0] + bend[0] * reach, from[1] + bend[1] * reach,
    to[0] - bend[0] * reach, to[1] - bend[1] * reach];
  const d = `M${from.join(" ")}C${control.join(" ")} ${to.join(" ")}`;
  const t = 0.38 + 0.12 * ((pair.rank - 1) % 3);
  const u = 1 - t;
  const at = (k) => u * u * u * from[k] + 3 * u * u * t * control[k]
    + 3 * u * t * t * control[2 + k] + t * t * t * to[k];
  const faint = pair.clear ? "" : " unclear";
  const lines = s("g", { class: `curve ${pair.kind}${faint}`, "data-pair": pair.key,
    "data-first": pair.first, "data-second": pair.second },
  s("path", { class: "reach", d }),
  s("path", { class: "halo", d }),
  s("path", { class: `line ${pair.kind}`, d, "--size": pair.size }),
  s("circle", { class: `end ${pair.kind}`, cx: from[0], cy: from[1], r: 4.5 }),
  s("circle", { class: `end ${pair.kind}`, cx: to[0], cy: to[1], r: 4.5 }));
  const label = s("g", { class: `label-of${faint}`, "data-pair": pair.key },
    s("circle", { class: `badge ${pair.kind}`, cx: at(0), cy: at(1), r: 9 }),
    s("text", { class: `badge-text ${pair.kind}`, x: at(0), y: at(1) }, String(pair.rank)));
  return { lines, label };
}
