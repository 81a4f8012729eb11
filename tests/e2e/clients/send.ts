// A choice and its reward, by the generated client; what must not compile is said to be so.
import { Configuration, DecisionsApi, ExperimentsApi, Request, Reward, SubjectsApi } from "./typescript";

declare const process: { env: Record<string, string>; exitCode: number };

async function send(): Promise<void> {
  const settings = new Configuration({ basePath: process.env.API, accessToken: process.env.TOKEN });
  const api = new DecisionsApi(settings);

  // Fields with a default may be left out.
  const person: Request = { subject_id: "ts-1" };
  const known: Request = { subject_id: "ts-2", context: { recency: 3, channel: "Web" }, eligible: null };
  // @ts-expect-error a request is for somebody
  const nobody: Request = { context: {} };

  const email = await api.choose({ key: "generated", request: known });
  const variant: string = email.slots["subject_line"].variant;
  // @ts-expect-error slots have a type
  email.slots["subject_line"].colour;
  const again = await api.chooseBatch({ key: "generated", chooseBatch: { requests: [person] }, idempotencyKey: "ts" });

  const id = email.decision_id ?? "";
  const click: Reward = { decision_id: id, event_id: "click-1", metric: "click", occurred_at: Date.now() };
  const receipt = await api.recordRewards({ rewardBatch: { rewards: [click], time_unit: "milliseconds" } });
  const later: Reward = { ...click, occurred_at: new Date().toISOString() };
  // @ts-expect-error a time is a text or a number
  const never: Reward = { ...click, occurred_at: true };

  const experiment = await new ExperimentsApi(settings).readExperiment({ key: "generated" });
  const policy = experiment.declaration.policy;
  const name: string = policy.name;

  const erased = await new SubjectsApi(settings).eraseSubjectData({ subjectErasureRequest: { subject_id: "ts-1" } });
  console.log(
    JSON.stringify({
      id, variant, name, batch: again.decisions.length, accepted: receipt.accepted, erased: erased.decisions,
    }),
  );
}

send().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
