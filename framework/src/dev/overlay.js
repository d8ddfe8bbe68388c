// `APP dev` adds this script to pages. It reloads the page when another build or another generation serves, and covers
// it with an overlay while the newest code has an error. It works under a strict Content-Security-Policy: it uses no
// inline style and creates no HTML from text.
(() => {
  const script = document.currentScript;
  const page = script.dataset.build;
  const reloadedFor = "slackwater-dev-reloaded-for";
  let source, overlay, delay = 10;

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource(script.dataset.events);
    source.addEventListener("live", (event) => {
      delay = 10;
      if (event.data === page) return;
      // a cache may return the old page again; do not reload it forever
      if (sessionStorage.getItem(reloadedFor) === event.data + location.href) {
        return console.warn("slackwater dev: this page came from a cache; reload it without the cache");
      }
      sessionStorage.setItem(reloadedFor, event.data + location.href);
      location.reload();
    });
    source.addEventListener("failed", (event) => show(JSON.parse(event.data)));
    source.addEventListener("building", () => overlay && (overlay.note.textContent = "building…"));
    source.addEventListener("fine", hide);
    // the stream ends when another process or generation takes over, or when no process runs
    source.onerror = () => {
      stop();
      setTimeout(connect, delay);
      delay = Math.min(2 * delay, 1000);
    };
  }

  function stop() {
    if (source) source.close();
    source = undefined;
  }

  // a hidden page holds no connection, because a browser opens only six to a server for all its pages
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : connect()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", connect);

  function element(name, style, text) {
    const created = document.createElement(name);
    Object.assign(created.style, style);
    if (text) created.textContent = text;
    return created;
  }

  function show({ title, text }) {
    hide();
    const host = element("slackwater-dev", {
      position: "fixed", inset: "0", zIndex: "2147483647", overflow: "auto", padding: "2em", boxSizing: "border-box",
      background: "rgba(20, 20, 24, .94)", color: "#e8e8e8", font: "14px/1.5 ui-monospace, Menlo, Consolas, monospace",
    });
    host.setAttribute("role", "alert");
    const note = element("p", { color: "#9a9aa2" }, "This message disappears when the error is fixed. Press Escape to hide it.");
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

  // converts the colours that compilers use (ECMA-48, SGR) to elements
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

  connect();
})();
