//! Everything that can end is ended at the worst moment, and the machine itself misbehaves. Each test has platforms of its own.

mod clock;
mod disk;
mod kills;
mod start;
mod stop;

use crate::harness::Function;

/// Answers after `event` seconds, with a new text each time.
fn sleeper() -> Function {
    Function::python(
        "sleeper",
        "timeout_s = 60\n[scaling]\nmax = 8\n",
        "import time, uuid\ndef handler(event, context):\n    open('/tmp/runs', 'w').close()\n    time.sleep(event)\n    return str(uuid.uuid4())\n",
    )
}
