// One sample's card: draws it, shades it for a head, joins its pairs, highlights partners.
const state = { head: "mixture", count: 3, threshold: 10, shading: true, truth: true };
const tip = document.getElementById("tip");

function Card(data, home) {
  let view = data.views[0];
  let spots, stage, overlay, side, tables, drawn, hot = null;

  function build() {
    spots = { players: new Map(), parts: new Map() };
    const figures = data.inputs.map((input, k) =>
      drawInput(input, view.drawings[k], view, spots, k));
    const isPicture = (k) => data.inputs[k].kind === "image";
    overlay = s("svg", { class: "curves", "aria-hidden": "true" });
    stage = h("div", { class: "stage" },
      h("div", { class: "reading" }, figures.filter((_, k) => !isPicture(k))),
      h("div", { class: "pictures" }, figures.filter((_, k) => isPicture(k))), overlay);
    side = h("div", { class: "side" });
    home.replaceChildren(h("article", { class: "card" }, heading(), choices(), h("div",
      { class: "work" }, stage, side,
      h("div", { class: "below" }, answers(view), experts(view))), details(view)));
    listen();
    walk();
    update();
    watcher.disconnect();
    watcher.observe(stage);
  }

  function heading() {
    const says = data.predicted.length ? data.predicted : ["no label"];
    const truth = () => {
      if (data.labels.length < 2) return data.right ? null
        : [" The true label is ", list(data.labels.length ? data.labels : ["none"]), "."];
      return [" The true labels are ", data.right ? "the same" : list(data.labels), "."];
    };
    const list = (names) => names.map((n, k) => [k > 0 && ", ", h("bdi", { class: "strong" }, n)]);
    const mark = data.right === null ? null
      : h("span", { class: `verdict ${data.right ? "right" : "wrong"}` },
        data.right ? "✓ right" : "✗ wrong");
    return h("header", { class: "card-head" }, h("div", null,
      h("h2", null, "Sample ", h("bdi", null, data.id)),
      h("p", null, "The model says ", list(says),
        ".", data.labels && truth())), mark);
  }

  function choices() {
    const heads = view.heads.map(([value, label]) => [value, label]);
    if (!view.heads.some((x) => x[0] === state.head)) state.head = view.heads[0][0];
    const targets = data.views.map((v, k) => [String(k), v.target, percent(v.probability)]);
    const check = (name, label) => h("label", { class: "check" },
      h("input", { type: "checkbox", checked: state[name],
        onchange: (event) => { state[name] = event.target.checked; update(); } }), label);
    const slide = (name, label, max, show) => {
      const value = h("output", null, show(state[name]));
      return h("label", { class: "slide" }, label, h("input", { type: "range", name, min: 0, max,
        value: state[name], oninput: (event) => {
          state[name] = Number(event.target.value);
          value.textContent = show(state[name]);
          hot = null;
          update();
        } }), value);
    };
    const meaning = h("p", { class: "meaning quiet" });
    meaning.textContent = meaningOf();
    return h("div", { class: "controls" },
      targets.length > 1 && radios("target", "Answer to explain", targets,
        String(data.views.indexOf(view)), (k) => {
          view = data.views[Number(k)];
          hot = null;
          build();
          home.querySelector("input[name=target]:checked").focus();
        }),
      heads.length > 1 && h("div", null, radios("head", "Seen by", heads, state.head, (value) => {
        state.head = value;
        hot = null;
        meaning.textContent = meaningOf();
        update();
      }), meaning),
      h("div", { class: "sliders" },
        slide("count", "Pairs of each kind", 20, String),
        slide("threshold", "Hide weaker than", 100, (v) => `${v}%`),
        check("shading", "Shading"),
        view.truth.length > 0 && check("truth", "Planted truth")));
  }

  const meaningOf = () => (view.heads.find((x) => x[0] === state.head) || [])[2] || "";

  function update() {
    shade();
    stage.classList.toggle("no-shading", !state.shading);
    stage.classList.toggle("no-truth", !state.truth);
    tables = {};
    drawn = [];
    const panels = [];
    for (const kind of Object.keys(KINDS)) {
      const found = pairsOf(view, kind, state.head);
      if (found) tables[kind] = found;
    }
    // One yardstick for both kinds: a clear pair can still be a trifle beside the strongest.
    const least = (state.threshold / 100) * Math.max(0, ...Object.values(tables).map((t) => t.top));
    for (const [kind, found] of Object.entries(tables)) {
      const shown = best(found, state.count, least);
      const weaker = found.pairs.filter((p) => p.clear && p.value < least).length;
      drawn.push(...shown.filter((p) => p.possible));
      panels.push(pairPanel(view, kind, found, shown, weaker, data.inputs, view.heads));
    }
    if (!panels.length) panels.push(h("p", { class: "notice" }, "No pairs were measured."));
    side.replaceChildren(...panels,
      ...(state.truth ? [truthPanel(view, tables, data.inputs)].filter(Boolean) : []));
    light();
  }

  // Min-max per input, for display only; raw values are in the tip.
  function shade() {
    const scores = view.scores[state.head] || [];
    data.inputs.forEach((_, m) => {
      const own = [...spots.parts.keys()].filter((i) => view.players[view.parts[i].player].m === m
        && scores[i] !== null && scores[i] !== undefined);
      const values = own.map((i) => scores[i]);
      const low = Math.min(...values), range = Math.max(...values) - low;
      const place = ranks(values);
      own.forEach((i, k) => {
        const weight = range > 0 ? (values[k] - low) / range : 0;
        const part = view.parts[i];
        part.place = `${place[k]} of ${own.length}`;
        const label = `${part.label}, importance ${figure(values[k])}, rank ${part.place}`;
        for (const element of spots.parts.get(i)) {
          element.style.setProperty("--weight", weight.toFixed(4));
          element.setAttribute("aria-label", label);
        }
      });
    });
  }

  const all = () => Object.values(tables).flatMap((t) => t.pairs);
  const touching = (i) => (p) => p.first === i || p.second === i;

  // `hot` is what is under the pointer or has the focus: the key of a pair, or a part's index.
  const hotPlayer = () => (typeof hot === "number" ? view.parts[hot].player : null);

  // The pairs of what is hot: itself, or the best of its player.
  function hotPairs() {
    if (hot === null) return [];
    if (typeof hot === "string") return all().filter((p) => p.key === hot);
    const own = touching(hotPlayer());
    const shown = drawn.filter(own);
    if (shown.length) return shown;
    return Object.values(tables).map((t) => t.pairs.find(own)).filter((p) => p && p.possible);
  }

  function light() {
    const strong = hotPairs();
    const keys = new Set(strong.map((p) => p.key));
    const extra = strong.filter((p) => !drawn.some((d) => d.key === p.key));
    drawCurves(stage, overlay, [...drawn, ...extra], spots.players);
    stage.classList.toggle("lit", strong.length > 0);
    const joined = new Map();
    for (const p of [...drawn, ...extra]) {
      for (const i of [p.first, p.second]) {
        joined.set(i, `${joined.get(i) || ""} in-${p.kind}${keys.has(p.key) ? " partner" : ""}`);
      }
    }
    for (const [i, elements] of spots.players) {
      for (const element of elements) {
        element.classList.remove("in-synergy", "in-redundancy", "partner", "hot");
        if (joined.has(i)) element.classList.add(...joined.get(i).trim().split(" "));
        if (i === hotPlayer()) element.classList.add("hot");
        // Above the edges of its neighbours.
        if (element.matches(".edge.hot, .edge.partner")) element.parentNode.append(element);
      }
    }
    for (const [i, elements] of spots.parts) {
      for (const element of elements) element.classList.toggle("here", i === hot);
    }
    for (const element of home.querySelectorAll("[data-pair]")) {
      element.classList.toggle("on", keys.has(element.dataset.pair));
    }
  }

  function explainPart(k) {
    const part = view.parts[k], i = part.player, player = view.players[i];
    const scores = view.scores[state.head] || [];
    const lines = Object.entries(tables).map(([kind, table]) => {
      const best = table.pairs.find(touching(i));
      if (!best) return null;
      const other = best.first === i ? best.second : best.first;
      return h("p", null, h("b", { class: kind }, KINDS[kind].title), " strongest with ",
        chip(view, other, data.inputs), ` ${withError(best.value, best.error)}, rank ${best.rank} `
        + `of ${table.total}${best.clear ? "" : ", not clear"}`);
    });
    return [h("p", { class: "tip-title" }, h("bdi", null, part.label),
      part.name && h("small", null, ` ${part.name}`)),
    h("p", null, `Importance ${figure(scores[k], 3)}`, part.place && `, rank ${part.place}`),
    player.several && lines.some(Boolean) && h("p", { class: "tip-group" },
      "In pairs it counts as part of ", chip(view, i, data.inputs)),
    lines];
  }

  function explainPair(key) {
    const pair = all().find((p) => p.key === key);
    if (!pair) return null;
    const rank = `Rank ${pair.rank} of ${tables[pair.kind].total}`;
    return [h("p", { class: "tip-title" }, `${KINDS[pair.kind].title} `
      + withError(pair.value, pair.error)),
    h("p", null, sentence(pair, view, data.inputs)),
    h("p", null, [rank, surroundings(pair)].filter(Boolean).join(", "))];
  }

  function show(element, event) {
    const part = element.closest("[data-part]"), pair = element.closest("[data-pair]");
    // On its way from word to word inside a group the pointer crosses spaces.
    if (!part && element.closest(".run.hot")) return null;
    const next = part ? Number(part.dataset.part) : pair ? pair.dataset.pair : null;
    if (next !== hot) {
      hot = next;
      light();
    }
    if (hot === null) return hide();
    // A pair in the list says all of it already.
    if (pair && pair.matches("button")) { tip.hidden = true; return null; }
    const content = part ? explainPart(hot) : explainPair(hot);
    if (!content) return hide();
    tip.replaceChildren(...content.flat(Infinity).filter(Boolean));
    tip.hidden = false;
    const at = part ? part.getBoundingClientRect()
      : { left: event.clientX, right: event.clientX, top: event.clientY, bottom: event.clientY };
    const x = Math.max(8, Math.min((at.left + at.right) / 2 - tip.offsetWidth / 2,
      document.documentElement.clientWidth - tip.offsetWidth - 8));
    const above = at.top - tip.offsetHeight - 10;
    tip.style.left = `${x}px`;
    tip.style.top = `${above > 8 ? above : at.bottom + 12}px`;
    return null;
  }

  function hide() {
    tip.hidden = true;
    if (hot !== null) {
      hot = null;
      light();
    }
  }

  function listen() {
    const work = home.querySelector(".work");
    work.addEventListener("pointerover", (event) => show(event.target, event));
    work.addEventListener("pointerleave", hide);
    work.addEventListener("focusin", (event) => {
      if (event.target.matches("[data-part], [data-pair]")) show(event.target, event);
    });
    work.addEventListener("focusout", hide);
    work.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  }

  // Each input is one stop of the Tab key; arrows walk inside it.
  function walk() {
    for (const group of stage.querySelectorAll("[role=group]")) {
      const items = [...group.querySelectorAll("[data-part]")];
      if (items.length) items[0].setAttribute("tabindex", 0);
      group.addEventListener("keydown", (event) => {
        const next = neighbour(items, event.target.closest("[data-part]"), event.key);
        if (!next) return;
        event.preventDefault();
        items.forEach((item) => item.setAttribute("tabindex", item === next ? 0 : -1));
        next.focus();
      });
    }
  }

  const watcher = new ResizeObserver(() => light());
  build();
  return { redraw: () => light(), leave: () => { watcher.disconnect(); hide(); } };
}

function neighbour(items, from, key) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (!step || !from) return null;
  const middle = (e) => {
    const r = e.getClientRects()[0] || e.getBoundingClientRect();
    return [(r.left + r.right) / 2, (r.top + r.bottom) / 2];
  };
  const [x, y] = middle(from);
  let best = null, least = Infinity;
  for (const item of items) {
    const [u, v] = middle(item);
    const along = (u - x) * step[0] + (v - y) * step[1];
    const aside = Math.abs((u - x) * step[1]) + Math.abs((v - y) * step[0]);
    const cost = along + 3 * aside;
    if (item !== from && along > 1 && cost < least) { best = item; least = cost; }
  }
  const order = items.indexOf(from) + step[0];
  return best || (step[0] ? items[order] : null);
}
