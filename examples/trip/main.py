"""An itinerary between two US airports: the legs of the shortest route and when each begins and ends.

Owns times and words; the route is the helper's, which `geo` in the manifest names.
"""

CRUISE_KM_H = 500
# Taxiing, climb and descent, beside the time at cruising speed.
EACH_LEG_MINUTES = 25
# To refuel.
EACH_STOP_MINUTES = 45


def handler(event, context):
    """`{"from": "SEA", "to": "MIA", "range_km": 1500}` -> legs with times; without a range the helper's own counts."""
    if not isinstance(event, dict) or not isinstance(event.get("from"), str) or not isinstance(event.get("to"), str):
        raise ValueError('the event has to be an object such as {"from": "SEA", "to": "MIA", "range_km": 1500}')
    arguments = {"src": event["from"].strip().upper(), "dst": event["to"].strip().upper()}
    if event.get("range_km") is not None:
        arguments["range_km"] = event["range_km"]
    # The helper has answers ready for some routes without a range, so none is named unless the event does.
    route = context.helper("geo").route(**arguments)
    if not route["found"]:
        return {
            "possible": False,
            "reason": f"no route from {route['src']} to {route['dst']} has legs of at most {route['range_km']} km; "
            f"with {route['least_range_km']} km there is one",
        }
    return {"possible": True, **itinerary(route)}


def itinerary(route):
    """Times are minutes since the first departure, as `h:mm`."""
    legs = []
    minutes = 0
    for leg in route["legs"]:
        if legs:
            minutes += EACH_STOP_MINUTES
        departs = minutes
        minutes += EACH_LEG_MINUTES + round(leg["distance_km"] / CRUISE_KM_H * 60)
        legs.append(
            {
                "from": leg["src"],
                "to": leg["dst"],
                "departs": clock(departs),
                "arrives": clock(minutes),
                "distance_km": leg["distance_km"],
            }
        )
    return {"legs": legs, "stops": route["stops"], "distance_km": route["distance_km"], "takes": clock(minutes)}


def clock(minutes):
    return f"{minutes // 60}:{minutes % 60:02}"
