// Browsers start no worker for a page that is opened from disk. There, the site's search runs in a frame in its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #started;

    constructor(address) {
      super();
      const script = new URL(address, location).href;
      this.#frame.hidden = true;
      this.#frame.srcdoc = "<!doctype html><body>";
      this.#started = new Promise((resolve) => {
        this.#frame.addEventListener("load", () => {
          const { contentWindow: inside, contentDocument: page } = this.#frame;
          inside.postMessage = (data) => this.#receive(structuredClone(data));
          const program = page.createElement("script");
          program.addEventListener("load", () => resolve(inside));
          program.src = script;
          page.body.append(program);
        }, { once: true });
      });
      document.body.append(this.#frame);
    }

    postMessage(value) {
      const data = structuredClone(value);
      this.#started.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.#frame.remove();
    }

    #receive(data) {
      const event = new MessageEvent("message", { data });
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }
  };
}
