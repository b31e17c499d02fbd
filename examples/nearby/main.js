// Which airports are near a place and how far: the helper `geo` finds them, this adds which way they lie.
//   {"latitude": 47.62, "longitude": -122.35}
//   {"latitude": 47.62, "longitude": -122.35, "limit": 3, "within_km": 100}
"use strict";

const DIRECTIONS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

function radians(degrees) {
  return (degrees * Math.PI) / 180;
}

/** Where one sets out from a place to get to another by the shortest way. */
function direction(from, to) {
  const turn = radians(to.longitude - from.longitude);
  const east = Math.sin(turn) * Math.cos(radians(to.latitude));
  const north =
    Math.cos(radians(from.latitude)) * Math.sin(radians(to.latitude)) -
    Math.sin(radians(from.latitude)) * Math.cos(radians(to.latitude)) * Math.cos(turn);
  const eighths = Math.round((Math.atan2(east, north) / Math.PI) * 4);
  return DIRECTIONS[(eighths + DIRECTIONS.length) % DIRECTIONS.length];
}

exports.handler = async function handler(event, context) {
  if (typeof event?.latitude !== "number" || typeof event?.longitude !== "number") {
    throw new TypeError('the event has to be an object such as {"latitude": 47.62, "longitude": -122.35}');
  }
  const { latitude, longitude, limit, within_km } = event;
  const airports = await context.helper("geo").nearest({
    latitude,
    longitude,
    ...(limit === undefined ? {} : { limit }),
    ...(within_km === undefined ? {} : { within_km }),
  });
  return airports.map((airport) => ({
    iata: airport.iata,
    name: airport.name,
    city: airport.city,
    distance_km: airport.distance_km,
    direction: direction(event, airport),
  }));
};
