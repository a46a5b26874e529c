// Makes plotly.min.js with the settings of plotly.js's own esbuild-config.js: `npm install && node build.mjs`.
import { build } from "esbuild";
import { environmentPlugin } from "esbuild-plugin-environment";
import { glsl } from "esbuild-plugin-glsl";
import inlineCss from "esbuild-plugin-inline-css";
import { readFileSync } from "node:fs";

const { version } = JSON.parse(readFileSync("node_modules/plotly.js/package.json", "utf8"));
const banner =
  `/**\n* plotly.js v${version} (scatter, scattergl, bar, contour, heatmap)\n` +
  "* Copyright 2012-2026, Plotly, Inc.\n* All rights reserved.\n* Licensed under the MIT license\n*/";

await build({
  entryPoints: ["entry.js"],
  outfile: "plotly.min.js",
  banner: { js: banner },
  format: "iife",
  globalName: "Plotly",
  bundle: true,
  minify: true,
  legalComments: "eof",
  plugins: [inlineCss(), glsl({ minify: true }), environmentPlugin({ NODE_DEBUG: false })],
  alias: { regl: "@plotly/regl", stream: "stream-browserify" },
  define: { global: "window", "define.amd": "false" },
  target: "es2020",
});
