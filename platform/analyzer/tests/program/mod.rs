//! Programs at random: every kind of statement that leads somewhere, nested in each other, each on a line of its own.

use std::fmt::Write;

use fastrand::Rng;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A program that defines functions and calls them; it ends, whatever it does.
pub fn generate(seed: u64) -> String {
    let mut writer = Writer {
        rng: Rng::with_seed(seed),
        text: String::new(),
        depth: 0,
        in_loop: false,
        in_finally: 0,
        kind: Kind::Plain,
        inner: 0,
    };
    writer.text.push_str(HEAD);
    let kinds = [Kind::Plain, Kind::Plain, Kind::Generator, Kind::Async];
    for number in 0..3 {
        writer.kind = kinds[writer.rng.usize(..kinds.len())];
        let def = if writer.kind == Kind::Async { "async def" } else { "def" };
        let _ = writeln!(writer.text, "{def} f{number}(n, a, b):");
        writer.depth = 1;
        writer.line("c, d, e = n, [n], (n,)");
        writer.suite(3);
        writer.line(if writer.kind == Kind::Generator { "yield a" } else { "return a" });
        let drive = match writer.kind {
            Kind::Plain => format!("f{number}(n, n + 1, [n])"),
            Kind::Generator => format!("[x for _, x in zip(range(50), f{number}(n, n + 1, [n]))]"),
            Kind::Async => format!("drive(f{number}(n, n + 1, [n]))"),
        };
        let _ =
            writeln!(writer.text, "for n in range(6):\n    try:\n        {drive}\n    except Exception:\n        pass");
    }
    writer.text
}

/// What the programs use.
const HEAD: &str = "
class Swallows:
    def __init__(self, swallows):
        self.swallows = swallows
    def __enter__(self):
        return self
    def __exit__(self, *_):
        return self.swallows
class AsyncSwallows(Swallows):
    async def __aenter__(self):
        return self
    async def __aexit__(self, *_):
        return self.swallows
class Pause:
    def __await__(self):
        yield
def drive(coroutine):
    for _ in range(200):
        try:
            coroutine.send(None)
        except StopIteration:
            return
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Generator,
    Async,
}

struct Writer {
    rng: Rng,
    text: String,
    depth: usize,
    in_loop: bool,
    in_finally: u32,
    kind: Kind,
    inner: u32,
}

