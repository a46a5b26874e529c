// What the figures of this package consist of; plotly.js always has scatter.
const Plotly = require("plotly.js/lib/core");

Plotly.register([
  require("plotly.js/lib/bar"),
  require("plotly.js/lib/contour"),
  require("plotly.js/lib/heatmap"),
  require("plotly.js/lib/scattergl"),
]);

module.exports = Plotly;
