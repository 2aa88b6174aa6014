// Pages that are opened as files may start no worker: its script runs in a hidden frame instead, so that search works there too.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      const ready = new Promise((done, failed) => {
        frame.addEventListener("load", () => {
          const inside = frame.contentWindow;
          inside.postMessage = data => {
            const event = new MessageEvent("message", { data });
            this.dispatchEvent(event);
            this.onmessage?.(event);
          };
          const script = inside.document.createElement("script");
          Object.assign(script, { src: url, onload: () => done(inside), onerror: failed });
          inside.document.body.append(script);
        }, { once: true });
      });
      document.body.append(frame);
      this.postMessage = data => ready.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
      this.terminate = () => frame.remove();
    }
  };
}
