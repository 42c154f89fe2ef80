// The nodes on the canvas by what the server calls them.

import { app } from "../../../scripts/app.js";

// By the id of a run: "5", or "5:2" for a node in a subgraph.
export function nodeOf(id) {
  let graph = app.graph, node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById?.(part) ?? graph?.getNodeById?.(Number(part));
    graph = node?.subgraph;
  }
  return node;
}
