// Clicks and types through every view of the page and leaves what it saw in the element "found", for the tests to judge.
(async () => {
  const found = {};
  const $ = (id) => document.getElementById(id);
  const wait = () => new Promise((done) => setTimeout(done, 30));
  const press = async (key, target = document.body) => {
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await wait();
  };
  const open = () => ["document", "timeline", "verdicts", "figures"].filter((id) => !$(id).hidden);
  const spans = () => [...document.querySelectorAll("#tokens span[data-i]")];
  const values = (selector) => [...document.querySelectorAll(selector)].map((input) => input.value);

  const views = async () => {
    found.start = open();
    found.tiles = $("tiles").children.length;
    found.clicked = [];
    for (const id of ["timeline", "verdicts", "figures", "document"]) {
      $("tab-" + id).click();
      await wait();
      found.clicked.push(...open());
    }
    found.keyed = [];
    for (const key of ["2", "3", "4", "1"]) {
      await press(key);
      found.keyed.push(...open());
    }
    await press("ArrowRight", $("tab-document"));
    found.arrowed = open();
    found.selected = $("tab-timeline").getAttribute("aria-selected");
    await press("1");
  };

  const tokens = async () => {
    found.text = spans().map((span) => span.textContent).join("");
    found.modes = values("#colour input");
    found.disabled = values("#colour input:disabled");
    found.shades = {};
    for (const input of document.querySelectorAll("#colour input:enabled")) {
      input.click();
      await wait();
      found.shades[input.value] = spans().map((span) => span.style.getPropertyValue("--x"));
    }
    await press("c");
    found.cycled = document.querySelector("#colour input:checked").value;
    found.blank = document.querySelectorAll("#tokens .blank").length;
    found.illegal = document.querySelectorAll("#tokens .illegal").length;
    found.ending = (document.querySelector("#tokens .ending") || {}).textContent;
    found.event = document.querySelector("#tokens mark").textContent;
  };

  const card = async () => {
    const shown = () => ($("card").hidden ? null : $("card").textContent);
    const box = $("token-5").getClientRects()[0];
    const over = { bubbles: true, clientX: box.left + 1, clientY: box.top + 1 };
    $("token-5").dispatchEvent(new PointerEvent("pointerover", over));
    await wait();
    found.hover = shown();
    await press("ArrowRight");
    found.next = document.querySelector("#tokens .on").dataset.i;
    await press("ArrowDown");
    found.further = document.querySelector("#tokens .on").dataset.i;
    await press("Escape");
    found.closed = $("card").hidden;
    await press("2");
    await press("ArrowRight");
    found.timeline = shown();
  };

  const timeline = async () => {
    const canvas = $("chart");
    const picture = () => canvas.toDataURL();
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    for (let i = 0; i < pixels.length; i += 4) seen.add(pixels.slice(i, i + 3).join());
    found.colours = seen.size;
    const first = picture();
    await press("+");
    await press("+");
    found.level = $("level").textContent;
    found.zoomed = picture() !== first;
    found.wider = $("spacer").offsetWidth > $("scroll").clientWidth;
    const linear = picture();
    await press("l");
    found.log = $("log").checked && picture() !== linear;
    await press("-");
    await press("-");
    found.fit = $("level").textContent;
  };

  const tables = async () => {
    await press("3");
    const rows = () => $("verdicttable").tBodies[0].rows.length;
    found.all = rows();
    const checked = document.querySelector("#words input[value=checked]");
    checked.click();
    await wait();
    found.checked = rows();
    found.reason = $("verdicttable").tBodies[0].textContent;
    found.note = $("verdictnote").textContent;
    await press("4");
    found.percentiles = $("percentiles").tBodies[0].rows.length;
    found.totals = $("totals").textContent;
    found.about = $("about").textContent;
  };

  const themes = async () => {
    const paper = () => getComputedStyle(document.body).backgroundColor;
    await press("t");
    found.light = [$("theme").textContent, paper()];
    await press("t");
    found.dark = [$("theme").textContent, paper()];
    await press("t");
    found.auto = $("theme").textContent;
  };

  const requests = async () => {
    found.pick = !$("pick").hidden;
    $("request").selectedIndex = $("request").options.length - 1;
    $("request").dispatchEvent(new Event("change"));
    await wait();
    found.other = spans().length;
  };

  document.body.offsetHeight;
  found.ms = performance.now() - window.began;
  found.ready = document.documentElement.dataset.ready;
  found.count = spans().length;
  try {
    for (const part of [views, tokens, card, timeline, tables, themes, requests]) await part();
  } catch (error) {
    found.failed = String(error.stack || error);
  }
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
})();
