"""The helper `geo`: where airports are, what is near, and routes whose legs are no longer than an aircraft's range.

Owns the methods, what arguments they refuse, and what the configuration means. The schemas in `schemas/` refuse wrong shapes
before a call gets here; the limits are checked here too, since code outside the platform has no schemas.
"""

import math
import os

from airports import DISTANCE_MAX_KM, Place, distance_km, load_airports, similar_codes
from popularity import KEEP_EVERY_S, LARGE_HUBS, AskedQuestions, expected_questions, fold
from raas import Helper, WrongArguments, method
from routes import Routes

AIRPORTS_CSV = os.path.join(os.path.dirname(os.path.abspath(__file__)), "airports.csv")
NEAREST_LIMIT_MAX = 100
WITHIN_LIMIT_MAX = 1_000
# A regional turboprop's, such as an ATR 72's.
RANGE_DEFAULT_KM = 1_500
POPULAR_PAIRS_DEFAULT = 300
# An hourly training halves a count in about three hours; asked once, a route is expected for three more.
DECAY_DEFAULT = 0.8
POPULAR_LEAST_DEFAULT = 0.5


class Geo(Helper):
    def start(self):
        self.airports = load_airports(AIRPORTS_CSV)
        self.hubs = self.config.get("hubs", LARGE_HUBS)
        unknown = [code for code in self.hubs if code not in self.airports]
        if unknown:
            raise ValueError(f"hubs of the configuration that are no known airports: {', '.join(unknown)}")
        self.range_km = checked_km("range_km", self.config.get("range_km", RANGE_DEFAULT_KM))
        self.routes = Routes(self.airports.values())
        self.asked = AskedQuestions(self.state)

    @method
    def route(self, src, dst, range_km=None):
        """The shortest route by its whole length. Where no route has legs that short: what range there would have to be."""
        start, goal = self.known("src", src), self.known("dst", dst)
        longest_km = self.range_km if range_km is None else checked_km("range_km", range_km)
        self.asked.count([start.iata, goal.iata] if range_km is None else [start.iata, goal.iata, range_km])
        self.asked.keep(KEEP_EVERY_S)
        answer = {"src": start.iata, "dst": goal.iata, "range_km": longest_km}
        way = self.routes.find(start, goal, longest_km)
        if way is None:
            return {"found": False, **answer, "least_range_km": self.least_range_km(start, goal)}
        legs = [(a, b, distance_km(a, b)) for a, b in zip(way, way[1:])]
        return {
            "found": True,
            **answer,
            "legs": [{"src": a.iata, "dst": b.iata, "distance_km": round(km, 3)} for a, b, km in legs],
            "distance_km": round(sum(km for _, _, km in legs), 3),
            "stops": [airport.iata for airport in way[1:-1]],
        }

    @method
    def nearest(self, latitude, longitude, limit=5, within_km=None):
        """The airports nearest to a place, the nearest first."""
        place = checked_place(latitude, longitude)
        checked_limit(limit, NEAREST_LIMIT_MAX)
        within_km = DISTANCE_MAX_KM if within_km is None else checked_km("within_km", within_km)
        return [with_distance(*one) for one in self.routes.index.nearest(place, limit, within_km)]

    @method
    def within(self, iata, range_km, limit=100):
        """The airports that one leg of at most `range_km` leads to: how many, and the nearest of them."""
        center = self.known("iata", iata)
        checked_limit(limit, WITHIN_LIMIT_MAX)
        found = self.routes.index.within(center, checked_km("range_km", range_km))
        others = sorted((km, airport.iata, airport) for km, airport in found if airport is not center)
        return {
            "iata": center.iata,
            "total": len(others),
            "airports": [with_distance(km, airport) for km, _, airport in others[:limit]],
        }

    @method
    def airport(self, iata):
        """What is known of an airport."""
        return self.known("iata", iata).facts()

    def candidates(self):
        most = self.config.get("popular_pairs", POPULAR_PAIRS_DEFAULT)
        questions = expected_questions(self.state, self.hubs, most)
        self.asked.expect(questions)
        for question in questions:
            yield self.route, question

    def train(self):
        """Learns which routes are asked for. They do not change by that, so answers that are kept stay: False says so."""
        self.learn_popularity()
        return False

    def learn_popularity(self):
        decay = self.config.get("decay", DECAY_DEFAULT)
        return fold(self.state, decay, self.config.get("popular_least", POPULAR_LEAST_DEFAULT))

    def health(self):
        """An idle replica is asked now and then, which is the time to keep counts at nobody's expense."""
        self.asked.keep(KEEP_EVERY_S)
        hub = self.airports[LARGE_HUBS[0]]
        return self.routes.index.nearest(hub, 1)[0][1] is hub

    def stop(self):
        self.asked.keep()

    def known(self, name, code):
        if not isinstance(code, str):
            raise WrongArguments(f'{name} is an airport\'s code such as "SEA"')
        airport = self.airports.get(code.strip().upper())
        if airport is None:
            similar = ", ".join(similar_codes(self.airports, code, self.hubs))
            hint = f"; did you mean: {similar}?" if similar else ""
            raise WrongArguments(f"{name}: there is no airport {code!r} among the {len(self.airports)} known{hint}")
        return airport

    def least_range_km(self, start, goal):
        """Rounded up, so that a route is found with what it says."""
        return math.ceil(self.routes.clusters.least_range_km(start.iata, goal.iata) * 1000) / 1000


def with_distance(km, airport):
    return {**airport.facts(), "distance_km": round(km, 3)}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def checked_km(name, value):
    if not is_number(value) or not 0 < value <= DISTANCE_MAX_KM:
        raise WrongArguments(f"{name} is a number of kilometres, above 0 and at most {DISTANCE_MAX_KM:.0f} (half the globe)")
    return value


def checked_place(latitude, longitude):
    if not is_number(latitude) or not -90 <= latitude <= 90:
        raise WrongArguments("latitude is in degrees from -90 to 90, north above 0")
    if not is_number(longitude) or not -180 <= longitude <= 180:
        raise WrongArguments("longitude is in degrees from -180 to 180, east above 0")
    return Place(latitude, longitude)


def checked_limit(limit, most):
    if type(limit) is not int or not 1 <= limit <= most:
        raise WrongArguments(f"limit is a whole number from 1 to {most}")
