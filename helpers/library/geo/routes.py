"""The shortest way between two airports when no leg may be longer than a range, and the least range that leads there at all.

Owns both searches; what they return is exact, not near it.
"""

import heapq
import math

from airports import distance_km, km_of
from spatial_index import FIRST_LOOK_KM, SpatialIndex

# How much longer than the direct line a route is at first allowed to be, then, then, then.
DETOURS = (0.001, 0.01, 0.1)
# Far below the metre to which distances are given, far above the rounding error of the arithmetic.
ROUNDING_KM = 1e-6


class Routes:
    def __init__(self, airports):
        self.airports = list(airports)
        self.index = SpatialIndex(self.airports)
        self.clusters = Clusters(self.airports, self.index)

    def find(self, start, goal, range_km):
        """The airports of the shortest route, both ends with it. None where there is none: see `Clusters`.

        A route of at most some length only leads over airports whose distances to both ends add up to no more: the inside of
        an ellipse. So the search begins in a narrow one, which has few airports and nearly always the shortest route, and
        what it finds there is the shortest of all.
        """
        direct_km = distance_km(start, goal)
        if start is goal:
            return [start]
        if direct_km <= range_km:
            return [start, goal]
        if self.clusters.least_range_km(start.iata, goal.iata) > range_km:
            return None
        for detour in DETOURS:
            longest_km = direct_km * (1 + detour) + ROUNDING_KM
            inside = [
                airport
                for airport in self.airports
                if distance_km(start, airport) + distance_km(airport, goal) <= longest_km
            ]
            route = shortest(SpatialIndex(inside), start, goal, range_km, longest_km)
            if route is not None:
                return route
        return shortest(self.index, start, goal, range_km, math.inf)


class Clusters:
    """At which range which airports hang together: the shortest legs first, each that joins two clusters is kept (Kruskal).

    A kept leg links the main airport of the smaller cluster to that of the larger, so that ways to the root are short and
    along each the legs get longer.
    """

    def __init__(self, airports, index):
        self.links = {}
        self.sizes = {airport.iata: 1 for airport in airports}
        look_km = FIRST_LOOK_KM
        outside = airports
        while outside:
            # One end of a leg between clusters is always outside the largest.
            legs = [
                (km, airport.iata, near.iata)
                for airport in outside
                for km, near in index.within(airport, look_km)
                if self.main(airport.iata) != self.main(near.iata)
            ]
            for km, one, other in sorted(legs):
                self.join(one, other, km)
            largest = max(self.sizes, key=self.sizes.get)
            outside = [airport for airport in airports if self.main(airport.iata) != largest]
            look_km *= 2

    def main(self, code):
        while code in self.links:
            code = self.links[code][0]
        return code

    def join(self, one, other, km):
        smaller, larger = sorted((self.main(one), self.main(other)), key=self.sizes.get)
        if smaller != larger:
            self.links[smaller] = (larger, km)
            self.sizes[larger] += self.sizes[smaller]

    def least_range_km(self, one, other):
        """The longest leg of the way between two airports whose longest leg is the shortest."""
        least_km = 0.0
        while one != other:
            # The end that was joined by the shorter leg was joined first: the other's cluster cannot be inside its own.
            if other in self.links and (one not in self.links or self.links[other][1] < self.links[one][1]):
                one, other = other, one
            one, least_km = self.links[one]
        return least_km


def shortest(index, start, goal, range_km, longest_km):
    """A* over the airports of `index`; None where there is no route of at most `longest_km`.

    The direct line never overestimates what is left. Nothing here depends on chance or on earlier calls: of two equally long
    routes it is always the same one that is taken.
    """
    best_km = {start.iata: 0.0}
    came_from = {}
    done = set()
    left_km = {}
    queue = [(distance_km(start, goal), start.iata, start)]
    while queue:
        _, _, here = heapq.heappop(queue)
        if here.iata in done:
            continue
        done.add(here.iata)
        if here is goal:
            return rebuilt(came_from, goal)
        here_km = best_km[here.iata]
        for chord_squared, there in index.chords_within(here, range_km):
            known_km = best_km.get(there.iata, math.inf)
            if known_km <= here_km:
                continue
            total_km = here_km + km_of(chord_squared)
            if total_km >= known_km - ROUNDING_KM:
                continue
            if there.iata not in left_km:
                left_km[there.iata] = distance_km(there, goal)
            expected_km = total_km + left_km[there.iata]
            if expected_km > longest_km:
                continue
            if there is goal:
                # Whatever is to be better has to be shorter than this.
                longest_km = total_km + ROUNDING_KM
            best_km[there.iata] = total_km
            came_from[there.iata] = here
            heapq.heappush(queue, (expected_km, there.iata, there))
    return None


def rebuilt(came_from, goal):
    route = [goal]
    while route[-1].iata in came_from:
        route.append(came_from[route[-1].iata])
    return route[::-1]
