"""Runs programs and writes down what their functions execute: lines, and reads and writes of local variables.

A line counts as executed when something is done for it: CPython also tells of lines when it only jumps, cleans up or raises again, and
then of whichever line is near. So `pass`, `break`, `try:` and the like are not told of.

Reads from standard input a JSON list of sources; writes a JSON list with, for each, the executions of its functions: the line where the
function begins, and what happened in order: a number for a line, "+name" for a read, "-name" for a write or a deletion.
"""

import dis
import json
import sys

READS = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_DEREF", "LOAD_CLASSDEREF"}
WRITES = {"STORE_FAST", "STORE_DEREF", "DELETE_FAST", "DELETE_DEREF"}
CLEANING_UP = {
    "NOP", "RESUME", "RERAISE", "POP_EXCEPT", "PUSH_EXC_INFO", "COPY", "SWAP", "POP_TOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST",
    "SEND", "END_SEND", "YIELD_VALUE", "GET_AWAITABLE", "CLEANUP_THROW", "POP_ITER", "END_FOR", "RETURN_GENERATOR",
    "WITH_EXCEPT_START", "LOAD_SMALL_INT", "LOAD_COMMON_CONSTANT", "TO_BOOL", "NOT_TAKEN", "COPY_FREE_VARS", "MAKE_CELL",
}
# So much of each execution, and of each program, is written down.
EVENTS_MAX = 600
PROGRAM_EVENTS_MAX = 12_000


def without_prefixes(instructions):
    """Instructions at the offsets of which is told: those of their prefixes, where they have any."""
    listed, offset = [], None
    for instruction in instructions:
        if offset is None:
            offset = instruction.offset
        if instruction.opname != "EXTENDED_ARG":
            listed.append(instruction._replace(offset=offset))
            offset = None
    return listed


def does_something(instructions):
    """The offsets of instructions for which a line counts as executed."""
    found = set()
    for number, instruction in enumerate(instructions):
        name = instruction.opname
        if name in CLEANING_UP or "JUMP" in name:
            continue
        # The name of a handler's exception is unbound by writing None to it and deleting it.
        at = number if name.startswith("STORE") else number - 1
        if 0 < at < len(instructions) - 1:
            none, store, delete = instructions[at - 1 : at + 2]
            is_unbound = store.opname.startswith("STORE") and delete.opname.startswith("DELETE")
            if is_unbound and none.opname == "LOAD_CONST" and none.argval is None and store.argval == delete.argval:
                continue
        found.add(instruction.offset)
    return found


def trace(source):
    code = compile(source, "<program>", "exec")
    executions = []
    instructions = {}
    left = PROGRAM_EVENTS_MAX

    def begin(frame, event, _):
        if event != "call" or frame.f_code.co_filename != "<program>":
            return None
        if frame.f_code.co_name.startswith("<") or not frame.f_code.co_flags & 2:
            return None
        if frame.f_code not in instructions:
            listed = without_prefixes(dis.get_instructions(frame.f_code))
            instructions[frame.f_code] = {i.offset: i for i in listed}, does_something(listed)
        frame.f_trace_opcodes = True
        events = begun.get(frame)
        if events is None:
            events = begun[frame] = []
            executions.append((frame.f_code.co_firstlineno, events))

        line = None

        def step(frame, event, _):
            nonlocal left
            left -= 1
            if left < 0:
                sys.settrace(None)
            if len(events) >= EVENTS_MAX or left < 0:
                frame.f_trace_opcodes = False
                frame.f_trace = None
                return None
            nonlocal line
            if event == "line":
                line = frame.f_lineno
            elif event == "opcode":
                listed, done = instructions[frame.f_code]
                instruction = listed.get(frame.f_lasti)
                if instruction is None:
                    return step
                if line is not None and frame.f_lasti in done:
                    events.append(line)
                    line = None
                names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
                if instruction.opname in READS:
                    events.extend("+" + name for name in names)
                elif instruction.opname in WRITES:
                    events.extend("-" + name for name in names)
            return step

        return step

    begun = {}
    space = {"__name__": "program"}
    sys.settrace(begin)
    try:
        exec(code, space)
    except Exception:
        pass
    finally:
        sys.settrace(None)
    return executions


json.dump([trace(source) for source in json.load(sys.stdin)], sys.stdout)
