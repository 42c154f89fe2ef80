// What a node of this pack said last stays on it after the run: newer frontends take texts of progress off then.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { nodeOf } from "./nodes.js";

const TEXT = "progress_text", ENDS = ["execution_success", "execution_error", "execution_interrupted"];
const LATER = [250, 1000, 3000]; // milliseconds; on a busy page they are taken off late
const told = new Map();
let waiting = [];

app.registerExtension({
  name: "latent-clip.told",
  setup() {
    api.addEventListener(TEXT, ({ detail }) => {
      if (nodeOf(detail.nodeId)?.comfyClass?.startsWith("LatentCLIP_")) told.set(detail.nodeId, detail.text);
    });
    api.addEventListener("execution_start", forget);
    for (const end of ENDS) api.addEventListener(end, sayAgain);
  },
  beforeConfigureGraph: forget, // another workflow has other nodes by the same numbers
});

function forget() {
  waiting.forEach(clearTimeout);
  told.clear();
}

function sayAgain() {
  const texts = [...told];
  const say = () => texts.forEach(([nodeId, text]) =>
    api.dispatchEvent(new CustomEvent(TEXT, { detail: { nodeId, text } })));
  waiting = LATER.map((time) => setTimeout(say, time));
}
