// Small helpers. Everything from the data goes through textContent or setAttribute of a
// fixed attribute name; nothing is ever parsed as HTML.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

function read(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

// Data of many samples are packed: gzip in base64.
async function unpack(id) {
  const element = document.getElementById(id);
  if (element.type !== "application/gzip") return read(id);
  const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(plain).text());
}

function figure(value, digits = 2) {
  if (value === null || value === undefined) return "n/a";
  const size = Math.abs(value);
  const text = size !== 0 && size < 0.095 ? size.toPrecision(2) : size.toFixed(digits);
  return (value < 0 ? "−" : "") + (/e/.test(text) ? size.toExponential(1) : text);
}
const signed = (value) => (value > 0 ? "+" : "") + figure(value);
// As many digits as the error deserves, at least two.
function withError(value, error) {
  if (!error) return signed(value) + (error === 0 ? " (exact)" : "");
  const digits = Math.min(6, Math.max(2, -Math.floor(Math.log10(error))));
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)} ± `
    + error.toFixed(digits);
}

function percent(p) {
  if (p === null || p === undefined) return "n/a";
  if (p > 0 && p < 0.01) return "<1%";
  if (p < 1 && p > 0.99) return ">99%";
  return `${Math.round(100 * p)}%`;
}

function bar(share, kind) {
  return h("span", { class: `bar ${kind}`, "aria-hidden": "true" },
    h("i", { "--share": Math.max(0, Math.min(1, share || 0)) }));
}

function radios(name, legend, options, chosen, change) {
  return h("fieldset", { class: "choice" }, h("legend", null, legend),
    h("div", { class: "options" }, options.map(([value, label, extra]) =>
      h("label", null,
        h("input", { type: "radio", name, value, checked: value === chosen,
          onchange: () => change(value) }),
        h("span", null, h("bdi", null, label), extra && h("small", null, extra))))));
}

// A rank for each value, 1 for the largest.
function ranks(values) {
  const order = values.map((v, i) => [v, i]).sort((a, b) => b[0] - a[0]);
  const result = [];
  order.forEach(([, i], place) => { result[i] = place + 1; });
  return result;
}
