// The summary against a second count by other means, the analogue search, and the refusals.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");
const { handler } = require("./main.js");

const LINES = fs.readFileSync(path.join(__dirname, "seattle-weather.csv"), "utf8").trim().split("\n").slice(1);

test("a month over all years", () => {
  const november = LINES.filter((line) => line.slice(5, 7) === "11").map((line) => line.split(","));
  const { summary, months, from, to } = handler({ month: 11 });
  assert.equal(summary.days, november.length);
  assert.equal(summary.days, 120);
  assert.equal(summary.precipitation_mm, Number(november.reduce((sum, cells) => sum + Number(cells[1]), 0).toFixed(1)));
  assert.equal(summary.temperature_c.warmest.temp_max, Math.max(...november.map((cells) => Number(cells[2]))));
  assert.equal(summary.temperature_c.coldest.temp_min, Math.min(...november.map((cells) => Number(cells[3]))));
  assert.equal(summary.wet_days, november.filter((cells) => Number(cells[1]) > 0).length);
  assert.deepEqual([from, to, months.length], ["2012-11-01", "2015-11-30", 4]);
  const shares = Object.values(summary.wet_days_by_weather).map(({ share }) => share);
  assert.ok(Math.abs(shares.reduce((sum, share) => sum + share, 0) - 1) < 0.001);
});

test("a span of days", () => {
  const { summary, months } = handler({ from: "2012-01-01", to: "2013-12-31" });
  assert.equal(summary.days, 366 + 365);
  assert.equal(months.length, 24);
  assert.equal(months.reduce((sum, month) => sum + month.days, 0), summary.days);
});

test("a day is most like itself", () => {
  const [date, precipitation, tempMax, tempMin, wind] = LINES[700].split(",");
  const like = { precipitation: Number(precipitation), temp_max: Number(tempMax), temp_min: Number(tempMin), wind: Number(wind) };
  const { analogues } = handler({ like });
  assert.deepEqual([analogues[0].date, analogues[0].distance], [date.replaceAll("/", "-"), 0]);
  assert.deepEqual(analogues.map((day) => day.distance), analogues.map((day) => day.distance).sort((a, b) => a - b));
});

test("refusals say what is wrong", () => {
  for (const [event, message] of [
    [{ month: 13 }, /"month" has to be/], [{ from: "2013-02-30" }, /"from" has to be a date/], [{ from: "2014-01-01", to: "2013-01-01" }, /before/],
    [{ from: "1999-01-01", to: "1999-12-31" }, /no day of the record/], [{ like: { humidity: 3 } }, /"humidity"/], [[], /has to be an object/],
  ]) {
    assert.throws(() => handler(event), message);
  }
});
