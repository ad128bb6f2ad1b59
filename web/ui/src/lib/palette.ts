// SPDX-License-Identifier: Apache-2.0
// How the damage classes look: darker is worse, and each has a pattern and a letter of its own, so that the map still reads
// on a photocopy, a weak projector, or to eyes that see few colours.
export interface Look {
  color: string;
  letter: string;
  pattern: "empty" | "dots" | "hatch" | "solid" | "outline";
  ink: string; // of the pattern's marks
}

export const looks: Record<string, Look> = {
  none: { color: "#f7f7f7", letter: "N", pattern: "empty", ink: "#555555" },
  undamaged: { color: "#f7f7f7", letter: "N", pattern: "empty", ink: "#555555" },
  minor: { color: "#fdcc8a", letter: "m", pattern: "dots", ink: "#6b3d00" },
  major: { color: "#e34a33", letter: "M", pattern: "hatch", ink: "#4d0f05" },
  damaged: { color: "#e34a33", letter: "D", pattern: "hatch", ink: "#4d0f05" },
  destroyed: { color: "#7a0000", letter: "D", pattern: "solid", ink: "#000000" },
  unknown: { color: "#808080", letter: "?", pattern: "outline", ink: "#4a4a4a" },
};

export const order = Object.keys(looks);

export const look = (name: string): Look => looks[name] ?? (looks["unknown"] as Look);

const cell = 8;

/** A repeating fill, or null where the class has none (an outline only). */
export function fill(name: string, opacity: number): CanvasPattern | null {
  const { color, pattern, ink } = look(name);
  if (pattern === "outline" || opacity === 0) return null;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = cell;
  const c = canvas.getContext("2d");
  if (!c) return null;
  c.globalAlpha = opacity;
  c.fillStyle = color;
  c.fillRect(0, 0, cell, cell);
  c.fillStyle = c.strokeStyle = ink;
  if (pattern === "dots") {
    c.fillRect(1, 1, 2, 2);
    c.fillRect(5, 5, 2, 2);
  } else if (pattern === "hatch") {
    c.lineWidth = 1.5;
    c.beginPath();
    for (const o of [-cell, 0, cell]) {
      c.moveTo(o, cell);
      c.lineTo(o + cell, 0);
    }
    c.stroke();
  }
  return c.createPattern(canvas, "repeat");
}

/** The look of buildings that are too close to call, whatever their class. */
export function openSwatch(): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 24;
  canvas.setAttribute("aria-hidden", "true");
  const c = canvas.getContext("2d");
  if (!c) return canvas;
  c.strokeStyle = "#333333";
  c.lineWidth = 2;
  c.setLineDash([7, 4]);
  c.strokeRect(1, 1, 22, 22);
  return canvas;
}

/** The class as a small picture for the legend. */
export function swatch(name: string): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 24;
  canvas.setAttribute("aria-hidden", "true");
  const c = canvas.getContext("2d");
  if (!c) return canvas;
  const pattern = fill(name, 1);
  if (pattern) {
    c.fillStyle = pattern;
    c.fillRect(1, 1, 22, 22);
  }
  c.strokeStyle = look(name).ink;
  c.lineWidth = 2;
  if (look(name).pattern === "outline") c.setLineDash([4, 3]);
  c.strokeRect(1, 1, 22, 22);
  c.font = "bold 13px sans-serif";
  c.textAlign = "center";
  c.textBaseline = "middle";
  c.lineWidth = 3;
  c.lineJoin = "round";
  c.setLineDash([]);
  c.strokeStyle = "#ffffff";
  c.strokeText(look(name).letter, 12, 13);
  c.fillStyle = "#000000";
  c.fillText(look(name).letter, 12, 13);
  return canvas;
}

/** One step of a ramp with its digit. */
export function stepSwatch(colour: string, digit: string): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 24;
  const c = canvas.getContext("2d");
  if (!c) return canvas;
  c.fillStyle = colour;
  c.fillRect(1, 1, 22, 22);
  c.strokeStyle = "#2b2145";
  c.lineWidth = 2;
  c.strokeRect(1, 1, 22, 22);
  c.font = "bold 13px sans-serif";
  c.textAlign = "center";
  c.textBaseline = "middle";
  c.lineWidth = 3;
  c.lineJoin = "round";
  c.strokeStyle = "#ffffff";
  c.strokeText(digit, 12, 13);
  c.fillStyle = "#000000";
  c.fillText(digit, 12, 13);
  return canvas;
}
