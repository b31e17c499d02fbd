// Seattle's climate, 2012 to 2015: a summary of the days that the event selects, and the day in the record that was most
// like given conditions.
//   {"month": 11}                                        all Novembers
//   {"from": "2012-01-01", "to": "2013-12-31"}           a span of days, month by month
//   {"like": {"temp_max": 18, "wind": 6}, "month": 7}    as above, and the closest analogue days
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const MEASURES = ["precipitation", "temp_max", "temp_min", "wind"];
const ANALOGUES = 5;

/** The record, oldest day first; dates stay text, which for ISO dates sorts and compares as time does. */
function loadDays(file) {
  const [header, ...rows] = fs.readFileSync(file, "utf8").trim().split(/\r?\n/);
  const names = header.split(",");
  return rows.map((row) => {
    const cells = row.split(",");
    return Object.fromEntries(names.map((name, index) => [name, MEASURES.includes(name) ? Number(cells[index]) : cells[index]]));
  });
}

const DAYS = loadDays(path.join(__dirname, "seattle-weather.csv"));
const SPREAD = Object.fromEntries(MEASURES.map((name) => [name, standardDeviation(DAYS.map((day) => day[name]))]));

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardDeviation(values) {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

function rounded(value, digits = 2) {
  return Number(value.toFixed(digits));
}

function requireMonth(month) {
  if (!Number.isInteger(month) || month < 1 || month > 12) {
    throw new RangeError('"month" has to be a whole number from 1 to 12');
  }
  return String(month).padStart(2, "0");
}

function requireDate(value, field) {
  const isDate = typeof value === "string" && /^\d{4}-\d{2}-\d{2}$/.test(value);
  // A day that does not exist (2013-02-30) is moved by Date, and so is told by not coming back the same.
  const time = isDate ? Date.parse(`${value}T00:00:00Z`) : NaN;
  if (Number.isNaN(time) || new Date(time).toISOString().slice(0, 10) !== value) {
    throw new RangeError(`"${field}" has to be a date such as "2012-01-31"`);
  }
  return value.replaceAll("-", "/");
}

function select({ month, from, to }) {
  const wanted = month === undefined ? null : requireMonth(month);
  const first = from === undefined ? DAYS[0].date : requireDate(from, "from");
  const last = to === undefined ? DAYS[DAYS.length - 1].date : requireDate(to, "to");
  if (first > last) {
    throw new RangeError('"from" has to be before "to"');
  }
  return DAYS.filter((day) => day.date >= first && day.date <= last && (wanted === null || day.date.slice(5, 7) === wanted));
}

function iso(date) {
  return date.replaceAll("/", "-");
}

function extreme(days, measure, direction) {
  const day = days.reduce((best, one) => (direction * (one[measure] - best[measure]) > 0 ? one : best));
  return { date: iso(day.date), [measure]: day[measure] };
}

/** Days, rain, temperatures, and what share of the days with rain went by which kind of weather. */
function summarise(days) {
  const wet = days.filter((day) => day.precipitation > 0);
  const kinds = {};
  for (const day of wet) {
    kinds[day.weather] = (kinds[day.weather] ?? 0) + 1;
  }
  return {
    days: days.length,
    precipitation_mm: rounded(days.reduce((sum, day) => sum + day.precipitation, 0), 1),
    wettest: extreme(days, "precipitation", 1),
    temperature_c: {
      mean: rounded(mean(days.map((day) => (day.temp_max + day.temp_min) / 2))),
      mean_max: rounded(mean(days.map((day) => day.temp_max))),
      mean_min: rounded(mean(days.map((day) => day.temp_min))),
      warmest: extreme(days, "temp_max", 1),
      coldest: extreme(days, "temp_min", -1),
    },
    wet_days: wet.length,
    wet_share: rounded(wet.length / days.length, 4),
    wet_days_by_weather: Object.fromEntries(
      Object.entries(kinds)
        .sort(([a, countA], [b, countB]) => countB - countA || a.localeCompare(b))
        .map(([kind, count]) => [kind, { days: count, share: rounded(count / wet.length, 4) }]),
    ),
  };
}

function byMonth(days) {
  const months = new Map();
  for (const day of days) {
    const key = iso(day.date.slice(0, 7));
    if (!months.has(key)) {
      months.set(key, []);
    }
    months.get(key).push(day);
  }
  return [...months].map(([month, own]) => ({ month, ...summarise(own) }));
}

/** The days nearest to the given conditions; each measure counts in units of its own standard deviation. */
function analogues(days, like) {
  if (typeof like !== "object" || like === null || Array.isArray(like) || Object.keys(like).length === 0) {
    throw new TypeError(`"like" has to be an object with some of: ${MEASURES.join(", ")}`);
  }
  for (const [name, value] of Object.entries(like)) {
    if (!MEASURES.includes(name) || typeof value !== "number") {
      throw new TypeError(`"like" has "${name}"; it takes numbers for: ${MEASURES.join(", ")}`);
    }
  }
  const measures = Object.keys(like);
  return days
    .map((day) => ({ day, distance: Math.hypot(...measures.map((name) => (day[name] - like[name]) / SPREAD[name])) }))
    .sort((a, b) => a.distance - b.distance || (a.day.date < b.day.date ? -1 : 1))
    .slice(0, ANALOGUES)
    .map(({ day, distance }) => ({ ...day, date: iso(day.date), distance: rounded(distance, 4) }));
}

exports.handler = function handler(event) {
  if (typeof event !== "object" || event === null || Array.isArray(event)) {
    throw new TypeError('the event has to be an object such as {"month": 11}');
  }
  const days = select(event);
  if (days.length === 0) {
    throw new RangeError(`no day of the record is selected; it runs from ${iso(DAYS[0].date)} to ${iso(DAYS[DAYS.length - 1].date)}`);
  }
  return {
    from: iso(days[0].date),
    to: iso(days[days.length - 1].date),
    summary: summarise(days),
    months: byMonth(days),
    ...(event.like === undefined ? {} : { analogues: analogues(days, event.like) }),
  };
};
