"""INIT's `check.record_reads`: what of the event the READS frame names, and that the handler sees what it would see without."""

import json
import unittest

from runtime_process import ERROR, READS, RESULT, Runtime, started

EVENT = {
    "from": "SEA",
    "to": "JFK",
    "n": 3,
    "none": None,
    "stops": [{"at": "DEN", "h": 2}, {"at": "ORD", "h": 1}],
    "opts": {"deep": {"x": 1, "y": [1, 2, 3]}, "empty": {}, "list": []},
    "heap": [5, 4, 3],
    "nested": [[1, 2], [3]],
    "a/b": {"c~d": 1, "": 2},
}
WHOLE = None

# What a handler does with the event, and which pointers READS has then, or WHOLE.
CASES = {
    # Members and items.
    "getitem": ("event['from']", ["/from"]),
    "get": ("event.get('from')", ["/from"]),
    "null": ("event['none']", ["/none"]),
    "twice": ("[event['from'], event.get('from')]", ["/from"]),
    "absent get": ("event.get('via', 'none')", ["/via"]),
    "absent get, part as default": ("event.get('via', event['opts'])['empty']", ["/via", "/opts/empty"]),
    "absent getitem": ("missing(lambda: event['via'])", ["/via"]),
    "absent item": ("missing(lambda: event['heap'][7])", ["/heap/7"]),
    "in": ("['from' in event, 'via' in event, 1 in event]", ["/from", "/via"]),
    "deep": ("event['opts']['deep']['x']", ["/opts/deep/x"]),
    "item": ("event['stops'][1]['at']", ["/stops/1/at"]),
    "item from the end": ("event['stops'][-1]['at']", ["/stops"]),
    "slice": ("event['heap'][:2]", ["/heap"]),
    "escaped names": ("[event['a/b']['c~d'], event['a/b']['']]", ["/a~1b/c~0d", "/a~1b/"]),
    "pop": ("[event.pop('from'), event.pop('via', 1), missing(lambda: event.pop('gone'))]", ["/from", "/via", "/gone"]),
    "setdefault": ("[event.setdefault('from', 1), event.setdefault('via', 2)]", ["/from", "/via"]),
    "key of a str class": ("event[Name('from')]", ["/from"]),
    "key with its own equality": ("event.get(Equal())", WHOLE),
    "unhashable key": ("missing(lambda: event[[]])", []),
    "itemgetter": ("operator.itemgetter('from', 'to')(event)", ["/from", "/to"]),
    "format_map": ("'{from}'.format_map(event)", ["/from"]),
    "percent": ("'%(from)s' % event", ["/from"]),
    "chain": ("collections.ChainMap({'x': 1}, event)['from']", ["/from"]),
    "proxy": ("types.MappingProxyType(event)['from']", ["/from"]),
    # What nobody notices inside of, and what is only on the way.
    "nothing": ("1", []),
    "kind of the event": ("[isinstance(event, dict), callable(event), event.__class__ is dict]", []),
    "handed out and not looked at": ("event['opts'] is not None", ["/opts"]),
    "handed out deep": ("isinstance(event['opts']['deep'], dict)", ["/opts/deep"]),
    "C code on a list": ("[heapq.heappop(event['heap']), 1][1]", ["/heap"]),
    "part present": ("'opts' in event and event['opts']['deep']['x']", ["/opts/deep/x"]),
    "identity": ("event['opts'] is event['opts']", ["/opts"]),
    # The event escapes.
    "iter": ("[name for name in event]", WHOLE),
    "len": ("len(event)", WHOLE),
    "bool": ("bool(event)", WHOLE),
    "items": ("list(event.items())[:1]", WHOLE),
    "keys": ("sorted(event.keys())", WHOLE),
    "values": ("list(event.values())[0]", WHOLE),
    "reversed": ("list(reversed(event))", WHOLE),
    "popitem": ("event.popitem()[0]", WHOLE),
    "eq": ("event == EVENT", WHOLE),
    "eq from the left": ("EVENT == event", WHOLE),
    "ne": ("event != {}", WHOLE),
    "str": ("str(event)", WHOLE),
    "repr": ("repr(event)", WHOLE),
    "f-string": ("f'{event}'", WHOLE),
    "f-string with repr": ("f'{event!r}'", WHOLE),
    "repr of what holds it": ("repr([event])", WHOLE),
    "print": ("print(event)", WHOLE),
    "pprint": ("pprint.pformat(event)", WHOLE),
    "reprlib": ("reprlib.repr(event)", WHOLE),
    "json": ("json.dumps(event)", WHOLE),
    "json, sorted and indented": ("json.dumps(event, sort_keys=True, indent=1)", WHOLE),
    "json of what holds it": ("json.dumps({'event': event})", WHOLE),
    "returned": ("event", WHOLE),
    "returned inside": ("{'echo': [event]}", WHOLE),
    "dict": ("dict(event)", WHOLE),
    "dict with more": ("dict(event, more=1)", WHOLE),
    "double star": ("{**event}", WHOLE),
    "named arguments": ("(lambda **named: named['n'])(**event)", WHOLE),
    "union": ("[(event | {'x': 1})['x'], type(event | {}) is dict]", WHOLE),
    "union from the left": ("({'x': 1} | event)['n']", WHOLE),
    "update of another": ("(lambda d: [d.update(event), d['n']])({})", WHOLE),
    "ior of another": ("(lambda d: [d.__ior__(event), d['n']])({})", WHOLE),
    "copy method": ("[type(event.copy()) is dict, event.copy()['n']]", WHOLE),
    "copy": ("[type(copy.copy(event)) is dict, copy.copy(event)['opts'] is event['opts']]", WHOLE),
    "deepcopy": ("(lambda c: [c == EVENT, type(c) is dict, c['opts'] is event['opts']])(copy.deepcopy(event))", WHOLE),
    "pickle": ("[pickle.loads(pickle.dumps(event, p)) == EVENT for p in range(2, 5)]", WHOLE),
    "pickle, type": ("type(pickle.loads(pickle.dumps(event))) is dict", WHOLE),
    "same type again": ("(lambda d: [d['n'], type(d) is dict])(type(event)(event))", WHOLE),
    "sorted": ("sorted(event)", WHOLE),
    "list": ("list(event)", WHOLE),
    "set": ("len(set(event))", WHOLE),
    "star": ("[*event]", WHOLE),
    "unpacked": ("(lambda first, *rest: first)(*event)", WHOLE),
    "join": ("','.join(event)", WHOLE),
    "ordered dict": ("collections.OrderedDict(event)['n']", WHOLE),
    "error": ("fail(event)", WHOLE),
    # A part escapes.
    "returned part": ("event['opts']", ["/opts"]),
    "returned empty parts": ("[event['opts']['empty'], event['opts']['list']]", ["/opts/empty", "/opts/list"]),
    "part and below": ("[event['opts']['deep']['x'], event['opts']]", ["/opts"]),
    "list iter": ("[stop['at'] for stop in event['stops']]", ["/stops"]),
    "list len": ("len(event['stops'])", ["/stops"]),
    "list in": ("4 in event['heap']", ["/heap"]),
    "list sorted": ("sorted(event['heap'])", ["/heap"]),
    "list sum": ("sum(event['heap'])", ["/heap"]),
    "list join": ("','.join(map(str, event['heap']))", ["/heap"]),
    "list unpacked": ("(lambda a, b, c: b)(*event['heap'])", ["/heap"]),
    "list reversed": ("list(reversed(event['heap']))", ["/heap"]),
    "list plus": ("[event['heap'] + [1], type(event['heap'] + []) is list]", ["/heap"]),
    "list plus from the left": ("[1] + event['heap']", ["/heap"]),
    "list plus both": ("event['heap'] + event['opts']['list']", ["/heap", "/opts/list"]),
    "list times": ("[event['heap'] * 2, 2 * event['heap']]", ["/heap"]),
    "list eq": ("[event['heap'] == [5, 4, 3], [5, 4, 3] == event['heap'], event['heap'] < [6]]", ["/heap"]),
    "list of lists eq": ("event['nested'] == [[1, 2], [3]]", ["/nested"]),
    "parts eq": ("event['heap'] == event['opts']['list']", ["/heap", "/opts/list"]),
    "list index": ("[event['heap'].index(4), event['heap'].count(4)]", ["/heap"]),
    "list copy": ("[event['heap'].copy(), copy.copy(event['heap']), copy.deepcopy(event['nested'])]", ["/heap", "/nested"]),
    "list json": ("json.dumps(event['nested'])", ["/nested"]),
    "list pickle": ("pickle.loads(pickle.dumps(event['nested']))", ["/nested"]),
    "list pprint": ("pprint.pformat([event['stops'], {'b': event['opts']}], width=20)", ["/stops", "/opts"]),
    "list repr": ("f'{event[\"heap\"]}'", ["/heap"]),
    "list of pairs as dict": ("len(dict([event['nested'][0]]))", ["/nested/0"]),
    # The gap that is left: C code that takes the length past `__len__`, and reads the items.
    "array": ("list(array.array('d', event['heap']))", ["/heap/0", "/heap/1", "/heap/2"]),
    "bisect": ("bisect.bisect(event['heap'], 9)", ["/heap"]),
    "kept in a result": ("{'kept': event['nested'][0]}", ["/nested/0"]),
    "list of another type": ("[tuple(event['heap']), list(event['heap']), type(event['heap'])([1])]", ["/heap"]),
    # Changes.
    "set": ("changed(event, lambda: event.__setitem__('from', 1))", []),
    "set new": ("changed(event, lambda: event.update(x=1))", []),
    "set and read": ("[event.__setitem__('new', 1), event['new']]", ["/new"]),
    "clear": ("[event.clear(), type(event).__name__]", []),
    "ior": ("(lambda same: [same.__ior__({'n': 9}) is event, event['n']])(event)", ["/n"]),
    "del": ("event.__delitem__('from')", ["/from"]),
    "append": ("[event['heap'].append(1), event['heap'][1]]", ["/heap/1"]),
    "list iadd": ("iadd(event)", ["/heap/0"]),
    "list iadd of a plain one": ("iadd_plain(event)", ["/heap"]),
    "list imul": ("imul(event)", ["/heap"]),
    "insert and read": ("[event['heap'].insert(0, 9), event['heap'][1]]", ["/heap"]),
    "reverse and read": ("[event['heap'].reverse(), event['heap'][0]]", ["/heap"]),
    "sort": ("[event['heap'].sort(key=lambda n: n, reverse=False), event['heap']]", ["/heap"]),
    "list pop": ("[event['heap'].pop(), event['heap'].pop(0)]", ["/heap"]),
    "list set": ("[event['heap'].__setitem__(1, 0), event['to']]", ["/heap/1", "/to"]),
    "slice set and read": ("[event['heap'].__setitem__(slice(0, 2), [0]), event['heap'][0]]", ["/heap"]),
    "moved part": ("[event.__setitem__('n', event['opts']['deep']), event['n']['x']]", ["/opts/deep/x"]),
    "circle": ("[event.__setitem__('me', event), len(repr(event)), event['me'] is event]", WHOLE),
}
CODE = f"""
    import array, asyncio, bisect, collections, copy, heapq, json, operator, pickle, pprint, reprlib, types
    EVENT = {EVENT!r}

    class Name(str):
        def __str__(self):
            return "another"

    class Equal:
        def __hash__(self):
            return hash("from")
        def __eq__(self, other):
            return other == "from"

    def missing(call):
        try:
            return call()
        except (LookupError, TypeError) as error:
            return [type(error).__name__, str(error)]

    def fail(event):
        raise ValueError(event)

    def changed(event, change):
        change()
        return True

    def iadd(event):
        heap = event["heap"]
        heap += [1]
        return [heap is event["heap"], heap[0]]

    def iadd_plain(event):
        own = before = [1]
        own += event["heap"]
        return [own is before, own, type(own) is list]

    def imul(event):
        heap = event["heap"]
        heap *= 2
        return [heap is event["heap"], heap[3]]

    CASES = {{
        {chr(10).join(f"{name!r}: lambda event: ({text})," for name, (text, _) in CASES.items()).replace(chr(10), chr(10) + 8 * ' ')}
    }}

    def handler(event, context):
        return CASES[context.traceparent](event)

    async def handler_async(event, context):
        await asyncio.sleep(0)
        return CASES[context.traceparent](event)
"""
RECORDING = {"check": {"record_reads": True}}


