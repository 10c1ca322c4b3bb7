// Everything from the server goes through textContent; nothing is parsed as HTML.
const byId = (id) => document.getElementById(id);
const form = byId("form"), go = byId("go"), cancel = byId("cancel"), message = byId("message");
const bar = byId("progress"), prediction = byId("prediction"), frame = byId("report");
let job = null;

function say(text, bad) {
  message.textContent = text;
  message.classList.toggle("error", Boolean(bad));
}

function busy(on) {
  go.disabled = on;
  cancel.hidden = !on;
  cancel.disabled = false;
  bar.hidden = !on;
  if (on) bar.removeAttribute("value");
}

function show(said) {
  const rows = (said.probabilities || []).map(([name, p]) => {
    const item = document.createElement("li"), meter = document.createElement("meter");
    const label = document.createElement("span"), value = document.createElement("span");
    label.textContent = name;
    meter.value = p;
    meter.setAttribute("aria-hidden", "true");
    value.textContent = p.toFixed(3);
    item.classList.toggle("chosen", said.labels.includes(name));
    item.append(label, meter, value);
    return item;
  });
  prediction.replaceChildren(...rows);
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  const data = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(data.error || `the server answered ${answer.status}`);
  return data;
}

async function follow(id) {
  for (;;) {
    const state = await ask(`/jobs/${id}`);
    if (job !== id) return;
    show(state.said);
    if (state.total) bar.value = state.done / state.total;
    if (state.state === "running") {
      say(state.total ? `${state.done} of at most ${state.total} model evaluations` : "reading");
      await new Promise((resolve) => { setTimeout(resolve, 250); });
    } else if (state.state === "done") {
      say("");
      frame.src = `/jobs/${id}/report`;
      frame.hidden = false;
      return;
    } else {
      say(state.state === "cancelled" ? "cancelled" : state.error, state.state === "failed");
      return;
    }
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (go.disabled) return;
  frame.hidden = true;
  prediction.replaceChildren();
  busy(true);
  say("sending");
  try {
    const { id } = await ask("/jobs", { method: "POST", body: new FormData(form) });
    job = id;
    await follow(id);
  } catch (error) {
    say(error.message || "the server does not answer", true);
  } finally {
    busy(false);
    job = null;
  }
});

cancel.addEventListener("click", () => {
  cancel.disabled = true;
  if (job) ask(`/jobs/${job}/cancel`, { method: "POST" }).catch(() => {});
});

for (const drop of document.querySelectorAll(".drop")) {
  const input = drop.querySelector("input"), text = drop.querySelector("p");
  const picture = drop.querySelector("img");
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, () => drop.classList.add("over"));
  }
  for (const kind of ["dragleave", "drop"]) {
    drop.addEventListener(kind, () => drop.classList.remove("over"));
  }
  input.addEventListener("change", () => {
    const file = input.files[0];
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.hidden = !file || drop.dataset.kind !== "image";
    if (!picture.hidden) picture.src = URL.createObjectURL(file);
    text.textContent = file ? file.name : "Drop a file here, or choose one";
  });
}
