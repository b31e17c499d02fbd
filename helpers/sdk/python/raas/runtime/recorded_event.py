"""An event that notices what is read of it: objects and lists that are a `dict` and a `list` in all that code can see.

Owns what counts as looking at a part. Every value lies in the object itself, in the C structure that it derives from, so code
in C that goes past the methods here is not noticed, but never sees another value. To change the event is not to look at it,
except where something has to be there for that.
"""

import copy

#: Keys of these types are never equal to a name of JSON.
OTHER_KEYS = (int, float, bool, type(None), tuple, bytes)


class LooksPlain(type):
    """The class of both classes. `pprint` takes what it knows how to write by the identity of the class's `__repr__`."""

    def __getattribute__(cls, name):
        if name == "__repr__":
            cls = type.__getattribute__(cls, "__base__")
        return type.__getattribute__(cls, name)


class RecordedDict(dict, metaclass=LooksPlain):
    """An object of the event."""

    __slots__ = ("_pointer", "_reads")
    __class__ = property(lambda self: dict)

    def __new__(cls, *arguments, **named):
        # By code that makes another one of the type that it got.
        return dict(*arguments, **named)

    def _escape(self):
        self._reads.look_at(self._pointer)

    def _look(self, key):
        value = dict.get(self, key)
        if type(value) in RECORDED:
            value._reads.hand_out(value._pointer)
        elif isinstance(key, str):
            self._reads.look_at(f"{self._pointer}/{escaped_name(str.__str__(key))}")
        elif type(key) not in OTHER_KEYS:
            self._escape()  # its own `__eq__` decides which name it is


class RecordedList(list, metaclass=LooksPlain):
    """A list of the event."""

    __slots__ = ("_moved", "_pointer", "_reads")
    __class__ = property(lambda self: list)

    def __new__(cls, *arguments):
        return list(*arguments)

    def _escape(self):
        self._reads.look_at(self._pointer)

    def _look(self, position):
        # From the end, slices: these depend on the length. After a move an item is no longer where the event has it.
        if type(position) is not int or position < 0 or self._moved:
            self._escape()
            return
        value = list.__getitem__(self, position) if position < list.__len__(self) else None
        if type(value) in RECORDED:
            value._reads.hand_out(value._pointer)
        else:
            self._reads.look_at(f"{self._pointer}/{position}")

    def __setitem__(self, position, value):
        self._look(position)
        if isinstance(position, slice):
            self._moved = True
        list.__setitem__(self, position, value)

    def __iadd__(self, other):
        # Named, since `+=` would otherwise find `__add__` before what a list has for it.
        return list.__iadd__(self, other)

    def __add__(self, other):
        self._escape()
        # What is added is copied past its methods.
        return list.__add__(self, escaped(other))


RECORDED = frozenset((RecordedDict, RecordedList))


def escaped_name(name):
    """A name as a part of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def escaped(value):
    if type(value) in RECORDED:
        value._escape()
    return value


def looking(base, name):
    """A method whose first argument says at what it looks."""
    method = getattr(base, name)

    def call(self, key, /, *more):
        self._look(key)
        return method(self, key, *more)

    return call


def escaping(base, name, moves=False):
    """A method that looks at all there is; one that moves items too."""
    method = getattr(base, name)

    def call(self, /, *arguments, **named):
        self._escape()
        if moves:
            self._moved = True
        return method(self, *arguments, **named)

    return call


def moving(name):
    """A method of lists that moves items and tells nothing."""
    method = getattr(list, name)

    def call(self, /, *arguments):
        self._moved = True
        return method(self, *arguments)

    return call


def on_plain(base, name):
    """A method that goes down into the items: on a plain copy, since each level of these classes takes more of the stack."""
    method = getattr(base, name)

    def call(self, /, *others):
        self._escape()
        return method(plain(self), *(plain(escaped(other)) for other in others))

    return call


def own_deepcopy(self, memo):
    self._escape()
    return copy.deepcopy(plain(self), memo)


def own_reduce(self, _protocol):
    self._escape()
    value = plain(self)
    return type(value), (value,)


def complete(cls, base, methods):
    """Gives a class its methods, and the names of the class that it stands for."""
    for name, method in methods.items():
        method.__name__ = name
        method.__qualname__ = f"{base.__name__}.{name}"
        setattr(cls, name, method)
    cls.__copy__ = lambda self: self.copy()
    cls.__deepcopy__ = own_deepcopy
    cls.__reduce_ex__ = own_reduce
    cls.__name__ = cls.__qualname__ = base.__name__
    cls.__module__ = base.__module__


complete(
    RecordedDict,
    dict,
    {
        **{name: looking(dict, name) for name in ("__contains__", "__delitem__", "__getitem__", "get", "pop", "setdefault")},
        # `dict(event)`, `{**event}` and the like go by `keys` because `__iter__` is not that of `dict`.
        **{name: escaping(dict, name) for name in ("__iter__", "__len__", "__or__", "__reversed__", "__ror__")},
        **{name: escaping(dict, name) for name in ("copy", "items", "keys", "popitem", "values")},
        **{name: on_plain(dict, name) for name in ("__eq__", "__ne__", "__repr__")},
    },
)
complete(
    RecordedList,
    list,
    {
        "__getitem__": looking(list, "__getitem__"),
        **{name: escaping(list, name) for name in ("__contains__", "__iter__", "__len__", "__reversed__")},
        **{name: escaping(list, name) for name in ("__mul__", "__rmul__")},
        **{name: escaping(list, name) for name in ("copy", "count", "index")},
        **{name: escaping(list, name, moves=True) for name in ("__delitem__", "pop", "remove", "sort")},
        **{name: moving(name) for name in ("__imul__", "clear", "insert", "reverse")},
        **{name: on_plain(list, name) for name in ("__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__", "__repr__")},
    },
)


def recorded(event, reads):
    """An event of JSON, as one that tells `reads` what is looked at. Without recursion: it may be nested as deep as JSON."""
    root = empty_node(event, "", reads)
    pending = [(root, event)]
    while pending:
        node, source = pending.pop()
        is_dict = type(source) is dict
        for key, value in source.items() if is_dict else enumerate(source):
            if type(value) in (dict, list):
                name = escaped_name(key) if is_dict else key
                child = empty_node(value, f"{node._pointer}/{name}", reads)
                pending.append((child, value))
                value = child
            if is_dict:
                dict.__setitem__(node, key, value)
            else:
                list.append(node, value)
    return root


def empty_node(source, pointer, reads):
    if type(source) is dict:
        node = dict.__new__(RecordedDict)
    else:
        node = list.__new__(RecordedList)
        node._moved = False
    node._pointer = pointer
    node._reads = reads
    return node


def plain(value):
    """The same as ordinary objects and lists, down to the first that is none of these classes."""
    if type(value) not in RECORDED:
        return value
    made = {id(value): new_plain(value)}
    pending = [value]
    while pending:
        node = pending.pop()
        result = made[id(node)]
        is_dict = type(node) is RecordedDict
        for key, item in dict.items(node) if is_dict else enumerate(list.__iter__(node)):
            if type(item) in RECORDED:
                if id(item) not in made:
                    made[id(item)] = new_plain(item)
                    pending.append(item)
                item = made[id(item)]
            if is_dict:
                result[key] = item
            else:
                result.append(item)
    return made[id(value)]


def new_plain(node):
    return {} if type(node) is RecordedDict else []
