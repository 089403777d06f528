// The report's page: fills selects, draws plots with Plotly, colours one context's tokens by loss.
// All text from the data goes in through textContent, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  function fill(select, labels, changed) {
    select.replaceChildren(...labels.map((label, i) => new Option(label, i)));
    select.onchange = changed;
  }

  // On a resize plotly takes the height of the element, so that has it too.
  function draw(place, figure, config = data.config) {
    place.style.height = `${figure.layout.height}px`;
    Plotly.react(place, figure.data, figure.layout, config);
  }

  // Control characters as visible signs; a newline also breaks the line.
  function visible(text) {
    return text.replace(/[\u0000-\u001f\u007f]/g, (c) => {
      if (c === "\n") return "↵\n";
      if (c === "\t") return "⇥\t";
      return c === "\u007f" ? "␡" : String.fromCharCode(0x2400 + c.charCodeAt(0));
    });
  }
  const inLine = (text) => visible(text).replace(/[\n\t]/g, "");

  // Groups

  function showGroup() {
    const group = data.groups[byId("group").value];
    byId("group-text").textContent = group.text;
    draw(byId("group-plot"), group.figure);
  }

  function drawAll(place, figures) {
    place.replaceChildren(...figures.map(() => element("div", "plot")));
    figures.forEach((figure, i) => draw(place.children[i], figure));
  }

  // Analyses

  function showAnalysis() {
    const analysis = data.analyses[byId("analysis").value];
    byId("analysis-text").textContent = analysis.text;
    drawAll(byId("analysis-plots"), analysis.figures);
    byId("analysis-tables").replaceChildren(...analysis.tables.filter((t) => t.rows.length).map(findingTable));
  }

  // Numbers to four digits that matter; whole ones, such as steps, as they are.
  function cell(value) {
    if (value === null) return element("td", "");
    if (typeof value !== "number") return element("td", "", inLine(String(value)));
    return element("td", "number", Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4))));
  }

  function findingTable({ title, columns, rows, more }) {
    const head = element("tr", "", ...columns.map((name) => element("th", "", name)));
    const body = element("tbody", "", ...rows.map((row) => element("tr", "", ...row.map(cell))));
    const made = element("div", "scroll", element("table", "", element("thead", "", head), body));
    const note = more ? `The first ${rows.length} of ${rows.length + more} rows.` : "";
    return element("div", "", element("h3", "", title), element("p", "note", note), made);
  }

  // Principal components

  function showComponents() {
    const fit = data.components[byId("pca-dataset").value];
    byId("pca-text").textContent = fit.text;
    drawAll(byId("pca-plots"), fit.figures);
    fill(byId("component"), fit.components.map((c) => c.label), showTopTokens);
    showTopTokens();
  }

  function topTable(title, rows) {
    if (!rows.length) return element("div", "", element("h4", "", title), element("p", "note", "No token does."));
    const body = element("tbody");
    for (const row of rows) {
      const quote = element("td", "quote", inLine(row.before), element("mark", "", inLine(row.text)), inLine(row.after));
      const where = element("small", "", `${row.dataset}, context ${row.context}, position ${row.position}`);
      quote.append(where);
      body.append(element("tr", "", quote, element("td", "number", row.loading.toFixed(4))));
    }
    const head = element("tr", "", element("th", "", "token in its context"), element("th", "number", "loading"));
    return element("div", "", element("h4", "", title), element("table", "", element("thead", "", head), body));
  }

  function showTopTokens() {
    const fit = data.components[byId("pca-dataset").value];
    const component = fit.components[byId("component").value];
    byId("top-tokens").replaceChildren(
      topTable("Loss rises with the score", component.high),
      topTable("Loss falls as the score rises", component.low),
    );
  }

  // Tokens

  // Lightness falls all along, so it reads without colour as well, and dark text stands out on all of it.
  const STOPS = ["#ffffff", "#fff1d2", "#fedda0", "#fdc271", "#fba257", "#f48148", "#e8603f"]
    .map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const MISSING = 65535;
  let losses = [];
  let spans = [];
  let kept = 0;
  let timer = 0;

  const dataset = () => data.tokens[byId("token-dataset").value];
  const context = () => dataset().contexts[byId("token-context").value];
  const model = () => dataset().models[byId("token-model").value];
  const stepIndex = () => Number(byId("step").value);

  function shade(loss) {
    const place = Math.min(Math.max(loss / dataset().top, 0), 1) * (STOPS.length - 1);
    const i = Math.min(Math.floor(place), STOPS.length - 2);
    return `rgb(${STOPS[i].map((from, c) => Math.round(from + (STOPS[i + 1][c] - from) * (place - i)))})`;
  }

  // Thousandths of a nat, shifted by one nat; steps × (positions without the first), little endian.
  function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const packed = new Uint16Array(bytes.buffer);
    return Float64Array.from(packed, (value) => (value === MISSING ? NaN : (value - 1000) / 1000));
  }

  function lossAt(table, position, step) {
    return position === 0 ? NaN : table[step * (context().ids.length - 1) + position - 1];
  }

  function chooseDataset() {
    const chosen = dataset();
    const before = byId("token-model").selectedOptions[0]?.text;
    fill(byId("token-context"), chosen.contexts.map((c) => c.label), chooseContext);
    fill(byId("token-model"), chosen.models.map((m) => m.name), chooseModel);
    byId("token-model").value = Math.max(0, chosen.models.findIndex((m) => m.name === before));
    byId("scale-bar").style.background = `linear-gradient(to right, ${STOPS.map((rgb) => `rgb(${rgb})`).join(",")})`;
    byId("scale-top").textContent = `${chosen.top} nats and more`;
    chooseContext();
  }

  function chooseContext() {
    const { ids, texts, shown } = context();
    spans = ids.map((_, position) => {
      const span = element("span", "", visible(position in shown ? shown[position] || "·" : texts[position]));
      span.dataset.position = position;
      if (position === 0) span.className = "none";
      return span;
    });
    byId("text").replaceChildren(...spans);
    chooseModel(true);
  }

  function chooseModel(fresh) {
    const steps = model().steps;
    const before = Number(byId("step").dataset.step ?? steps[steps.length - 1]);
    losses = context().losses.map(unpack);
    byId("step").max = steps.length - 1;
    byId("kept-steps").textContent = steps.length < model().of ? `${steps.length} of its ${model().of} steps` : "";
    const nearest = steps.reduce((best, step, i) => (Math.abs(step - before) < Math.abs(steps[best] - before) ? i : best), 0);
    byId("step").value = nearest;
    if (fresh === true) kept = mostLearned();
    showStep();
    keep(kept);
  }

  // The token whose loss falls most from the first step to the last: a telling one to begin with.
  function mostLearned() {
    const table = losses[byId("token-model").value];
    const last = model().steps.length - 1;
    let best = Math.min(1, spans.length - 1);
    let fall = -Infinity;
    for (let position = 1; position < spans.length; position++) {
      const change = lossAt(table, position, 0) - lossAt(table, position, last);
      if (change > fall) [best, fall] = [position, change];
    }
    return best;
  }

  function showStep() {
    const table = losses[byId("token-model").value];
    const step = model().steps[stepIndex()];
    byId("step").dataset.step = step;
    byId("step").setAttribute("aria-valuetext", `step ${step}`);
    byId("step-label").textContent = `step ${step}`;
    spans.forEach((span, position) => {
      const loss = lossAt(table, position, stepIndex());
      span.classList.toggle("none", Number.isNaN(loss));
      span.style.background = Number.isNaN(loss) ? "" : shade(loss);
    });
    read(kept);
    moveLine();
  }

  function read(position) {
    const { ids, texts } = context();
    const step = model().steps[stepIndex()];
    const loss = lossAt(losses[byId("token-model").value], position, stepIndex());
    const value = element("strong", "", Number.isNaN(loss) ? (position ? "not scored" : "no loss (nothing stands before it)") : `${loss.toFixed(3)} nats`);
    value.id = "loss";
    const quote = element("span", "quote", inLine(texts[position]));
    const parts = [value, Number.isNaN(loss) ? "" : ` (p = ${Math.exp(-loss).toPrecision(3)})`, ` at step ${step} · `, quote, ` · token ${ids[position]} · position ${position}`];
    const passed = data.marks.filter((mark) => step >= mark.step);
    if (passed.length) parts.push(` · after: ${passed.map((mark) => mark.label).join(", ")}`);
    byId("readout").replaceChildren(...parts);
  }

  function keep(position) {
    spans[kept]?.classList.remove("kept");
    kept = Math.min(Math.max(position, 0), spans.length - 1);
    spans[kept].classList.add("kept");
    read(kept);
    drawToken();
  }

  function drawToken() {
    const { axis, models } = dataset();
    const traces = models.map((each, m) => ({
      type: "scatter",
      mode: each.steps.length > 60 ? "lines" : "lines+markers",
      name: each.name,
      x: each.places,
      y: each.steps.map((_, i) => lossAt(losses[m], kept, i)),
      customdata: each.steps,
      line: { color: each.color, width: 1.8 },
      marker: { color: each.color, size: 5 },
      hovertemplate: "step %{customdata}<br>%{y:.3f} nats",
    }));
    const layout = structuredClone(axis);
    layout.title.text = `Position ${kept}: this token's loss by step`;
    draw(byId("token-plot"), { data: traces, layout }, { ...data.config, displayModeBar: false });
    moveLine();
  }

  // The slider's place in the token's plot; the marks' lines come first in the layout.
  function moveLine() {
    const place = byId("token-plot");
    if (!place.layout) return;
    const at = model().places[stepIndex()];
    const line = { type: "line", x0: at, x1: at, y0: 0, y1: 1, yref: "paper", line: { color: "#000", width: 1 } };
    Plotly.relayout(place, { shapes: [...dataset().axis.shapes, line] });
  }

  function move(by) {
    const slider = byId("step");
    slider.value = stepIndex() + by;
    showStep();
  }

  function play() {
    const stop = timer !== 0;
    clearInterval(timer);
    timer = 0;
    byId("play").textContent = stop ? "Play" : "Pause";
    byId("play").setAttribute("aria-pressed", String(!stop));
    if (stop) return;
    const last = () => stepIndex() === model().steps.length - 1;
    if (last()) move(-model().steps.length);
    timer = setInterval(() => (last() ? play() : move(1)), 450);
  }

  function startTokens() {
    fill(byId("token-dataset"), data.tokens.map((d) => d.name), chooseDataset);
    byId("step").oninput = showStep;
    byId("play").onclick = play;
    const position = (event) => event.target.closest("#text span")?.dataset.position;
    byId("text").onmouseover = (event) => position(event) && read(Number(position(event)));
    byId("text").onmouseleave = () => read(kept);
    byId("text").onclick = (event) => position(event) && keep(Number(position(event)));
    document.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.ctrlKey || event.altKey || event.metaKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
      event.preventDefault();
      if (event.shiftKey) keep(kept + by);
      else move(by);
    });
    chooseDataset();
  }

  function start(section, items, begin) {
    if (items.length) begin();
    else byId(section).hidden = true;
  }

  start("groups", data.groups, () => {
    fill(byId("group"), data.groups.map((group) => group.name), showGroup);
    showGroup();
  });
  start("components", data.components, () => {
    fill(byId("pca-dataset"), data.components.map((fit) => fit.name), showComponents);
    showComponents();
  });
  start("analyses", data.analyses, () => {
    fill(byId("analysis"), data.analyses.map((analysis) => analysis.title), showAnalysis);
    showAnalysis();
  });
  start("tokens", data.tokens, startTokens);
  for (const link of document.querySelectorAll("nav a")) {
    link.hidden = byId(link.hash.slice(1)).hidden;
  }
})();
