// The map on the node Explore Latents: a click or a key on a cell sets its widgets column and row.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { showMap } from "../../../latent-clip/map.js";
import { nodeOf } from "./nodes.js";

const NODE = "LatentCLIP_Explore", SHOWN = "latent_clip_map", EVENT = "latent-clip.map";
const HINT = {
  en: "Run, and a map is here to choose a cell from.",
  zh: "运行后，这里会出现地图，可从中选择一格。",
};
const SMALLEST = 330, KEPT = 400_000; // pixels of height; characters of a map that a workflow keeps

app.registerExtension({
  name: "latent-clip.explore",
  setup() {
    api.addEventListener(EVENT, ({ detail }) => {
      const node = nodeOf(detail.node);
      node?.latentClipMap?.show(detail.map);
    });
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addMap(node);
  },
});

function addMap(node) {
  const root = document.createElement("div"), named = (name) => node.widgets.find((widget) => widget.name === name);
  const widget = node.addDOMWidget("map", "latent_clip_map", root, {
    serialize: false, hideOnZoom: false, getMinHeight: () => SMALLEST, getValue: () => "", setValue: () => {} });
  widget.serialize = false; // what is chosen is in column and row
  widget.computeLayoutSize ??= () => ({ minHeight: SMALLEST, minWidth: 260 });
  const control = named("control_after_generate");
  if (control) control.value = "fixed"; // another seed is another map, and what was chosen on it is gone
  const choice = () => [named("column").value, named("row").value];
  const set = (name, value) => {
    const own = named(name);
    own.value = value;
    own.callback?.(value, app.canvas, node);
  };
  const options = {
    onChoose(column, row) {
      set("column", column);
      set("row", row);
      node.graph?.change?.();
      node.setDirtyCanvas?.(true, true);
    },
    onHold: (place) => set("elsewhere", place),
  };
  let map = null;
  const show = (data) => {
    if (map) map.show(data, choice());
    else map = showMap(root, data, { ...options, choice: choice() });
  };
  hint(root);
  node.latentClipMap = { show, root };
  for (const name of ["column", "row"]) {
    const own = named(name), before = own.callback;
    own.callback = function (...given) {
      const found = before?.apply(this, given);
      map?.choose(...choice());
      return found;
    };
  }
  after(node, "onExecuted", (output) => {
    const [data] = output?.[SHOWN] ?? [];
    if (!data) return;
    keep(node, data);
    show(withPicture(data));
  });
  after(node, "onConfigure", () => {
    const data = node.properties?.[SHOWN];
    if (data) show(withPicture(JSON.parse(data)));
    else map?.choose(...choice());
  });
  const [wide, high] = node.size;
  node.setSize?.([Math.max(wide, 460), Math.max(high, node.computeSize?.()[1] ?? high)]);
}

// The last map stays with the workflow; its pictures as long as the host keeps them.
function keep(node, data) {
  const text = JSON.stringify(data);
  if (text.length <= KEPT) node.properties[SHOWN] = text;
  else delete node.properties[SHOWN];
}

function withPicture(data) {
  if (!data.file?.filename) return data;
  return { ...data, picture: api.apiURL(`/view?${new URLSearchParams(data.file)}`) };
}

function hint(root) {
  root.style.minHeight = `${SMALLEST}px`;
  root.textContent = HINT[app.extensionManager?.setting?.get("Comfy.Locale")] ?? HINT.en;
}

function after(node, name, then) {
  const before = node[name];
  node[name] = function (...given) {
    const found = before?.apply(this, given);
    then(...given);
    return found;
  };
}