class Cases(unittest.TestCase):
    def check(self, cases, **settings):
        with started(CODE, **RECORDING, **settings) as runtime, started(CODE, **settings) as plain:
            for name in cases:
                with self.subTest(name):
                    reads, kind, value = runtime.call_recorded(EVENT, trace=name.encode())
                    self.assertEqual((kind, value), plain.call(EVENT, trace=name.encode()), "the same as without recording")
                    pointers = CASES[name][1]
                    reads["pointers"].sort()
                    self.assertEqual(reads, {"pointers": sorted(pointers or []), "whole": pointers is WHOLE}, value)

    def test_one_at_a_time(self):
        self.check(CASES)

    def test_on_threads(self):
        self.check(CASES, concurrency=4)

    def test_on_an_event_loop(self):
        self.check(CASES, handler="main.handler_async", concurrency=4)


class Statements(unittest.TestCase):
    def test_match(self):
        code = """
            def match(event):
                match event:
                    case {"list": [first, *_]}:
                        return first
                    case {"one": {"x": x}, **rest}:
                        return [x, rest]
                    case dict():
                        return "other"

            def handler(event, context):
                return match(event)
        """
        with Runtime({"main.py": code}) as runtime:
            if tuple(map(int, runtime.boot()["version"].split("."))) < (3, 10):
                self.skipTest("this interpreter has no match statement")
            runtime.init(**RECORDING)
            # The interpreter asks for the length before it asks for names.
            whole = {"pointers": [], "whole": True}
            self.assertEqual(runtime.call_recorded({"list": [1, 2]}), (whole, RESULT, 1))
            self.assertEqual(runtime.call_recorded({"one": {"x": 1}, "y": 2}), (whole, RESULT, [1, {"y": 2}]))
            self.assertEqual(runtime.call_recorded({"z": 1}), (whole, RESULT, "other"))

    def test_assignments(self):
        code = """
            def handler(event, context):
                event["a"]["x"] += 1
                event["a"]["new"] = [event["b"]]
                del event["c"]
                event["list"][1:] = [9]
                event["list"] += [10]
                event |= {"d": 1}
                name, event["e"] = event["name"], 5
                return name
        """
        event = {"a": {"x": 1}, "b": [1], "c": 1, "list": [1, 2], "name": "n", "unread": 1}
        with started(code, **RECORDING) as runtime:
            reads, _, value = runtime.call_recorded(event)
            self.assertEqual(value, "n")
            self.assertEqual(sorted(reads["pointers"]), ["/a/x", "/b", "/c", "/list", "/name"])


