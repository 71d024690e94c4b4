// The overview's numbers, as the gateway sends them while somebody looks. htmx asks for them each second and need not while
// they are sent; where they are not (a proxy that holds answers back, an older browser, as many streams as there may be) it
// goes on asking. A page that nobody sees listens to nothing: browsers share six connections among all tabs of a site.
(() => {
  "use strict";
  const SILENT_AFTER = 3000;
  const AGAIN_AFTER = 30000;
  const part = () => document.getElementById("live");
  let source = null;
  let heardAt = -Infinity;

  const replace = (text) => {
    const made = new DOMParser().parseFromString(text, "text/html").getElementById("live");
    if (!made || !part()) return;
    made.dataset.sent = "";
    part().replaceWith(made);
    htmx.process(made);
  };

  const heard = () => { heardAt = performance.now(); };

  const stop = () => {
    if (source) source.close();
    source = null;
    heardAt = -Infinity;
  };

  const listen = () => {
    if (source || document.hidden || !part()) return;
    source = new EventSource(part().dataset.events);
    source.addEventListener("still", heard);
    source.addEventListener("live", (event) => { heard(); replace(event.data); });
    source.addEventListener("error", () => { stop(); setTimeout(listen, AGAIN_AFTER); });
  };

  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else listen(); });
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target === part() && performance.now() - heardAt < SILENT_AFTER) event.preventDefault();
  });
  if (part() && "EventSource" in window) listen();
})();
