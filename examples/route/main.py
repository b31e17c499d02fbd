"""The shortest way between two US airports when no leg may be longer than the aircraft's range.

An A* search over all the airports of airports.csv. Distances are great circles on a sphere, so the straight line to the
goal never overestimates what is left and the route found is the shortest there is. A grid over the globe finds the
airports in range without looking at all of them.
"""

import csv
import heapq
import math
import os

EARTH_RADIUS_KM = 6371.0088
CELL_DEGREES = 2.0
SUGGESTIONS_MAX = 5
# Far below the metre to which distances are given, far above the rounding error of the arithmetic.
ROUNDING_KM = 1e-6


class Airport:
    """A place, with what distances need computed once."""

    __slots__ = ("code", "name", "latitude", "longitude", "phi", "lam", "cos_phi")

    def __init__(self, code, name, latitude, longitude):
        self.code = code
        self.name = name
        self.latitude = latitude
        self.longitude = longitude
        self.phi = math.radians(latitude)
        self.lam = math.radians(longitude)
        self.cos_phi = math.cos(self.phi)


def distance_km(a, b):
    """Great-circle distance by the haversine formula."""
    half_phi = math.sin((b.phi - a.phi) / 2)
    half_lam = math.sin((b.lam - a.lam) / 2)
    h = half_phi * half_phi + a.cos_phi * b.cos_phi * half_lam * half_lam
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


class Grid:
    """Airports by cells of latitude and longitude; longitude wraps around."""

    def __init__(self, airports):
        self.columns = int(360 / CELL_DEGREES)
        self.rows = int(180 / CELL_DEGREES)
        self.cells = {}
        for airport in airports:
            self.cells.setdefault(self.cell(airport), []).append(airport)

    def cell(self, airport):
        row = min(self.rows - 1, int((airport.latitude + 90) / CELL_DEGREES))
        return row, int((airport.longitude + 180) / CELL_DEGREES) % self.columns

    def within(self, center, range_km):
        """Airports of all cells that a circle of `range_km` can touch: every one in range, and some beyond."""
        angle = range_km / EARTH_RADIUS_KM
        row, column = self.cell(center)
        row_reach = int(math.degrees(angle) / CELL_DEGREES) + 1
        column_reach = self.columns // 2
        if abs(center.phi) + angle < math.pi / 2:
            # The circle's widest longitude lies poleward of its centre; around a pole it is all of them.
            lam_reach = math.asin(min(1.0, math.sin(angle) / center.cos_phi))
            column_reach = min(column_reach, int(math.degrees(lam_reach) / CELL_DEGREES) + 1)
        columns = {(column + step) % self.columns for step in range(-column_reach, column_reach + 1)}
        for near_row in range(max(0, row - row_reach), min(self.rows, row + row_reach + 1)):
            for near_column in columns:
                yield from self.cells.get((near_row, near_column), ())


def load_airports(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {
            row["iata"]: Airport(row["iata"], row["name"], float(row["latitude"]), float(row["longitude"]))
            for row in csv.DictReader(file)
        }


def find_route(airports, grid, start, goal, range_km):
    """The airports on the shortest route and how many the search looked at from; None where there is no route.

    Of two equally long routes the one through the alphabetically first codes is taken, so that answers never vary.
    """
    best_km = {start.code: 0.0}
    came_from = {}
    done = set()
    bound_km = {}
    queue = [(distance_km(start, goal), start.code)]
    while queue:
        _, code = heapq.heappop(queue)
        if code in done:
            continue
        done.add(code)
        if code == goal.code:
            return rebuild(airports, came_from, code), len(done)
        here = airports[code]
        here_km = best_km[code]
        for there in grid.within(here, range_km):
            if there.code in done:
                continue
            leg_km = distance_km(here, there)
            if leg_km > range_km:
                continue
            total_km = here_km + leg_km
            known_km = best_km.get(there.code)
            if known_km is None or total_km < known_km - ROUNDING_KM:
                best_km[there.code] = total_km
                came_from[there.code] = code
                if there.code not in bound_km:
                    bound_km[there.code] = distance_km(there, goal)
                heapq.heappush(queue, (total_km + bound_km[there.code], there.code))
    return None, len(done)


def rebuild(airports, came_from, code):
    route = [airports[code]]
    while code in came_from:
        code = came_from[code]
        route.append(airports[code])
    return route[::-1]


def require_airport(event, field):
    code = event.get(field)
    if not isinstance(code, str):
        raise ValueError(f'"{field}" has to be an airport code such as "SEA"')
    airport = AIRPORTS.get(code.strip().upper())
    if airport is None:
        similar = sorted(known for known in AIRPORTS if known[:2] == code.strip().upper()[:2])[:SUGGESTIONS_MAX]
        hint = f"; codes that begin alike: {', '.join(similar)}" if similar else ""
        raise ValueError(f'no airport "{code}" among the {len(AIRPORTS)} known{hint}')
    return airport


def require_range_km(event):
    range_km = event.get("range_km")
    if isinstance(range_km, bool) or not isinstance(range_km, (int, float)) or not range_km > 0:
        raise ValueError('"range_km" has to be a number above 0: the longest leg in kilometres')
    return min(float(range_km), math.pi * EARTH_RADIUS_KM)


def handler(event, context):
    """`{"from": "SEA", "to": "MIA", "range_km": 1500}` -> route, legs, total, and how many airports were explored."""
    if not isinstance(event, dict):
        raise ValueError('the event has to be an object: {"from": "SEA", "to": "MIA", "range_km": 1500}')
    start = require_airport(event, "from")
    goal = require_airport(event, "to")
    range_km = require_range_km(event)
    route, explored = find_route(AIRPORTS, GRID, start, goal, range_km)
    if route is None:
        raise ValueError(
            f"no route from {start.code} to {goal.code} with legs of at most {range_km:g} km: "
            f"{explored} airports can be reached from {start.code}"
        )
    legs = [(a, b, distance_km(a, b)) for a, b in zip(route, route[1:])]
    return {
        "route": [airport.code for airport in route],
        "legs": [{"from": a.code, "to": b.code, "km": round(km, 3)} for a, b, km in legs],
        "total_km": round(sum(km for _, _, km in legs), 3),
        "explored": explored,
    }


AIRPORTS = load_airports(os.path.join(os.path.dirname(os.path.abspath(__file__)), "airports.csv"))
GRID = Grid(AIRPORTS.values())
