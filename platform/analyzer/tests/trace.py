"""Runs programs and writes down what their functions execute: lines, and reads and writes of local variables.

Reads from standard input a JSON list of sources; writes a JSON list with, for each, the executions of its functions: the line where the
function begins, and what happened in order: a number for a line, "+name" for a read, "-name" for a write or a deletion.
"""

import dis
import json
import sys

READS = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_DEREF", "LOAD_CLASSDEREF"}
WRITES = {"STORE_FAST", "STORE_DEREF", "DELETE_FAST", "DELETE_DEREF"}
EVENTS_MAX = 4000


def trace(source):
    code = compile(source, "<program>", "exec")
    executions = []
    instructions = {}

    def begin(frame, event, _):
        if event != "call" or frame.f_code.co_filename != "<program>":
            return None
        if frame.f_code.co_name.startswith("<"):
            return None
        if frame.f_code not in instructions:
            instructions[frame.f_code] = {i.offset: i for i in dis.get_instructions(frame.f_code)}
        frame.f_trace_opcodes = True
        events = begun.get(frame)
        if events is None:
            events = begun[frame] = []
            executions.append((frame.f_code.co_firstlineno, events))

        def step(frame, event, _):
            if len(events) >= EVENTS_MAX:
                return step
            if event == "line":
                events.append(frame.f_lineno)
            elif event == "opcode":
                instruction = instructions[frame.f_code].get(frame.f_lasti)
                if instruction is None:
                    return step
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
