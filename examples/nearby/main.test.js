// What is asked of the helper, which way airports lie, and the refusal, with an object in place of the helper.
"use strict";

const assert = require("node:assert/strict");
const test = require("node:test");
const { handler } = require("./main.js");

/** A context whose helper answers with these airports and remembers what it was asked. */
function contextWith(airports) {
  const asked = [];
  const geo = {
    nearest: async (args) => {
      asked.push(args);
      return airports;
    },
  };
  return { asked, helper: (name) => ({ geo })[name] };
}

function airportAt(latitude, longitude) {
  return { iata: "BFI", name: "Boeing Field", city: "Seattle", state: "WA", latitude, longitude, distance_km: 7.8 };
}

test("the nearest airports, with directions", async () => {
  const context = contextWith([airportAt(47.53, -122.35)]);
  const answer = await handler({ latitude: 47.62, longitude: -122.35, limit: 1 }, context);
  assert.deepEqual(context.asked, [{ latitude: 47.62, longitude: -122.35, limit: 1 }]);
  assert.deepEqual(answer, [{ iata: "BFI", name: "Boeing Field", city: "Seattle", distance_km: 7.8, direction: "south" }]);
});

test("directions, across the date line as well", async () => {
  for (const [from, to, expected] of [
    [[0, 0], [1, 0], "north"], [[0, 0], [0, 1], "east"], [[0, 0], [-1, 0], "south"], [[0, 0], [0, -1], "west"],
    [[0, 0], [1, 1], "north-east"], [[0, 0], [-1, -1], "south-west"], [[10, 179.5], [10, -179.5], "east"],
  ]) {
    const [one] = await handler({ latitude: from[0], longitude: from[1] }, contextWith([airportAt(...to)]));
    assert.equal(one.direction, expected);
  }
});

test("refusals say what is wrong", async () => {
  for (const event of [null, [], {}, { latitude: "47", longitude: 1 }]) {
    await assert.rejects(handler(event, contextWith([])), /has to be an object/);
  }
});
