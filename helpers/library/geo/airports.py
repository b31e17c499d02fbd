"""The airports of airports.csv, how far apart they are, and which ones somebody may have meant by a code that is none.

Owns what an airport is. Places are points of the unit sphere: the straight line between two of them orders distances as the
great circle does and costs no trigonometry, and neither the date line nor the poles are special.
"""

import csv
import math

EARTH_RADIUS_KM = 6371.0088
# No two places are further apart.
DISTANCE_MAX_KM = math.pi * EARTH_RADIUS_KM
SUGGESTIONS_MAX = 5
# What the file says where nothing is known.
UNKNOWN = "NA"
# The file has these with the wrong sign: Guam and the Northern Marianas lie east, American Samoa lies south.
EASTERN_STATES = ("GU", "CQ")
SOUTHERN_STATES = ("AS",)


class Place:
    """A point of the unit sphere."""

    __slots__ = ("latitude", "longitude", "x", "y", "z")

    def __init__(self, latitude, longitude):
        self.latitude = latitude
        self.longitude = longitude
        phi, lam = math.radians(latitude), math.radians(longitude)
        self.x = math.cos(phi) * math.cos(lam)
        self.y = math.cos(phi) * math.sin(lam)
        self.z = math.sin(phi)


class Airport(Place):
    __slots__ = ("iata", "name", "city", "state", "country")

    def __init__(self, row):
        latitude, longitude = float(row["latitude"]), float(row["longitude"])
        super().__init__(
            -latitude if row["state"] in SOUTHERN_STATES else latitude,
            -longitude if row["state"] in EASTERN_STATES else longitude,
        )
        self.iata = row["iata"]
        self.name = row["name"]
        self.city, self.state, self.country = (
            None if row[field] == UNKNOWN else row[field] for field in ("city", "state", "country")
        )

    def facts(self):
        """For an answer."""
        fields = ("iata", "name", "city", "state", "country", "latitude", "longitude")
        return {field: getattr(self, field) for field in fields}


def load_airports(path):
    """Airports by code."""
    with open(path, newline="", encoding="utf-8") as file:
        return {row["iata"]: Airport(row) for row in csv.DictReader(file)}


def chord_squared(a, b):
    """The square of the straight line between two places, for comparing distances."""
    return (a.x - b.x) ** 2 + (a.y - b.y) ** 2 + (a.z - b.z) ** 2


def chord_squared_of(km):
    return (2 * math.sin(min(km, DISTANCE_MAX_KM) / (2 * EARTH_RADIUS_KM))) ** 2


def km_of(chord_squared):
    """The great circle over a straight line; the haversine formula is this one in other words."""
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord_squared) / 2))


def distance_km(a, b):
    return km_of(chord_squared(a, b))


def similar_codes(airports, text, preferred):
    """Codes that `text` may have meant: of a city by that name, or one slip away. `preferred` ones come first."""
    wanted = text.strip().upper()
    of_city = [airport.iata for airport in airports.values() if (airport.city or "").upper() == wanted]
    one_slip = sorted(code for code in airports if is_one_slip_away(code, wanted))
    return sorted(sorted(of_city) + one_slip, key=lambda code: code not in preferred)[:SUGGESTIONS_MAX]


def is_one_slip_away(code, text):
    """Whether one character is wrong, missing or too much, as the K of KSEA, or two neighbours have changed places."""
    if len(code) == len(text):
        wrong = [place for place in range(len(code)) if code[place] != text[place]]
        if len(wrong) == 2 and wrong[1] == wrong[0] + 1:
            return code[wrong[0]] == text[wrong[1]] and code[wrong[1]] == text[wrong[0]]
        return len(wrong) == 1
    longer, shorter = sorted((code, text), key=len, reverse=True)
    return any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))