class Frames(unittest.TestCase):
    def test_events_without_members_are_read_whole(self):
        code = "def handler(event, context):\n    return type(event) in (dict, list) and type(event) is not type([])\n"
        with started(code, **RECORDING) as runtime:
            for event in (None, 1, "text", [], [{"a": 1}], {}):
                reads, kind, _ = runtime.call_recorded(event)
                self.assertEqual((reads, kind), ({"pointers": [], "whole": True}, RESULT))

    def test_an_event_that_cannot_be_read(self):
        with started("def handler(event, context): pass", **RECORDING) as runtime:
            reads, kind, error = runtime.call_recorded(b"{", raw=True)
            self.assertEqual((reads["whole"], kind, error["type"]), (True, ERROR, "InvalidEvent"))

    def test_errors_have_reads_too(self):
        with started("def handler(event, context):\n    return 1 / event['zero']\n", **RECORDING) as runtime:
            reads, kind, _ = runtime.call_recorded({"zero": 0, "one": 1})
            self.assertEqual((reads, kind), ({"pointers": ["/zero"], "whole": False}, ERROR))

    def test_at_most_64_pointers(self):
        code = """
            def handler(event, context):
                for number in range(event["count"]):
                    event.get(f"n{number}")
                for number in range(event["items"]):
                    event["list"][number]
                if event["all"]:
                    len(event["list"])
        """
        with started(code, **RECORDING) as runtime:
            base = {"count": 0, "items": 0, "all": False, "list": list(range(5000))}
            for event, pointers in (
                ({"count": 61}, 64),
                ({"count": 62}, None),
                ({"items": 62}, None),
                # The list replaces its items.
                ({"items": 1000, "all": True}, 4),
                ({"items": 5000, "all": True}, None),
            ):
                reads, _, _ = runtime.call_recorded({**base, **event})
                self.assertEqual((reads["whole"], len(reads["pointers"])), (pointers is None, pointers or 0), event)

    def test_names_that_no_frame_holds(self):
        code = "def handler(event, context):\n    return [len(event.get(name, '')) for name in ('\\ud800', 'x' * 70_000)[:event['n']]]\n"
        with started(code, **RECORDING) as runtime:
            for count, whole in ((0, False), (1, True), (2, True)):
                self.assertIs(runtime.call_recorded({"n": count})[0]["whole"], whole)

    def test_deep_events(self):
        # As deep as the interpreter's own limit lets plain ones be.
        code = "def handler(event, context):\n    return [len(repr(event)), event == event, event]\n"
        event = {"x": 1}
        for _ in range(300):
            event = {"a": [event]}
        with started(code, **RECORDING) as runtime, started(code) as plain:
            self.assertEqual(runtime.call_recorded(event)[1:], plain.call(event))

    def test_requests_at_once_do_not_mix(self):
        plain = """
            import threading
            met = threading.Barrier(3, timeout=20)
            def handler(event, context):
                event["before"]
                met.wait()
                return event[f"own{event['n']}"]
        """
        on_loop = """
            import asyncio
            here = []
            async def handler(event, context):
                event["before"]
                here.append(1)
                while len(here) < 3:
                    await asyncio.sleep(0)
                return event[f"own{event['n']}"]
        """
        for code in (plain, on_loop):
            with started(code, concurrency=3, **RECORDING) as runtime:
                for n in range(3):
                    runtime.send_invoke({"before": 1, "n": n, f"own{n}": n}, request_id=n)
                reads, values = {}, {}
                for _ in range(6):
                    kind, request_id, payload = runtime.next_answer()
                    self.assertEqual(kind, RESULT if request_id in reads else READS)
                    (values if kind == RESULT else reads)[request_id] = json.loads(payload)
                self.assertEqual(values, {n: n for n in range(3)})
                for n in range(3):
                    self.assertEqual(sorted(reads[n]["pointers"]), ["/before", "/n", f"/own{n}"])

    def test_log_lines_come_before(self):
        with started("def handler(event, context):\n    print('a', end='')\n    return event['x']\n", **RECORDING) as runtime:
            self.assertEqual(runtime.call_recorded({"x": 1}), ({"pointers": ["/x"], "whole": False}, RESULT, 1))
            self.assertEqual(runtime.logs, [(1, 1, "a")])

    def test_only_where_it_is_asked_for(self):
        code = "def handler(event, context):\n    return type(event).__mro__ == (dict, object)\n"
        for check in ({"record_reads": False}, {"time_zone": "UTC"}, {}):
            with started(code, check=check) as runtime:
                self.assertEqual(runtime.call({"a": 1}), (RESULT, True))


if __name__ == "__main__":
    unittest.main()
