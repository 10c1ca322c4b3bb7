// What stands beside the inputs: pairs in words, probabilities, experts, details.
const KINDS = {
  synergy: { title: "Synergy", lead: "matter together", none: "No clear synergy: for this answer "
    + "the model adds up what the parts say, as far as this measurement can tell." },
  redundancy: { title: "Redundancy", lead: "say the same", none: "No clear redundancy: no two "
    + "parts were found to say the same." },
};
const CLEAR = /\.(clear|against)$/, POSSIBLE = /\.(clear|against|maybe|unsure)$/;

function pairsOf(view, kind, head) {
  const tables = view.pairs[kind] || {};
  const shown = tables[head] ? head : tables[kind] && !tables.mixture ? kind
    : tables.mixture ? "mixture" : Object.keys(tables)[0];
  const table = tables[shown];
  if (!table) return null;
  const top = Math.max(1e-12, ...table.rows.map((r) => Math.abs(r[2])));
  const pairs = table.rows.map(
    ([first, second, value, error, rank, contexts, verdict, planted, audited]) =>
      ({ kind, first, second, value, error, rank, contexts, verdict, planted: Boolean(planted),
        audited: Boolean(audited), clear: CLEAR.test(verdict), possible: POSSIBLE.test(verdict),
        key: `${kind}:${first}:${second}`, size: Math.abs(value) / top }));
  return { ...table, head: shown, pairs, top };
}

// The best pairs by rank; a clear one gives no place to one that may be luck.
function best(found, count, least) {
  const enough = found.pairs.filter((p) => p.value >= least);
  const order = [...enough.filter((p) => p.clear),
    ...enough.filter((p) => !p.clear && p.rank <= count)];
  return order.slice(0, count).sort((a, b) => a.rank - b.rank);
}

function surroundings(pair) {
  if (pair.error === 0) return "";
  return `in ${pair.contexts} ${pair.audited ? "fresh " : ""}surroundings`;
}

function howMeasured(found, head) {
  if (!found.total) return "No pair was measured.";
  const pairs = `${found.total} ${found.total === 1 ? "pair" : "pairs"}`;
  const how = found.exact ? `all ${pairs} exact` : found.audited
    ? `${found.audited} of ${pairs} measured twice` : `best of ${pairs}`;
  return `read on ${head}; ${how}`;
}

function sentence(pair, view, inputs) {
  return SENTENCES[pair.verdict].split(/(\{[ab]\})/).map((part) =>
    part === "{a}" ? chip(view, pair.first, inputs)
      : part === "{b}" ? chip(view, pair.second, inputs) : part);
}

function plainSentence(pair, view) {
  const label = (i) => view.players[i].label;
  return SENTENCES[pair.verdict].replace(/\{[ab]\}/g,
    (part) => label(part === "{a}" ? pair.first : pair.second));
}

function pairItem(pair, view, inputs) {
  return h("li", null, h("button", { type: "button", "data-pair": pair.key,
    class: `pair ${pair.kind}${pair.clear ? "" : " unclear"}` },
  h("span", { class: `rank ${pair.kind}`, "aria-label": `rank ${pair.rank}` }, String(pair.rank)),
  h("span", { class: "what" }, sentence(pair, view, inputs)),
  h("span", { class: "value" }, withError(pair.value, pair.error),
    surroundings(pair) && h("small", null, ` ${surroundings(pair)}`),
    pair.planted && h("span", { class: "badge-planted" }, " ✓ planted pair"))));
}

