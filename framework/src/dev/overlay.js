// Put into pages by `APP dev`: reloads the page when another build or other settings answer, and lays what is wrong
// with the newest code over it until that is mended. It works under a strict Content-Security-Policy: no inline style,
// no HTML from text.
(() => {
  const script = document.currentScript;
  const page = script.dataset.build;
  const again = "slackwater-dev-reloaded-for";
  let source, overlay, delay = 10;

  function look() {
    if (source || document.hidden) return;
    source = new EventSource(script.dataset.events);
    source.addEventListener("live", (event) => {
      delay = 10;
      if (event.data === page) return;
      // a copy of the page that comes out of some cache must not be asked for without end
      if (sessionStorage.getItem(again) === event.data + location.href) {
        return console.warn("slackwater dev: this page comes out of a cache, reload it by hand");
      }
      sessionStorage.setItem(again, event.data + location.href);
      location.reload();
    });
    source.addEventListener("failed", (event) => show(JSON.parse(event.data)));
    source.addEventListener("building", () => overlay && (overlay.note.textContent = "building…"));
    source.addEventListener("fine", hide);
    // the end of a stream means that another process answers, or that none does
    source.onerror = () => {
      stop();
      setTimeout(look, delay);
      delay = Math.min(2 * delay, 1000);
    };
  }

  function stop() {
    if (source) source.close();
    source = undefined;
  }

  // a page that nobody looks at holds no connection: a browser has six of them for all its pages together
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : look()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", look);

  function element(name, style, text) {
    const made = document.createElement(name);
    Object.assign(made.style, style);
    if (text) made.textContent = text;
    return made;
  }

  function show({ title, text }) {
    hide();
    const host = element("slackwater-dev", {
      position: "fixed", inset: "0", zIndex: "2147483647", overflow: "auto", padding: "2em", boxSizing: "border-box",
      background: "rgba(20, 20, 24, .94)", color: "#e8e8e8", font: "14px/1.5 ui-monospace, Menlo, Consolas, monospace",
    });
    host.setAttribute("role", "alert");
    const note = element("p", { color: "#9a9aa2" }, "It goes away by itself when this is mended. Escape hides it.");
    const body = element("pre", { whiteSpace: "pre-wrap", font: "inherit", margin: "1.5em 0" });
    for (const piece of coloured(text)) body.append(piece);
    host.append(element("h1", { font: "bold 18px/1.4 system-ui, sans-serif", color: "#ff8f80", margin: "0" }, title));
    host.append(body, note);
    document.documentElement.append(host);
    overlay = { host, note };
  }

  function hide() {
    if (overlay) overlay.host.remove();
    overlay = undefined;
  }

  addEventListener("keydown", (event) => event.key === "Escape" && hide());

  // the colours of a terminal (ECMA-48, SGR) as far as compilers use them
  function coloured(text) {
    const colours = ["#888", "#ff8f80", "#9be08a", "#f2d675", "#8ab4ff", "#d9a6ff", "#7fdbe0", "#e8e8e8"];
    let style = {};
    return text.split(/\x1b\[([\d;]*)m/).map((piece, index) => {
      if (index % 2 === 0) return element("span", style, piece);
      const codes = piece.split(";").map(Number);
      for (let at = 0; at < codes.length; at++) {
        const code = codes[at];
        if (code === 0) style = {};
        else if (code === 1) style = { ...style, fontWeight: "bold" };
        else if (code === 38 && codes[at + 1] === 5) style = { ...style, color: colours[codes[(at += 2)] % 8] };
        else if (code >= 30 && code <= 37) style = { ...style, color: colours[code - 30] };
        else if (code >= 90 && code <= 97) style = { ...style, color: colours[code - 90] };
      }
      return "";
    });
  }

  look();
})();
