"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const TABS = ["document", "timeline", "verdicts", "figures"];
  const WORDS = { enforced: "--go", narrowed: "--cool", checked: "--sand", refused: "--hot" };
  const OUTCOMES = { complete: "--go", closed: "--sand" };
  const outcome = (name) => `var(${OUTCOMES[name] || "--hot"})`;
  const PARTS = [["forward", "--steel"], ["exposed", "--hot"], ["sample", "--sand"], ["accept", "--deep"]];
  const state = { tab: "document", colour: "mass", request: 0, token: -1, zoom: 0, log: false, word: "all" };
  let steps = null;

  const element = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") node.className = value;
      else if (key.startsWith("--")) node.style.setProperty(key, value);
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const micro = (us) => us >= 1e6 ? (us / 1e6).toFixed(2) + " s" : us >= 1e5 ? (us / 1e3).toFixed(0) + " ms" : us >= 1e3 ? (us / 1e3).toFixed(2) + " ms" : us >= 100 ? us.toFixed(0) + " µs" : us.toFixed(1) + " µs";
  const number = (value, digits = 3) => value === null || value === undefined ? "–" : Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
  const percent = (share) => (100 * share).toFixed(share < 0.1 ? 2 : 1) + " %";
  const visible = (text) => text.replace(/\n/g, "↵\n").replace(/\t/g, "⇥\t").replace(/\r/g, "␍");
  const present = (values) => values.some((value) => value !== null);
  const largest = (values, least) => values.reduce((most, value) => value > most ? value : most, least);

  const COLOURS = {
    mass: { name: "feasible mass Z", colour: "--hot", column: "mass", low: "Z = 1, free model agrees", high: "Z ≤ 0.0001",
      share: (s, i) => s.mass[i] === null ? 0 : Math.min(1, -Math.log10(Math.max(s.mass[i], 1e-4)) / 4) },
    legal: { name: "legal tokens", colour: "--cool", column: "legal", low: "whole vocabulary", high: "one token",
      share: (s, i) => s.legal[i] <= 0 ? 1 : 1 - Math.log10(s.legal[i]) / Math.log10(s.legalMax) },
    forced: { name: "forced", colour: "--go", column: "forced", low: "sampled", high: "forced by the grammar",
      share: (s, i) => s.forced[i] ? 1 : 0 },
    entropy: { name: "free entropy", colour: "--deep", column: "entropyFree", low: "0 nats", high: "highest here",
      share: (s, i) => s.entropyFree[i] === null ? 0 : s.entropyFree[i] / s.entropyMax },
    exposed: { name: "mask exposed", colour: "--sand", column: "exposed", low: "hidden", high: "longest here",
      share: (s, i) => s.exposed[i] / s.exposedMax },
  };

  function load(index) {
    state.request = index;
    steps = data.requests[index].steps;
    steps.count = steps.position.length;
    steps.legalMax = largest(steps.legal, 10);
    steps.entropyMax = largest(steps.entropyFree, 1e-9);
    steps.exposedMax = largest(steps.exposed, 1e-9);
    steps.total = steps.forward.map((us, i) => us + steps.exposed[i] + steps.sample[i] + steps.accept[i]);
    state.token = -1;
    if (!present(steps[COLOURS[state.colour].column])) state.colour = "legal";
    tiles(); tokens(); colours(); verdicts(); figures();
    state.zoom = 0;
    draw();
  }

  function tiles() {
    const s = data.requests[state.request].summary;
    const tile = (name, value, unit, share, colour) => element("div", { class: "tile" }, element("small", {}, name),
      element("strong", {}, value), unit ? element("em", {}, unit) : null,
      share === null ? null : element("div", { class: "meter", "--bar": `var(${colour})` }, element("i", { style: `width:${Math.min(100, 100 * share)}%` })));
    const list = [
      tile("tokens", number(s.tokens), `in ${number(s.steps)} steps`, null),
      tile("forced", percent(s.forced_share), "", s.forced_share, "--go"),
      tile("mask exposed", percent(s.exposed_share), "", s.exposed_share, "--hot"),
      tile("mask fill, median", micro(s.fill_us.p50), `p99 ${micro(s.fill_us.p99)}`, null),
      tile("step, median", micro(s.step_us.p50), `p99 ${micro(s.step_us.p99)}`, null),
    ];
    const d = s.distribution;
    if (d) list.push(tile("mean Z", number(d.mass_mean), "", d.mass_mean, "--cool"), tile("illegal argmax", percent(d.argmax_illegal_share), "", d.argmax_illegal_share, "--hot"));
    const result = data.requests[state.request].result;
    if (result && result.status) list.push(tile("status", result.status, result.valid ? "valid" : "", null));
    $("tiles").replaceChildren(...list);
  }

  function segment(holder, name, options, chosen, choose) {
    const legend = holder.querySelector("legend");
    holder.replaceChildren(legend, ...options.map(([value, label, enabled]) => {
      const input = element("input", { type: "radio", name, value });
      input.checked = value === chosen;
      input.disabled = !enabled;
      input.addEventListener("change", () => choose(value));
      return element("label", enabled ? {} : { title: "not measured in this trace" }, input, label);
    }));
  }

  function colours() {
    const options = Object.entries(COLOURS).map(([key, mode]) => [key, mode.name, present(steps[mode.column])]);
    segment($("colour"), "colour", options, state.colour, (value) => { state.colour = value; paint(); });
    paint();
  }

  function paint() {
    const mode = COLOURS[state.colour];
    const holder = $("tokens");
    holder.style.setProperty("--c", `var(${mode.colour})`);
    for (const input of $("colour").querySelectorAll("input")) input.checked = input.value === state.colour;
    holder.querySelectorAll("span[data-i]").forEach((span) => span.style.setProperty("--x", Math.round(62 * mode.share(steps, Number(span.dataset.i)))));
    const ramp = element("span", { class: "ramp" });
    ramp.style.background = `linear-gradient(90deg, transparent, color-mix(in oklab, var(${mode.colour}) 62%, transparent))`;
    $("legend").replaceChildren(mode.low, ramp, mode.high);
  }

  function tokens() {
    const parts = document.createDocumentFragment(), model = element("span", { role: "option", "aria-selected": "false" });
    for (let i = 0; i < steps.count; i += 1) {
      const text = data.holds_text ? visible(steps.text[i]) : "";
      const span = model.cloneNode();
      span.dataset.i = i;
      span.id = "token-" + i;
      span.className = [text ? "" : "blank", steps.illegal[i] ? "illegal" : ""].join(" ").trim();
      span.textContent = text;
      parts.append(span);
      if (steps.event[i]) parts.append(element("mark", { "--c": outcome(steps.event[i]) }, steps.event[i]));
    }
    const all = steps.text.join(""), whole = (data.requests[state.request].result || {}).text || "";
    if (data.holds_text && whole.length > all.length && whole.startsWith(all)) {
      parts.append(element("span", { class: "ending", title: "written by the forced ending, without a step" }, visible(whole.slice(all.length))));
    }
    $("tokens").replaceChildren(parts);
  }

  function select(index, anchor) {
    const old = $("tokens").querySelector("span.on");
    if (old) { old.classList.remove("on"); old.setAttribute("aria-selected", "false"); }
    state.token = index;
    if (index < 0 || index >= steps.count) { $("card").hidden = true; draw(); return; }
    const span = $("token-" + index);
    span.classList.add("on");
    span.setAttribute("aria-selected", "true");
    $("tokens").setAttribute("aria-activedescendant", span.id);
    if (anchor === undefined && state.tab === "document") span.scrollIntoView({ block: "nearest" });
    card(index, anchor || span.getBoundingClientRect());
    if (state.tab === "timeline") { if (anchor === undefined) reveal(index); draw(); }
  }

  function card(i, box) {
    const mask = steps.fill[i] + steps.copy[i] + steps.apply[i];
    const rows = [["position", number(steps.position[i])], ["legal tokens", number(steps.legal[i])]];
    if (steps.mass[i] !== null) rows.push(["feasible mass Z", number(steps.mass[i])]);
    if (steps.entropyFree[i] !== null) rows.push(["entropy, free → legal", `${number(steps.entropyFree[i])} → ${number(steps.entropy[i])} nats`]);
    if (steps.illegal[i] !== null) rows.push(["free argmax", steps.illegal[i] ? "illegal" : "legal"]);
    rows.push(["fill + copy + apply", micro(mask)], ["hidden / exposed", `${micro(steps.hidden[i])} / ${micro(steps.exposed[i])}`], ["forward", micro(steps.forward[i])], ["accept", micro(steps.accept[i])]);
    const split = element("div", { class: "split" }, ...PARTS.map(([name, colour]) => element("i", { "--c": `var(${colour})`, style: `flex:${steps[name][i]}` })));
    const title = data.holds_text ? JSON.stringify(steps.text[i]).slice(1, -1) : "token " + i;
    const about = [steps.forced[i] ? "forced" : null, data.holds_text ? "id " + steps.token[i] : null, steps.event[i]].filter(Boolean).join(" · ");
    const node = $("card");
    node.replaceChildren(element("h3", {}, title + " ", element("small", {}, about)), split, element("dl", {}, ...rows.flatMap(([k, v]) => [element("dt", {}, k), element("dd", {}, v)])));
    node.hidden = false;
    const below = box.bottom + 10 + node.offsetHeight < innerHeight;
    node.style.top = Math.max(8, below ? box.bottom + 10 : box.top - node.offsetHeight - 10) + "px";
    node.style.left = Math.max(8, Math.min(box.left, innerWidth - node.offsetWidth - 12)) + "px";
  }

  const PAD = { left: 62, right: 14, top: 26, gap: 46, bottom: 26 };
  const width = () => $("scroll").clientWidth;
  const fit = () => Math.max(0.2, (width() - PAD.left - PAD.right) / Math.max(1, steps.count));
  const column = () => fit() * Math.pow(1.5, state.zoom);
  const nice = (value) => { const power = Math.pow(10, Math.floor(Math.log10(value))); return [1, 2, 5, 10].map((f) => f * power).find((f) => f >= value); };

  function draw() {
    if (state.tab !== "timeline") return;
    const canvas = $("chart"), box = $("scroll"), scale = devicePixelRatio || 1;
    const w = width(), h = box.clientHeight, each = column();
    $("spacer").style.width = PAD.left + PAD.right + each * steps.count + "px";
    canvas.width = w * scale; canvas.height = h * scale; canvas.style.width = w + "px"; canvas.style.height = h + "px";
    const pen = canvas.getContext("2d"), style = getComputedStyle(root), tint = (name) => style.getPropertyValue(name).trim();
    pen.scale(scale, scale); pen.font = "11px " + style.getPropertyValue("--sans"); pen.clearRect(0, 0, w, h);
    const first = Math.max(0, Math.floor(box.scrollLeft / each)), last = Math.min(steps.count, Math.ceil((box.scrollLeft + w) / each) + 1);
    const tall = (h - PAD.top - PAD.gap - PAD.bottom) / 2, x = (i) => PAD.left + i * each - box.scrollLeft;
    const mask = steps.hidden.map((us, i) => us + steps.exposed[i]);
    const top = lane(pen, tint, w, PAD.top, tall, nice(largest(steps.total, 1)), false, "step");
    const low = lane(pen, tint, w, PAD.top + tall + PAD.gap, tall, nice(largest(mask, 1)), state.log, "mask work");
    pen.save(); pen.beginPath(); pen.rect(PAD.left, 0, w - PAD.left, h); pen.clip();
    const bar = Math.max(1, each - (each > 4 ? 1 : 0));
    for (let i = first; i < last; i += 1) {
      let base = 0;
      for (const [name, colour] of PARTS) { base = block(pen, tint(colour), x(i), bar, top, base, steps[name][i]); }
      block(pen, tint("--hot"), x(i), bar, low, block(pen, tint("--go"), x(i), bar, low, 0, steps.hidden[i]), steps.exposed[i]);
      if (steps.event[i]) { const late = x(i) > w - 120; pen.fillStyle = tint("--ink"); pen.textAlign = late ? "right" : "left"; pen.fillText(late ? steps.event[i] + " ▾" : "▾ " + steps.event[i], late ? x(i) + bar : x(i), PAD.top - 4); pen.textAlign = "left"; }
      if (i === state.token) { pen.fillStyle = tint("--ink"); pen.globalAlpha = 0.14; pen.fillRect(x(i) - 1, PAD.top, bar + 2, h - PAD.top - PAD.bottom); pen.globalAlpha = 1; }
    }
    pen.fillStyle = tint("--soft"); pen.textAlign = "center";
    const every = nice(Math.max(1, 70 / each));
    for (let i = Math.ceil(first / every) * every; i < last; i += every) pen.fillText(String(i), x(i) + bar / 2, h - 9);
    pen.restore();
    $("level").textContent = state.zoom === 0 ? "fit" : "×" + Math.pow(1.5, state.zoom).toFixed(1);
  }

  function lane(pen, tint, w, y, tall, most, log, title) {
    const place = (us) => log ? tall * Math.max(0, Math.log10(1 + us) / Math.log10(1 + most)) : tall * us / most;
    pen.textAlign = "right";
    const ticks = log ? [1, 10, 100, 1e3, 1e4, 1e5].filter((us) => us < most).concat(most) : [0, 0.25, 0.5, 0.75, 1].map((f) => f * most);
    let above = Infinity;
    for (const us of ticks) {
      const at = y + tall - place(us);
      pen.fillStyle = tint("--line"); pen.fillRect(PAD.left, Math.round(at), w - PAD.left - PAD.right, 1);
      if (above - at > 13 || above === Infinity) { pen.fillStyle = tint("--soft"); pen.fillText(micro(us).replace(/\.0+(?= )/, ""), PAD.left - 8, at + 4); above = at; }
    }
    pen.textAlign = "left"; pen.fillStyle = tint("--soft"); pen.fillText(title, PAD.left, y - 9);
    return { y, tall, place };
  }

  function block(pen, colour, x, w, lane, base, us) {
    const from = lane.place(base), to = lane.place(base + us);
    pen.fillStyle = colour;
    pen.fillRect(x, lane.y + lane.tall - to, w, Math.max(us > 0 ? 0.6 : 0, to - from));
    return base + us;
  }

  function zoom(by, at = width() / 2) {
    const box = $("scroll"), before = (box.scrollLeft + at - PAD.left) / column();
    state.zoom = Math.max(0, Math.min(16, state.zoom + by));
    $("spacer").style.width = PAD.left + PAD.right + column() * steps.count + "px";
    box.scrollLeft = before * column() - at + PAD.left;
    draw();
  }

  function reveal(index) {
    const box = $("scroll"), at = index * column();
    if (at < box.scrollLeft || at > box.scrollLeft + width() - PAD.left - 40) box.scrollLeft = at - width() / 2;
  }

  function verdicts() {
    const request = data.requests[state.request], list = request.verdicts;
    const count = (word) => request.verdict_counts[word] || 0;
    const options = [["all", "all", true], ...Object.keys(WORDS).map((word) => [word, `${word} ${count(word)}`, count(word) > 0])];
    segment($("words"), "word", options, state.word, (value) => { state.word = value; verdicts(); });
    const shown = list.filter((one) => state.word === "all" || one.verdict === state.word);
    $("verdicttable").hidden = !list.length;
    $("verdicttable").tBodies[0].replaceChildren(...shown.map((one) => element("tr", {},
      element("td", {}, element("span", { class: "badge", "--c": `var(${WORDS[one.verdict]})` }, one.verdict)),
      element("td", {}, element("code", {}, one.keyword)), element("td", {}, element("code", {}, one.pointer || "(root)")),
      element("td", {}, one.reason || "", one.rewrite ? element("div", { class: "note" }, "Enforceable as: " + one.rewrite) : null))));
    $("verdictnote").textContent = list.length ? `${shown.length} of ${list.length} keyword occurrences` : data.holds_text ? "No schema stands behind this request." : "This trace was written without text: only counts of verdicts were kept.";
  }

  function figures() {
    const s = data.requests[state.request].summary, result = data.requests[state.request].result || {};
    const times = ["step_us", "forward_us", "fill_us", "copy_us", "apply_us", "hidden_us", "exposed_us", "sample_us", "accept_us"];
    const written = (value) => typeof value !== "object" || value === null ? value : Object.entries(value).map(([k, v]) => `${k.replaceAll("_", " ")} ${v}`).join(", ");
    const row = (name, one, show) => element("tr", {}, element("td", {}, name), ...["p50", "p90", "p99", "max"].map((p) => element("td", {}, show(one[p]))));
    $("percentiles").replaceChildren(element("thead", {}, element("tr", {}, ...["", "p50", "p90", "p99", "max"].map((name) => element("th", {}, name)))),
      element("tbody", {}, ...times.map((name) => row(name.replace("_us", "").replace("_", " "), s[name], micro)), row("legal tokens", s.legal_tokens, number)));
    const pairs = (holder, list) => $(holder).replaceChildren(...list.filter(([, v]) => v !== null && v !== undefined && v !== "").flatMap(([k, v]) => [element("dt", {}, k), element("dd", {}, String(v))]));
    const d = s.distribution || {}, usage = result.usage || {};
    pairs("totals", [["tokens", s.tokens], ["steps", s.steps], ["most rows in a step", s.rows_max], ["forced tokens", s.forced_tokens], ["exposed share", percent(s.exposed_share)],
      ["mean Z", d.mass_mean], ["smallest Z", d.mass_min], ["sum of ln Z", d.log_mass_sum], ["free entropy, mean", d.entropy_free_mean], ["legal entropy, mean", d.entropy_mean], ["free argmax illegal", d.argmax_illegal],
      ["prompt tokens", usage.prompt_tokens], ["status", result.status], ["seed", result.seed], ["grammar from", result.grammar_source]]);
    pairs("about", Object.entries(data.run).map(([k, v]) => [k === "load_s" ? "load, seconds" : k.replaceAll("_", " "), written(v)]));
  }

  function show(tab) {
    state.tab = tab;
    for (const name of TABS) {
      $(name).hidden = name !== tab;
      $("tab-" + name).setAttribute("aria-selected", String(name === tab));
      $("tab-" + name).tabIndex = name === tab ? 0 : -1;
    }
    $("card").hidden = true;
    draw();
  }

  function enter() {
    ({ document: $("tokens"), timeline: $("scroll") }[state.tab] || $("tab-" + state.tab)).focus({ preventScroll: true });
  }

  function theme() {
    const order = ["auto", "light", "dark"], next = order[(order.indexOf(root.dataset.theme || "auto") + 1) % 3];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    $("theme").textContent = "theme: " + next;
    draw();
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=text]")) return;
    const radio = event.target.matches("input[type=radio]"), tab = event.target.matches("[role=tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[event.key];
    if (TABS[Number(event.key) - 1]) { show(TABS[Number(event.key) - 1]); enter(); }
    else if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) { show(TABS[(TABS.indexOf(state.tab) + step + 4) % 4]); $("tab-" + state.tab).focus(); }
    else if (step && !radio && (state.tab === "document" || state.tab === "timeline")) { select(Math.max(0, Math.min(steps.count - 1, state.token + step))); }
    else if (event.key === "Home" && !radio) select(0);
    else if (event.key === "End" && !radio) select(steps.count - 1);
    else if (event.key === "Escape") select(-1);
    else if (event.key === "c") { const keys = Object.keys(COLOURS).filter((name) => present(steps[COLOURS[name].column])); state.colour = keys[(keys.indexOf(state.colour) + 1) % keys.length]; paint(); }
    else if (event.key === "+" || event.key === "=") zoom(1);
    else if (event.key === "-") zoom(-1);
    else if (event.key === "l") { $("log").checked = state.log = !state.log; draw(); }
    else if (event.key === "t") theme();
    else return;
    event.preventDefault();
  }

  function wire() {
    for (const name of TABS) $("tab-" + name).addEventListener("click", () => { show(name); enter(); });
    $("theme").addEventListener("click", theme);
    $("tokens").addEventListener("pointerover", (event) => { const span = event.target.closest("span[data-i]"); if (span) select(Number(span.dataset.i), span.getClientRects()[0]); });
    $("tokens").addEventListener("pointerleave", () => { $("card").hidden = true; });
    $("scroll").addEventListener("scroll", draw);
    $("scroll").addEventListener("pointermove", (event) => {
      const box = $("scroll"), left = box.getBoundingClientRect().left, index = Math.floor((event.clientX - left - PAD.left + box.scrollLeft) / column());
      if (index >= 0 && index < steps.count && event.clientX - left > PAD.left) select(index, { left: event.clientX + 14, top: event.clientY, bottom: event.clientY });
    });
    $("scroll").addEventListener("pointerleave", () => { $("card").hidden = true; });
    $("scroll").addEventListener("wheel", (event) => { if (event.ctrlKey || event.shiftKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 1 : -1, event.clientX - $("scroll").getBoundingClientRect().left); } }, { passive: false });
    $("in").addEventListener("click", () => zoom(1));
    $("out").addEventListener("click", () => zoom(-1));
    $("log").addEventListener("change", (event) => { state.log = event.target.checked; draw(); });
    $("request").addEventListener("change", (event) => load(Number(event.target.value)));
    addEventListener("keydown", key);
    addEventListener("resize", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  const names = { exposed: "mask exposed", forward: "forward", sample: "sample", accept: "accept" };
  $("key").replaceChildren(...PARTS.map(([name, colour]) => element("li", {}, element("i", { "--c": `var(${colour})` }), names[name])), element("li", {}, element("i", { "--c": "var(--go)" }), "mask hidden under the forward"));
  $("run").replaceChildren(...["model", "quantization", "device", "engine_version"].filter((name) => data.run[name]).map((name) => element("li", { title: name.replace("_", " ") }, (name === "engine_version" ? "engine " : "") + data.run[name])));
  $("request").replaceChildren(...data.requests.map((one, i) => element("option", { value: i }, one.id)));
  $("pick").hidden = data.requests.length < 2;
  $("chartnote").textContent = "One column a token. Above: what the step took. Below: fill, copy and apply of its mask on a scale of its own; green ran while the device was busy with the forward, red is what the step waited for.";
  $("foot").textContent = data.notice;
  wire();
  load(0);
  show("document");
  root.dataset.ready = "yes";
})();
