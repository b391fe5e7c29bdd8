// Makes filter.wasm of filter.js: the script and the engine that runs it, as one component.
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const { component } = await componentize({
  sourcePath: here("filter.js"),
  witPath: here("../../wit"),
  worldName: "http-filter",
  // What the engine would import of WASI; a filter has log, clock and random of its own.
  disableFeatures: ["stdio", "random", "clocks", "http", "fetch-event"],
});
await writeFile(here("filter.wasm"), component);