impl Writer {
    fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.usize(..NAMES.len())]
    }

    fn expression(&mut self) -> String {
        let (x, y) = (self.name(), self.name());
        match self.rng.u32(..10) {
            0 => x.to_owned(),
            1 => format!("n + {}", self.rng.u32(..9)),
            2 => format!("({x}, {y})"),
            3 => format!("[{x} for {y} in range(3) if {y}]"),
            4 => format!("{x} if n % 2 else {y}"),
            5 => format!("({x} := n) and {y}"),
            6 => format!("n % 3 and ({x} := {y})"),
            7 => format!("(lambda k: {x})"),
            8 => format!("{{k: {x} for k in range(2)}}"),
            _ => "n".to_owned(),
        }
    }

    fn test(&mut self) -> String {
        let x = self.name();
        match self.rng.u32(..5) {
            0 => format!("n % {} == {}", self.rng.u32(2..4), self.rng.u32(..2)),
            1 => format!("{x} == n"),
            2 => format!("({x} := n - {})", self.rng.u32(..3)),
            3 => format!("n > {} and {x}", self.rng.u32(..5)),
            _ => format!("not n % {}", self.rng.u32(2..5)),
        }
    }

    fn suite(&mut self, room: u32) {
        let most = if room > 2 { 3 } else { 2 };
        for _ in 0..self.rng.u32(1..=most) {
            self.statement(room);
        }
    }

    fn nested(&mut self, room: u32) {
        self.depth += 1;
        self.suite(room.saturating_sub(1));
        self.depth -= 1;
    }

    fn nested_loop(&mut self, room: u32, first: &str) {
        let (in_loop, in_finally) = (std::mem::replace(&mut self.in_loop, true), std::mem::take(&mut self.in_finally));
        self.depth += 1;
        self.line(first);
        self.suite(room.saturating_sub(1));
        self.depth -= 1;
        (self.in_loop, self.in_finally) = (in_loop, in_finally);
    }

    fn statement(&mut self, room: u32) {
        let kinds = if room == 0 { 9 } else { 24 };
        match self.rng.u32(..kinds) {
            0..=2 => {
                let (x, value) = (self.name(), self.expression());
                self.line(&format!("{x} = {value}"));
            }
            3 => {
                let (x, y) = (self.name(), self.name());
                self.line(&format!("{x}, {y} = n, {x}"));
            }
            4 => {
                let x = self.name();
                self.line(&format!("{x} += 1"));
            }
            5 => {
                let x = self.name();
                self.line(&format!("del {x}"));
            }
            6 if self.in_loop && self.in_finally == 0 => {
                let jump = if self.rng.bool() { "break" } else { "continue" };
                let test = self.test();
                self.line(&format!("if {test}:"));
                self.depth += 1;
                self.line(jump);
                self.depth -= 1;
            }
            6 => self.line("pass"),
            7 => {
                let test = self.test();
                self.line(&format!("if {test}:"));
                self.depth += 1;
                let x = self.name();
                let leave = match (self.rng.bool(), self.kind) {
                    (true, _) => format!("raise ValueError({x})"),
                    (false, Kind::Generator) => "return".to_owned(),
                    (false, _) => format!("return {x}"),
                };
                self.line(&leave);
                self.depth -= 1;
            }
            8 => match self.kind {
                Kind::Plain => self.line("pass"),
                Kind::Generator => {
                    let x = self.name();
                    let y = self.name();
                    self.line(&format!("{x} = yield {y}"));
                }
                Kind::Async => self.line("await Pause()"),
            },
            9 | 10 => {
                let test = self.test();
                self.line(&format!("if {test}:"));
                self.nested(room);
                if self.rng.bool() {
                    let test = self.test();
                    self.line(&format!("elif {test}:"));
                    self.nested(room);
                }
                if self.rng.bool() {
                    self.line("else:");
                    self.nested(room);
                }
            }
            11 | 12 => {
                let x = self.name();
                let most = self.rng.u32(2..4);
                self.line(&format!("for {x} in range(n % {most}):"));
                let y = self.name();
                self.nested_loop(room, &format!("{y} = {x}"));
                self.otherwise(room);
            }
            13 => {
                let counter = format!("i{}", self.rng.u32(..1_000_000));
                self.line(&format!("{counter} = 0"));
                let forever = self.rng.bool();
                let test = if forever { "True".to_owned() } else { format!("{counter} < {}", self.rng.u32(1..4)) };
                self.line(&format!("while {test}:"));
                self.depth += 1;
                self.line(&format!("{counter} += 1"));
                self.line(&format!("if {counter} > 3:"));
                self.depth += 1;
                self.line("break");
                self.depth -= 2;
                self.nested_loop(room, &format!("{counter} = {counter} + 1"));
                if !forever {
                    self.otherwise(room);
                }
            }
            14..=16 => self.attempt(room),
            17 => {
                let swallows = if self.rng.bool() { "True" } else { "False" };
                let (word, class) = if self.kind == Kind::Async && self.rng.bool() {
                    ("async with", "AsyncSwallows")
                } else {
                    ("with", "Swallows")
                };
                let (x, y) = (self.name(), self.name());
                let second = if self.rng.bool() { format!(", {class}(False) as {y}") } else { String::new() };
                self.line(&format!("{word} {class}({swallows}) as {x}{second}:"));
                self.nested(room);
            }
            18 => {
                let (x, y) = (self.name(), self.name());
                self.line(&format!("match ({x}, n):"));
                self.depth += 1;
                self.line(&format!("case (int(), {y}) if {y} % 2:"));
                self.nested(room);
                let rest = NAMES.iter().find(|name| **name != x).copied().unwrap_or(y);
                self.line(&format!("case [[{x}, *{rest}], 3]:"));
                self.nested(room);
                if self.rng.bool() {
                    let z = self.name();
                    self.line(&format!("case {z}:"));
                    self.nested(room);
                }
                self.depth -= 1;
            }
            19 => self.function(room),
            _ => self.attempt(room),
        }
    }

    fn otherwise(&mut self, room: u32) {
        if self.rng.bool() {
            self.line("else:");
            self.nested(room);
        }
    }

    fn attempt(&mut self, room: u32) {
        self.line("try:");
        self.nested(room);
        let handlers = self.rng.u32(..3);
        for number in 0..handlers {
            let x = self.name();
            let what = match self.rng.u32(..4) {
                0 => "except ValueError:".to_owned(),
                1 => format!("except (TypeError, NameError) as {x}:"),
                2 => format!("except ValueError as {x}:"),
                _ if number + 1 == handlers => "except:".to_owned(),
                _ => "except KeyError:".to_owned(),
            };
            self.line(&what);
            self.nested(room);
        }
        if handlers > 0 {
            self.otherwise(room);
        }
        if handlers == 0 || self.rng.bool() {
            self.line("finally:");
            self.in_finally += 1;
            self.nested(room);
            self.in_finally -= 1;
        }
    }

    fn function(&mut self, room: u32) {
        self.inner += 1;
        let name = format!("g{}", self.inner);
        let (x, y) = (self.name(), self.name());
        self.line(&format!("def {name}(n, {x}):"));
        let before = (self.kind, self.in_loop, self.in_finally);
        (self.kind, self.in_loop, self.in_finally) = (Kind::Plain, false, 0);
        self.nested(room.min(2));
        self.depth += 1;
        self.line(&format!("return {y}"));
        self.depth -= 1;
        (self.kind, self.in_loop, self.in_finally) = before;
        let z = self.name();
        self.line(&format!("{z} = {name}(n, {y})"));
    }
}
