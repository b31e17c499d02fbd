"""Airports by where they are.

Owns a k-d tree over points of the unit sphere: at each level the airports are halved by the next of their three coordinates,
and a search leaves out the halves that are further away than it looks.
"""

import math

from airports import DISTANCE_MAX_KM, chord_squared_of, km_of

LEAF_AIRPORTS_MAX = 16
# About what the nearest few airports are away in most of the country.
FIRST_LOOK_KM = 50.0
AXES = ("x", "y", "z")


class SpatialIndex:
    def __init__(self, airports):
        self.root = tree(list(airports), 0)

    def within(self, center, range_km):
        """`(distance in km, airport)` for each that is in range, in no order; an airport is in its own range."""
        return [(km_of(chord_squared), airport) for chord_squared, airport in self.chords_within(center, range_km)]

    def chords_within(self, center, range_km):
        """The same with squared straight lines, for who needs the distances of few."""
        limit = chord_squared_of(range_km)
        reach = math.sqrt(limit)
        x, y, z = at = center.x, center.y, center.z
        found = []
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if type(node) is list:
                for ax, ay, az, airport in node:
                    chord_squared = (ax - x) ** 2 + (ay - y) ** 2 + (az - z) ** 2
                    if chord_squared <= limit:
                        found.append((chord_squared, airport))
                continue
            axis, split, below, above = node
            if at[axis] - reach <= split:
                waiting.append(below)
            if at[axis] + reach >= split:
                waiting.append(above)
        return found

    def nearest(self, center, count, within_km=DISTANCE_MAX_KM):
        """The `count` nearest, or fewer where fewer are within `within_km`: as `within`, the nearest first, then by code."""
        look_km = min(FIRST_LOOK_KM, within_km)
        found = self.within(center, look_km)
        while len(found) < count and look_km < within_km:
            look_km = min(look_km * 2, within_km)
            found = self.within(center, look_km)
        return sorted(found, key=lambda one: (one[0], one[1].iata))[:count]


def tree(airports, depth):
    """A list of airports with their coordinates, or `(axis, split, those up to it, those from it)`."""
    if len(airports) <= LEAF_AIRPORTS_MAX:
        return [(airport.x, airport.y, airport.z, airport) for airport in airports]
    axis = depth % 3
    airports.sort(key=lambda airport: getattr(airport, AXES[axis]))
    middle = len(airports) // 2
    split = getattr(airports[middle], AXES[axis])
    return axis, split, tree(airports[:middle], depth + 1), tree(airports[middle:], depth + 1)
