"""The route against a brute-force search over all pairs, on a small part of the airports, and the answer's shape."""

import math
import random
import unittest

import main


def brute_force_km(airports, start, goal, range_km):
    """The shortest distance by relaxing every pair until nothing changes (Bellman-Ford)."""
    best = {airport.code: math.inf for airport in airports}
    best[start.code] = 0.0
    legs = [(a, b, main.distance_km(a, b)) for a in airports for b in airports if a is not b]
    legs = [leg for leg in legs if leg[2] <= range_km]
    changed = True
    while changed:
        changed = False
        for a, b, km in legs:
            if best[a.code] + km < best[b.code]:
                best[b.code] = best[a.code] + km
                changed = True
    return best[goal.code]


class Routes(unittest.TestCase):
    def test_shortest_as_by_brute_force(self):
        chance = random.Random(11)
        everywhere = sorted(main.AIRPORTS)
        found = 0
        for _ in range(30):
            part = {code: main.AIRPORTS[code] for code in chance.sample(everywhere, 60)}
            grid = main.Grid(part.values())
            start, goal = chance.sample(list(part.values()), 2)
            range_km = chance.choice((300, 600, 1200, 2500, 6000))
            expected_km = brute_force_km(part.values(), start, goal, range_km)
            route, _ = main.find_route(part, grid, start, goal, range_km)
            if math.isinf(expected_km):
                self.assertIsNone(route)
                continue
            found += 1
            legs = [main.distance_km(a, b) for a, b in zip(route, route[1:])]
            self.assertTrue(all(km <= range_km for km in legs))
            self.assertAlmostEqual(sum(legs), expected_km, places=4)
        self.assertGreater(found, 10)

    def test_grid_misses_no_airport_in_range(self):
        # Across the date line and near the pole as well: Adak, Shemya, Barrow, Guam.
        chance = random.Random(5)
        codes = ["ADK", "SYA", "BRW", "GUM", *chance.sample(sorted(main.AIRPORTS), 8)]
        for center in (main.AIRPORTS[code] for code in codes if code in main.AIRPORTS):
            for range_km in (50, 400, 2000, 9000, 20000):
                near = {airport.code for airport in main.GRID.within(center, range_km)}
                for airport in main.AIRPORTS.values():
                    if main.distance_km(center, airport) <= range_km:
                        self.assertIn(airport.code, near, (center.code, range_km))

    def test_known_distance(self):
        # Seattle-Tacoma to Miami is about 4,380 km.
        self.assertAlmostEqual(main.distance_km(main.AIRPORTS["SEA"], main.AIRPORTS["MIA"]), 4380, delta=20)


class Handler(unittest.TestCase):
    def test_answer(self):
        answer = main.handler({"from": "sea", "to": "MIA", "range_km": 1500}, None)
        self.assertEqual((answer["route"][0], answer["route"][-1]), ("SEA", "MIA"))
        self.assertEqual([leg["from"] for leg in answer["legs"]], answer["route"][:-1])
        self.assertTrue(all(leg["km"] <= 1500 for leg in answer["legs"]))
        self.assertAlmostEqual(sum(leg["km"] for leg in answer["legs"]), answer["total_km"], places=2)
        self.assertEqual(answer, main.handler({"from": "SEA", "to": "MIA", "range_km": 1500.0}, None))

    def test_same_airport(self):
        answer = main.handler({"from": "SEA", "to": "SEA", "range_km": 1}, None)
        self.assertEqual(answer, {"route": ["SEA"], "legs": [], "total_km": 0, "explored": 1})

    def test_refusals_say_what_is_wrong(self):
        for event, message in (
            ({"from": "SEQQ", "to": "MIA", "range_km": 1500}, 'no airport "SEQQ"'),
            ({"from": "SEA", "range_km": 1500}, '"to" has to be'),
            ({"from": "SEA", "to": "MIA"}, '"range_km" has to be'),
            ({"from": "SEA", "to": "MIA", "range_km": -1}, '"range_km" has to be'),
            ({"from": "SEA", "to": "HNL", "range_km": 500}, "no route from SEA to HNL"),
            ([], "has to be an object"),
        ):
            with self.subTest(event), self.assertRaises(ValueError) as caught:
                main.handler(event, None)
            self.assertIn(message, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