function pairPanel(view, kind, found, shown, weaker, inputs, heads) {
  const words = KINDS[kind];
  const clear = found.pairs.filter((p) => p.clear).length;
  const swapped = (p) => p.verdict === "synergy.substitutes";
  const swaps = found.pairs.filter(swapped);
  const listed = shown.filter((p) => p.possible);
  const unclear = shown.filter((p) => !p.possible && !swapped(p));
  const by = heads.find((x) => x[0] === found.head);
  const items = (pairs) => h("ol", null, pairs.map((p) => pairItem(p, view, inputs)));
  const more = `${unclear.length} ${listed.length ? "more" : unclear.length > 1 ? "pairs" : "pair"}, `
    + (found.exact ? "not above zero" : "too uncertain to tell");
  return h("section", { class: `pairs ${kind}` },
    h("h3", null, s("svg", { class: "key", viewBox: "0 0 50 20", "aria-hidden": "true" },
      s("path", { class: `line ${kind}`, d: "M11 10H39" }),
      s("circle", { class: `end ${kind}`, cx: 6, cy: 10, r: 4.5 }),
      s("circle", { class: `end ${kind}`, cx: 44, cy: 10, r: 4.5 })),
    words.title, h("small", null, words.lead)),
    h("p", { class: "quiet" }, howMeasured(found, by ? by[1].toLowerCase() : found.head)),
    found.total > 0 && !clear && h("p", { class: "notice" }, words.none),
    listed.length > 0 && items(listed),
    unclear.length > 0 && h("details", { class: "uncertain" }, h("summary", null, more),
      items(unclear)),
    weaker > 0 && h("p", { class: "quiet" }, `${weaker} clear but weaker than the slider asks for.`),
    swaps.length > 0 && h("details", null,
      h("summary", null, `${swaps.length} negative: the parts replace each other`), items(swaps)));
}

function truthPanel(view, tables, inputs) {
  if (!view.truth.length) return null;
  return h("section", { class: "truth-panel" }, h("h3", null, "Planted truth"),
    view.truth.map((truth) => {
      const names = truth.players.slice(0, 4).map((i, k) =>
        [k > 0 && (k === truth.players.length - 1 ? " and " : ", "), chip(view, i, inputs)]);
      const table = tables[truth.interaction];
      let mark = null;
      if (table && table.total) {
        const first = table.planted === 1;
        const text = first ? `✓ the planted pair is first of ${table.total}`
          : table.planted ? `✗ the planted pair is number ${table.planted} of ${table.total}`
            : "✗ the planted pair was not measured";
        mark = h("span", { class: `mark ${first ? "right" : "wrong"}` }, text);
      }
      return h("p", null, h("b", null, truth.name), ": ", names.length ? names : "no player there",
        mark && [h("br"), mark]);
    }));
}

function answers(view) {
  return h("section", { class: "answers" }, h("h3", null, "What the model answers"),
    h("ul", { class: "rows" }, view.bars.map(([name, p, target, truth]) =>
      h("li", { class: target ? "target" : null },
        h("span", { class: "label" }, h("bdi", null, name),
          target ? h("small", null, "explained") : null,
          truth ? h("small", { class: "true" }, "true") : null),
        bar(p, "probability"), h("span", { class: "amount" }, percent(p))))),
    view.hidden_classes > 0 && h("p", { class: "quiet" },
      `${view.hidden_classes} further ${view.hidden_classes === 1 ? "class" : "classes"} not shown`));
}

function experts(view) {
  if (view.experts.length < 2) return null;
  return h("section", { class: "experts" }, h("h3", null, "Which experts spoke"),
    h("p", { class: "quiet" }, h("span", { class: "dot weight" }), "router weight ",
      h("span", { class: "dot share" }), "share of the answer"),
    h("ul", { class: "rows" }, view.experts.map(([name, weight, share]) =>
      h("li", null, h("span", { class: "label" }, name),
        h("span", { class: "two" }, bar(weight, "weight"), share !== null && bar(share, "share")),
        h("span", { class: "amount" }, percent(weight),
          share !== null && h("small", null, percent(share)))))));
}

function details(view) {
  return [
    view.notes.length > 0 && h("section", { class: "notes" }, h("h3", null, "Notes"),
      h("ul", null, view.notes.map((note) => h("li", null, note)))),
    h("details", { class: "settings" }, h("summary", null, "How this was made"),
      h("dl", null, view.settings.map(([name, value]) =>
        h("div", null, h("dt", null, name), h("dd", null, h("bdi", null, value))))))];
}
