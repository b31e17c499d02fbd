"""A handler's value as JSON text, or a clear reason why it cannot be one.

Owns strictness: no NaN, no lone surrogates, no bytes, nothing over the platform's limit. The quick way is the C encoder
of the standard library; only when it refuses does the slow search for the culprit run.
"""

import asyncio
import inspect
import json
from json import encoder as json_encoder

RESULT_MAX_BYTES = 6 << 20
SEARCH_DEPTH_MAX = 200


class ResultNotSerializable(Exception):
    """The handler returned what JSON cannot hold."""


class ResponseTooLarge(Exception):
    """The handler returned more than an answer may carry."""


def refuse(value):
    raise TypeError(f"{type(value).__name__} is not JSON")


def make_encoder():
    """The C encoder, made once; `json.dumps` makes one at every call. Without it, the standard library's class."""
    try:
        encode = json_encoder.c_make_encoder(
            None, refuse, json_encoder.encode_basestring, None, ":", ",", False, False, False
        )
        if "".join(encode({"a": [1.5, None, "ü"]}, 0)) == '{"a":[1.5,null,"ü"]}':
            return encode
    except (TypeError, AttributeError):
        pass
    whole = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return lambda value, _indent: whole.iterencode(value)


encode_parts = make_encoder()


def encode_result(value, parts=encode_parts, join="".join):
    """The value as UTF-8 JSON text; raises the two errors above, or what a returned awaitable raises."""
    try:
        body = join(parts(value, 0)).encode()
    except Exception as error:
        if inspect.isawaitable(value):
            # An async function behind a plain wrapper: nobody can tell before it was called.
            return encode_result(asyncio.run(await_value(value)))
        raise ResultNotSerializable(explain(value, error)) from None
    if len(body) > RESULT_MAX_BYTES:
        raise ResponseTooLarge(f"the result is {len(body)} bytes of JSON, over the limit of {RESULT_MAX_BYTES}")
    return body


async def await_value(value):
    return await value


def encode_arguments(value, parts=encode_parts):
    """The arguments of a call as UTF-8 JSON text; raises ValueError with the reason why not."""
    try:
        body = "".join(parts(value, 0)).encode()
    except Exception as error:
        raise ValueError(explain(value, error, "arguments")) from None
    if len(body) > RESULT_MAX_BYTES:
        raise ValueError(f"the arguments are {len(body)} bytes of JSON, over the limit of {RESULT_MAX_BYTES}")
    return body


def explain(value, error, name="result"):
    """Says where in the value the trouble is, for the author of the function."""
    try:
        found = find_culprit(value, name, ())
    except Exception:  # the value's own methods may raise
        found = None
    if found is None and isinstance(error, RecursionError):
        return f"{name} is nested too deeply for JSON"
    return found or f"{name} cannot be written as JSON: {error}"


def find_culprit(value, path, above):
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, float):
        finite = value == value and value not in (float("inf"), float("-inf"))
        return None if finite else f"{path} is {value!r}, which JSON cannot hold"
    if isinstance(value, str):
        return find_surrogate(value, path)
    if any(value is one for one in above):
        return f"{path} contains itself (a circular reference)"
    if len(above) > SEARCH_DEPTH_MAX:
        return None
    above = (*above, value)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, float, type(None))):
                return f"{path} has a key of type {type(key).__name__}; JSON keys are strings"
            found = find_culprit(key, f"a key of {path}", ()) or find_culprit(item, f"{path}[{key!r}]", above)
            if found:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            found = find_culprit(item, f"{path}[{index}]", above)
            if found:
                return found
        return None
    hint = ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        hint = "; decode it to text, or encode it with base64"
    return f"{path} is of type {type(value).__name__}, which JSON cannot hold{hint}"


def find_surrogate(text, path):
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{path} is text with a lone surrogate at index {error.start}, which UTF-8 cannot hold"
    return None
