/** One token: its trajectory in every model, what findings say of it, and the tokens most like it. */
import { useMemo } from "preact/hooks";
import { useFrame, type Frame } from "../../api";
import { chosenModels, facts } from "../../facts";
import { curvesOf } from "../../frames";
import { StepChart } from "../../linked";
import { Card, DataLinks, Loaded } from "../../parts";
import { navigate, state } from "../../state";
import { Table } from "../../table";
import { nats, short, visible, whole } from "../../text";
import { dark } from "../../theme";
import { keys, shownSteps } from "./keys";

interface Site {
  dataset: string;
  context: number;
  position: number;
}

export function Token(props: Site & { token: string; model: string }) {
  const { dataset, context, position, model } = props;
  const site = { dataset, context, position };
  const curves = useFrame("token", { ...site, models: chosenModels.value, steps: SPLIT ? shownSteps() : null });
  const known = useFrame("token_findings", !OFFLINE && facts.value?.findings.length ? { ...site } : null);
  const near = useFrame("neighbours", { ...site, model });
  return (
    <Card title={`“${short(props.token)}” at position ${position} of context ${context}`}>
      <Loaded reply={curves} empty="No model has a loss of this token.">
        {(frame) => <Trajectory frame={frame} />}
      </Loaded>
      <DataLinks reply={curves} />
      {!OFFLINE && facts.value && facts.value.findings.length > 0 && (
        <>
          <h3>In kept findings</h3>
          <Loaded reply={known} empty="No kept finding says anything of this token.">
            {(frame) => (
              <Table
                label="Findings of this token"
                rows={frame.rows}
                height={210}
                columns={["what", "finding", "of", "value"].map((name) => {
                  const column = frame.column<string | null>(name);
                  return { name, cell: (row: number) => visible(column[row] ?? "") };
                })}
              />
            )}
          </Loaded>
        </>
      )}
      {OFFLINE && <p class="note">Among the contexts of this report:</p>}
      <h3>Tokens whose losses over the steps of {visible(model)} are most like it</h3>
      <Loaded reply={near} empty="No other token has losses at these steps.">
        {(frame) => <Neighbours frame={frame} />}
      </Loaded>
      <DataLinks reply={near} />
    </Card>
  );
}

function Trajectory({ frame }: { frame: Frame }) {
  const night = dark.value;
  const { x, curves } = useMemo(() => curvesOf(frame, ["model"], "loss"), [frame, night]);
  return (
    <StepChart label="Loss of the token" x={x} curves={curves} yLabel="loss (nats)" />
  );
}

function Neighbours({ frame }: { frame: Frame }) {
  const [contexts, positions, tokens, distances] = [
    frame.column("context"), frame.column("position"), frame.column<string>("token"), frame.column("distance"),
  ];
  return (
    <Table
      label="Tokens most like it"
      rows={frame.rows}
      height={280}
      onPick={(row) => navigate(() => {
        state.context.value = Number(contexts[row]);
        keys.position.value = Number(positions[row]);
      })}
      columns={[
        { name: "token", cell: (row) => <span class="mono">{visible(tokens[row]!)}</span> },
        { name: "context", number: true, cell: (row) => whole(Number(contexts[row])) },
        { name: "position", number: true, cell: (row) => whole(Number(positions[row])) },
        { name: "distance", title: "distance (nats)", number: true, cell: (row) => nats(distances[row]) },
      ]}
    />
  );
}
