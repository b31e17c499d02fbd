// INIT's `check`: what is different in a run whose results are compared with those of another run.
// Owns the reading of that part of INIT. Is only loaded where INIT has it, and runs before any of the function's code does.
"use strict";

const { shiftClocks } = require("./shifted_clock.cjs");

/** INIT's `check` asks for what this runtime cannot do. */
class InvalidCheck extends Error {}
InvalidCheck.prototype.name = "InvalidCheck";

/** Sets up time zone and clocks; the zone goes into INIT's variables, over one that the function declares. */
function prepareCheck(settings) {
  const { time_zone: zone = null, clock_shift_s: shiftS = null } = settings.check;
  if (zone !== null) {
    settings.env = { ...settings.env, TZ: knownZone(zone) };
  }
  if (shiftS !== null) {
    if (!Number.isSafeInteger(shiftS)) {
      throw new InvalidCheck(`clock_shift_s is a whole number of seconds, not ${JSON.stringify(shiftS)}`);
    }
    shiftClocks(shiftS);
  }
  if (isRecorded(settings)) {
    require("./recorded_event.cjs").letCopiesThrough();
  }
}

/** Whether READS frames are wanted. A helper's event is the runtime's own. */
function isRecorded(settings) {
  return settings.check?.record_reads === true && settings.helper === undefined;
}

/** The name of a zone. Node takes one that it does not know for UTC, and says nothing. */
function knownZone(zone) {
  try {
    // Offsets such as "+01:00" are no names.
    if (typeof zone === "string" && /^[A-Za-z]/.test(zone)) {
      new Intl.DateTimeFormat("en", { timeZone: zone });
      return zone;
    }
  } catch {
    // Said below.
  }
  throw new InvalidCheck(`time_zone ${JSON.stringify(zone)} is not known here`);
}

module.exports = { isRecorded, prepareCheck };
