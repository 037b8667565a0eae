// The public client as its users write it; what is theirs to change is the endpoint and the key. Prints what it was answered, one JSON value a line.
const { PersonalizerClient } = require("@azure/cognitiveservices-personalizer");
const { ApiKeyCredentials } = require("@azure/ms-rest-js");

const [endpoint, key] = process.argv.slice(2);
const client = new PersonalizerClient(new ApiKeyCredentials({ inHeader: { "Ocp-Apim-Subscription-Key": key } }), endpoint);
const say = value => console.log(JSON.stringify(value ?? null));

async function main() {
  const request = {
    eventId: "an event/1",
    contextFeatures: [{ timeOfDay: "morning" }, { user: { profile: "student", age: 22 } }],
    actions: [
      { id: "pasta", features: [{ taste: "salty", spice: 1 }] },
      { id: "ice cream", features: [{ taste: "sweet", spice: 0 }, { nutrition: { calories: 400 } }] },
      { id: "juice", features: [] },
    ],
    excludedActions: ["juice"],
    deferActivation: true,
  };
  const ranked = await client.rank(request);
  say({ status: ranked._response.status, ranking: ranked.ranking, eventId: ranked.eventId, rewardActionId: ranked.rewardActionId });
  say((await client.events.activate(request.eventId))._response.status);
  say((await client.events.reward(request.eventId, { value: 1 }))._response.status);

  const unnamed = await client.rank({ actions: request.actions });
  say({ eventId: unnamed.eventId, ranking: unnamed.ranking });

  try {
    await client.rank({ actions: [] });
    say("not refused");
  } catch (error) {
    say({ status: error.statusCode, body: error.body });
  }
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
