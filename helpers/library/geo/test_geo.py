"""Routes, ranges and neighbours against plain searches over all pairs, known facts, what is counted, and what is refused."""

import heapq
import json
import math
import os
import random
import unittest
from unittest import mock

from raas import WrongArguments

import geo
import popularity
from airports import Place, distance_km, load_airports
from routes import Routes

FOLDER = os.path.dirname(os.path.abspath(__file__))
AIRPORTS = load_airports(geo.AIRPORTS_CSV)
ROUTES = Routes(AIRPORTS.values())


def started(config=None, state=None):
    """A replica, with the state of another one where that is given."""
    replica = geo.Geo()
    replica.config = config or {}
    replica._state = state
    # Every replica would build the same; once is enough for all tests.
    with mock.patch("geo.Routes", lambda airports: ROUTES), mock.patch("geo.load_airports", lambda path: AIRPORTS):
        replica.start()
    return replica


def haversine_km(a, b):
    """The distance by another formula than the helper's."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    half_phi, half_lam = (phi_b - phi_a) / 2, math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_phi) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lam) ** 2
    return 2 * 6371.0088 * math.asin(min(1.0, math.sqrt(h)))


def dijkstra(airports, start, leg_cost, joined):
    """The cost of getting from `start` to each airport that can be reached, looking at every pair."""
    best = {start.iata: 0.0}
    done = set()
    queue = [(0.0, start.iata)]
    while queue:
        cost, code = heapq.heappop(queue)
        if code in done:
            continue
        done.add(code)
        for there in airports.values():
            leg = leg_cost(airports[code], there)
            if leg is not None and joined(cost, leg) < best.get(there.iata, math.inf):
                best[there.iata] = joined(cost, leg)
                heapq.heappush(queue, (best[there.iata], there.iata))
    return best


class Searches(unittest.TestCase):
    def setUp(self):
        self.chance = random.Random(17)
        self.codes = sorted(AIRPORTS)

    def part(self, count):
        """Airports of any kind, and some of the far-off ones."""
        codes = self.chance.sample(self.codes, count)
        return {code: AIRPORTS[code] for code in codes + ["ADK", "BRW", "GUM", "HNL", "PPG", "SJU"]}

    def test_routes_are_the_shortest_by_brute_force(self):
        found = 0
        for _ in range(40):
            part = self.part(80)
            routes = Routes(part.values())
            start = self.chance.choice(list(part.values()))
            range_km = self.chance.choice((200, 400, 700, 1200, 2500, 5000))

            def leg_km(a, b):
                return haversine_km(a, b) if haversine_km(a, b) <= range_km else None

            best_km = dijkstra(part, start, leg_km, lambda cost, leg: cost + leg)
            for goal in part.values():
                route = routes.find(start, goal, range_km)
                if goal.iata not in best_km:
                    self.assertIsNone(route, (start.iata, goal.iata, range_km))
                    continue
                found += len(route) > 2
                legs = [haversine_km(a, b) for a, b in zip(route, route[1:])]
                self.assertEqual((route[0], route[-1]), (start, goal))
                self.assertLessEqual(max(legs, default=0), range_km)
                self.assertAlmostEqual(sum(legs), best_km[goal.iata], places=4)
        self.assertGreater(found, 500)

    def test_routes_over_all_airports_are_the_shortest(self):
        for src, dst, range_km in (("SEA", "MIA", 300), ("ANC", "JFK", 1000), ("HNL", "BOS", 4000), ("UDG", "SHX", 1500)):
            start, goal = AIRPORTS[src], AIRPORTS[dst]
            route = ROUTES.find(start, goal, range_km)
            total_km = sum(haversine_km(a, b) for a, b in zip(route, route[1:]))
            # Whatever is shorter leads over airports on the way only, which is what makes this end.
            on_the_way = {
                code: airport
                for code, airport in AIRPORTS.items()
                if haversine_km(start, airport) + haversine_km(airport, goal) <= total_km + 1e-6
            }

            def leg_km(a, b):
                km = distance_km(a, b)
                return km if km <= range_km else None

            best_km = dijkstra(on_the_way, start, leg_km, lambda cost, leg: cost + leg)
            self.assertAlmostEqual(total_km, best_km[dst], places=4)

    def test_least_range_by_brute_force(self):
        for _ in range(10):
            part = self.part(80)
            routes = Routes(part.values())
            start = self.chance.choice(list(part.values()))
            best_km = dijkstra(part, start, haversine_km, max)
            for goal in part.values():
                self.assertAlmostEqual(routes.clusters.least_range_km(start.iata, goal.iata), best_km[goal.iata], places=6)

    def test_neighbours_by_brute_force(self):
        # Across the date line and at both poles as well.
        places = [Place(0, 180), Place(0, -180), Place(90, 0), Place(-90, 45), AIRPORTS["ADK"], AIRPORTS["GUM"]]
        places += [Place(self.chance.uniform(-90, 90), self.chance.uniform(-180, 180)) for _ in range(20)]
        for place in places:
            expected = sorted((haversine_km(place, airport), airport.iata) for airport in AIRPORTS.values())
            for range_km in (10, 200, 3000, 12000, 20015):
                found = sorted(km for km, _ in ROUTES.index.within(place, range_km))
                plain = [km for km, _ in expected if km <= range_km]
                self.assertEqual(len(found), len(plain))
                self.assertTrue(all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(found, plain)))
            for count in (1, 7, 60):
                found = [airport.iata for _, airport in ROUTES.index.nearest(place, count)]
                self.assertEqual(found, [code for _, code in expected[:count]])

    def test_distance_by_another_formula(self):
        for _ in range(2000):
            a, b = (AIRPORTS[code] for code in self.chance.sample(self.codes, 2))
            self.assertAlmostEqual(distance_km(a, b), haversine_km(a, b), places=6)


class Methods(unittest.TestCase):
    def setUp(self):
        self.helper = started()

    def test_known_distances(self):
        # Great circles between these airports as published.
        for src, dst, km in (("SEA", "MIA", 4380), ("JFK", "LAX", 3974), ("SEA", "ATL", 3508), ("LAX", "HNL", 4113)):
            answer = self.helper.route(src, dst, 6000)
            self.assertEqual((answer["found"], answer["stops"]), (True, []))
            self.assertAlmostEqual(answer["distance_km"], km, delta=10)

    def test_a_route_adds_up(self):
        answer = self.helper.route(" sea", "MIA")
        self.assertEqual((answer["src"], answer["dst"], answer["range_km"]), ("SEA", "MIA", 1500))
        ends = [leg["src"] for leg in answer["legs"]] + ["MIA"]
        self.assertEqual(ends, ["SEA", *answer["stops"], answer["legs"][-1]["dst"]])
        self.assertLessEqual(max(leg["distance_km"] for leg in answer["legs"]), 1500)
        self.assertAlmostEqual(sum(leg["distance_km"] for leg in answer["legs"]), answer["distance_km"], places=2)
        self.assertEqual(answer, self.helper.route("SEA", "MIA", 1500))
        self.assertEqual(self.helper.route("SEA", "SEA")["distance_km"], 0)

    def test_no_route_says_what_range_there_would_have_to_be(self):
        answer = self.helper.route("SEA", "HNL")
        self.assertEqual((answer["found"], answer.get("legs")), (False, None))
        least_km = answer["least_range_km"]
        # Nothing is nearer to Hawaii than California, some 3,600 km away.
        self.assertTrue(3500 < least_km < 3900, least_km)
        self.assertTrue(self.helper.route("SEA", "HNL", least_km)["found"])
        self.assertFalse(self.helper.route("SEA", "HNL", least_km - 0.01)["found"])

    def test_the_islands_are_where_they_are(self):
        self.assertAlmostEqual(self.helper.route("HNL", "GUM", 9000)["distance_km"], 6120, delta=20)
        self.assertAlmostEqual(self.helper.route("HNL", "PPG", 9000)["distance_km"], 4190, delta=20)

    def test_nearest(self):
        found = self.helper.nearest(47.6205, -122.3493)
        self.assertEqual((len(found), found[0]["iata"], found[0]["city"]), (5, "BFI", "Seattle"))
        self.assertEqual(sorted(one["distance_km"] for one in found), [one["distance_km"] for one in found])
        self.assertEqual(self.helper.nearest(0, 0, within_km=100), [])
        self.assertEqual(len(self.helper.nearest(0, 0, limit=100)), 100)

    def test_within(self):
        found = self.helper.within("SEA", 50)
        codes = [one["iata"] for one in found["airports"]]
        self.assertTrue("BFI" in codes and "SEA" not in codes)
        self.assertEqual(found["total"], len(codes))
        few = self.helper.within("SEA", 50, limit=1)
        self.assertEqual((few["total"], few["airports"]), (found["total"], found["airports"][:1]))
        everywhere = self.helper.within("SEA", 20_000, limit=1000)
        self.assertEqual((everywhere["total"], len(everywhere["airports"])), (len(AIRPORTS) - 1, 1000))

    def test_airport(self):
        answer = self.helper.airport("sea")
        self.assertEqual((answer["iata"], answer["city"], answer["state"]), ("SEA", "Seattle", "WA"))
        self.assertIsNone(self.helper.airport("MQT")["city"])

    def test_unknown_codes_are_refused_with_those_that_may_be_meant(self):
        for code, meant in (("KSEA", "SEA"), ("ESA", "SEA"), ("SEEA", "SEA"), ("Seattle", "SEA"), ("boston", "BOS")):
            with self.subTest(code), self.assertRaisesRegex(WrongArguments, f"did you mean: .*{meant}"):
                self.helper.airport(code)
        with self.assertRaisesRegex(WrongArguments, "dst: there is no airport '#'"):
            self.helper.route("SEA", "#")

    def test_wrong_arguments_are_refused(self):
        helper = self.helper
        for call in (
            lambda: helper.route(7, "SEA"),
            lambda: helper.route("SEA", "MIA", 0),
            lambda: helper.route("SEA", "MIA", -5),
            lambda: helper.route("SEA", "MIA", math.nan),
            lambda: helper.route("SEA", "MIA", True),
            lambda: helper.route("SEA", "MIA", "far"),
            lambda: helper.route("SEA", "MIA", 30_000),
            lambda: helper.nearest(91, 0),
            lambda: helper.nearest(0, -181),
            lambda: helper.nearest("0", 0),
            lambda: helper.nearest(0, 0, limit=0),
            lambda: helper.nearest(0, 0, limit=geo.NEAREST_LIMIT_MAX + 1),
            lambda: helper.nearest(0, 0, within_km=-1),
            lambda: helper.within("SEA", None),
            lambda: helper.within("SEA", 10, limit=1.5),
            lambda: helper.airport(None),
        ):
            with self.assertRaises(WrongArguments):
                call()

    def test_schemas_name_the_parameters_and_the_configuration(self):
        names = {"route": "src dst range_km", "nearest": "latitude longitude limit within_km"}
        names.update({"within": "iata range_km limit", "airport": "iata"})
        names["config"] = "range_km hubs popular_pairs popular_least decay"
        for name, properties in names.items():
            with open(os.path.join(FOLDER, "schemas", f"{name}.json"), encoding="utf-8") as file:
                self.assertEqual(list(json.load(file)["properties"]), properties.split())

    def test_configuration(self):
        helper = started({"range_km": 800, "hubs": ["SEA", "PDX"]})
        self.assertEqual(helper.route("SEA", "MIA")["range_km"], 800)
        self.assertEqual([question for _, question in helper.candidates()], [["SEA", "PDX"], ["PDX", "SEA"]])
        with self.assertRaisesRegex(ValueError, "no known airports: XXXX"):
            started({"hubs": ["SEA", "XXXX"]})

    def test_health(self):
        self.assertTrue(self.helper.health())


class Popularity(unittest.TestCase):
    def questions(self, helper):
        return [question for _, question in helper.candidates()]

    def test_a_fresh_instance_expects_pairs_of_hubs(self):
        questions = self.questions(started())
        self.assertEqual(questions[0], ["ATL", "DFW"])
        self.assertEqual(len(questions), geo.POPULAR_PAIRS_DEFAULT)
        self.assertEqual(len({tuple(question) for question in questions}), len(questions))
        self.assertLessEqual(set(popularity.LARGE_HUBS), set(AIRPORTS))

    def test_what_is_asked_becomes_popular_and_is_forgotten(self):
        helper = started({"popular_pairs": 3})
        for _ in range(3):
            helper.route("bfi", "HNL", 900)
        helper.route("BFI", "HNL")
        self.assertEqual(helper.state.list(), [], "a question costs no write")
        helper.stop()
        self.assertEqual(helper.learn_popularity(), {"asked": 4, "popular": 2})
        self.assertEqual(helper.state.list(), [popularity.POPULAR])
        self.assertEqual(self.questions(helper), [["BFI", "HNL", 900], ["BFI", "HNL"], ["ATL", "DFW"]])
        # 1 and 0.8, 0.64, 0.51, then it is less than a half.
        self.assertEqual([helper.learn_popularity()["popular"] for _ in range(4)], [2, 2, 2, 1])
        self.assertEqual(self.questions(helper)[:2], [["BFI", "HNL", 900], ["ATL", "DFW"]])

    def test_what_several_replicas_were_asked_adds_up(self):
        first = started()
        second = started(state=first.state)
        for helper in (first, second, second):
            helper.route("BFI", "RNT")
        first.stop()
        second.stop()
        first.stop()
        self.assertEqual(len(first.state.list(popularity.ASKED_PREFIX)), 2)
        first.learn_popularity()
        self.assertEqual(popularity.popular(second.state), [[["BFI", "RNT"], 3]])

    def test_computing_ahead_does_not_count(self):
        helper = started({"popular_pairs": 2})
        for question in self.questions(helper):
            helper.route(*question)
        helper.stop()
        self.assertEqual(helper.learn_popularity(), {"asked": 0, "popular": 0})
        helper.route("ATL", "DFW")
        helper.stop()
        self.assertEqual(helper.learn_popularity(), {"asked": 1, "popular": 1})

    def test_counts_are_kept_now_and_then(self):
        helper = started()
        helper.route("BFI", "RNT")
        helper.health()
        self.assertEqual(helper.state.list(), [])
        helper.asked.kept_at -= popularity.KEEP_EVERY_S
        helper.health()
        self.assertEqual(len(helper.state.list(popularity.ASKED_PREFIX)), 1)
        helper.health()
        self.assertEqual(len(helper.state.list(popularity.ASKED_PREFIX)), 1)

    def test_different_questions_have_an_upper_limit(self):
        asked = popularity.AskedQuestions(started().state)
        for number in range(popularity.QUESTIONS_COUNTED_MAX + 10):
            asked.count(["SEA", "MIA", number])
        asked.count(["SEA", "MIA", 1])
        self.assertEqual((len(asked.counts), asked.counts["SEA", "MIA", 1]), (popularity.QUESTIONS_COUNTED_MAX, 2))
        asked.keep()


if __name__ == "__main__":
    unittest.main()
