/** A SPEC of steps as the store reads it: all, last, log, numbers and ranges, joined by commas. */
import { ApiError } from "../frame";

/** Step 0, the existing step nearest in log to each power of two, and the last. */
function logSteps(steps: readonly number[]): number[] {
  const positive = steps.filter((step) => step > 0);
  const last = positive.at(-1);
  if (last === undefined) return [...steps];
  const powers = Array.from({ length: Math.floor(Math.log2(last)) + 1 }, (_, power) => power);
  const apart = (step: number, power: number) => Math.abs(Math.log2(step) - power);
  const nearest = powers.map((power) => positive.reduce((best, step) => (apart(step, power) < apart(best, power) ? step : best)));
  return [...steps.filter((step) => step === 0), ...nearest, last];
}

function ofPart(part: string, steps: readonly number[]): number[] {
  if (part === "all") return [...steps];
  if (part === "last") return steps.slice(-1);
  if (part === "log") return logSteps(steps);
  const range = /^(\d*)(?::(\d*)(?::(\d+))?)?$/.exec(part);
  if (!range || part === "") throw new ApiError(`${part} is no steps.`, "all, log, last, numbers, or ranges as 0:1000:100; commas join them.");
  const first = Number(range[1]);
  if (range[2] === undefined) return steps.filter((step) => step === first);
  const last = range[2] === "" ? Infinity : Number(range[2]);
  return steps.filter((step) => step >= first && step <= last && (step - first) % (Number(range[3]) || 1) === 0);
}

/** Those of the existing, rising steps that are meant; an error where a part means none. */
export function stepsOf(spec: string, steps: readonly number[]): Set<number> {
  const chosen = new Set<number>();
  for (const part of spec.split(",").map((text) => text.trim())) {
    const found = ofPart(part, steps);
    if (!found.length) throw new ApiError(`Step ${part} is not in the report.`, `It holds ${steps.join(", ")}.`);
    found.forEach((step) => chosen.add(step));
  }
  return chosen;
}
