/** The step as a slider that plays. */
import { useEffect, useState } from "preact/hooks";
import { whole } from "../../text";

const PACE = 350;

export function StepSlider(props: { label: string; steps: readonly number[]; row: number; onStep: (step: number) => void }) {
  const { steps, row } = props;
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return undefined;
    const last = row >= steps.length - 1;
    const timer = setTimeout(() => (last ? setPlaying(false) : props.onStep(steps[row + 1]!)), PACE);
    return () => clearTimeout(timer);
  }, [playing, row, steps]);
  const play = () => {
    if (!playing && row >= steps.length - 1) props.onStep(steps[0]!);
    setPlaying(!playing);
  };
  return (
    <div class="slider">
      <button type="button" class="button" aria-label={playing ? "Pause" : "Play the steps"} onClick={play}>
        {playing ? "⏸" : "▶"}
      </button>
      <input
        type="range"
        min={0}
        max={Math.max(0, steps.length - 1)}
        value={row}
        aria-label={props.label}
        aria-valuetext={`step ${whole(steps[row] ?? 0)}`}
        onInput={(event) => {
          setPlaying(false);
          props.onStep(steps[Number(event.currentTarget.value)]!);
        }}
      />
      <output>step <b>{whole(steps[row] ?? 0)}</b></output>
    </div>
  );
}
