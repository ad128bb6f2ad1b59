// SPDX-License-Identifier: Apache-2.0
// Entry of the page.
import "ol/ol.css";
import "./css/frame.css";
import "./css/page.css";
import "./css/map.css";
import "./css/desk.css";
import "./css/narrow.css";
import { render } from "preact";
import { App } from "./app.js";
import { direction, language } from "./lib/i18n.js";
import { flush } from "./lib/labelstore.js";

document.documentElement.lang = language;
document.documentElement.dir = direction;
render(<App />, document.body);
void flush();
