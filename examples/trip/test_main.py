"""Times and refusals, with an object in place of the helper."""

import unittest

import main

TWO_LEGS = {
    "found": True,
    "src": "SEA",
    "dst": "MIA",
    "range_km": 2500,
    "legs": [
        {"src": "SEA", "dst": "DSM", "distance_km": 2000.0},
        {"src": "DSM", "dst": "MIA", "distance_km": 2400.0},
    ],
    "distance_km": 4400.0,
    "stops": ["DSM"],
}


class Geo:
    """Stands in for the helper: remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def route(self, **arguments):
        self.asked.append(arguments)
        return self.answer


class Context:
    def __init__(self, geo):
        self.geo = geo

    def helper(self, name):
        return {"geo": self.geo}[name]


class Handler(unittest.TestCase):
    def test_times(self):
        geo = Geo(TWO_LEGS)
        answer = main.handler({"from": " sea", "to": "MIA", "range_km": 2500}, Context(geo))
        self.assertEqual(geo.asked, [{"src": "SEA", "dst": "MIA", "range_km": 2500}])
        self.assertEqual([(leg["departs"], leg["arrives"]) for leg in answer["legs"]], [("0:00", "4:25"), ("5:10", "10:23")])
        self.assertEqual((answer["possible"], answer["takes"], answer["stops"]), (True, "10:23", ["DSM"]))

    def test_no_range_is_the_helpers_own(self):
        geo = Geo({**TWO_LEGS, "legs": [], "stops": [], "distance_km": 0})
        self.assertEqual(main.handler({"from": "SEA", "to": "SEA", "range_km": None}, Context(geo))["takes"], "0:00")
        self.assertEqual(geo.asked, [{"src": "SEA", "dst": "SEA"}])

    def test_no_route_says_what_would_do(self):
        geo = Geo({"found": False, "src": "SEA", "dst": "HNL", "range_km": 1500, "least_range_km": 3704.5})
        answer = main.handler({"from": "SEA", "to": "HNL"}, Context(geo))
        self.assertFalse(answer["possible"])
        self.assertIn("with 3704.5 km there is one", answer["reason"])

    def test_refusals(self):
        for event in ([], {}, {"from": "SEA"}, {"from": "SEA", "to": 7}):
            with self.subTest(event), self.assertRaisesRegex(ValueError, "has to be an object"):
                main.handler(event, Context(Geo(TWO_LEGS)))


if __name__ == "__main__":
    unittest.main()
