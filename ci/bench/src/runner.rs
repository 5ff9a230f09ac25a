//! Runs variants of one piece of work against each other.
//!
//! criterion and divan measure one variant after the other. On a machine with other work, only batches of the same few
//! milliseconds can be compared. Here a round is one short batch of each variant, in a new random order. The numbers are
//! medians over many rounds, and each ratio is taken within a round.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// Work that is repeated.
pub type Work = Box<dyn FnMut()>;

pub struct Variant {
    pub name: String,
    place: Place,
}

enum Place {
    Here(Work),
    Apart(Apart),
}

impl Variant {
    /// In this process.
    pub fn here(name: impl Into<String>, work: Work) -> Variant {
        Variant { name: name.into(), place: Place::Here(work) }
    }

    /// In a separate process, which serves (see `serve`).
    pub fn apart(name: impl Into<String>, command: Command) -> Variant {
        Variant { name: name.into(), place: Place::Apart(Apart::start(command)) }
    }

    /// Nanoseconds for this many repetitions, after one that warms the caches and is not counted.
    fn batch(&mut self, times: u32) -> u64 {
        match &mut self.place {
            Place::Here(work) => {
                work();
                time(work, times)
            }
            Place::Apart(process) => {
                process.batch(1);
                process.batch(times)
            }
        }
    }
}

/// A process that repeats the work as often as each line of its input says, and prints the nanoseconds.
struct Apart {
    process: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Apart {
    fn start(mut command: Command) -> Apart {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program that runs");
        let from = BufReader::new(process.stdout.take().expect("a pipe"));
        Apart { to: process.stdin.take(), from, process }
    }

    fn batch(&mut self, times: u32) -> u64 {
        let mut answer = String::new();
        writeln!(self.to.as_ref().expect("open until drop"), "{times}").expect("a process that serves");
        self.from.read_line(&mut answer).expect("an answer");
        answer.trim().parse().expect("nanoseconds")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.to = None; // the end of its input is the end of its service
        assert!(self.process.wait().is_ok_and(|status| status.success()), "a process apart failed");
    }
}

/// The other side of `Apart`. Each batch is between two calls of getppid(2), so that `calls` finds it in a trace.
pub fn serve(mut work: Work) {
    for line in std::io::stdin().lines() {
        let times = line.ok().and_then(|line| line.parse().ok()).expect("a number");
        unsafe { libc::getppid() };
        let nanoseconds = time(&mut work, times);
        unsafe { libc::getppid() };
        println!("{nanoseconds}");
    }
}

fn time(work: &mut Work, times: u32) -> u64 {
    let start = Instant::now();
    (0..times).for_each(|_| work());
    u64::try_from(start.elapsed().as_nanos()).expect("less than centuries")
}

/// About how long one batch takes.
const BATCH: Duration = Duration::from_micros(500);

/// Nanoseconds of one piece of work, of every variant in every round. The rounds take this time in all.
pub fn interleave(variants: &mut [Variant], duration: Duration) -> Vec<Vec<f64>> {
    let once = variants.iter_mut().map(|variant| variant.batch(1)).min().expect("a variant");
    let times = u32::try_from(BATCH.as_nanos() / u128::from(once.max(1))).unwrap_or(u32::MAX).clamp(1, 1000);
    let mut samples = vec![Vec::new(); variants.len()];
    let mut order = Order::new(variants.len());
    let start = Instant::now();
    while start.elapsed() < duration || samples[0].len() < 3 {
        for &next in order.draw() {
            samples[next].push(variants[next].batch(times) as f64 / f64::from(times));
        }
    }
    samples
}

/// A new random order for each round, so that no variant always follows the same other one. The same on every run.
pub struct Order {
    order: Vec<usize>,
    state: u64,
}

impl Order {
    pub fn new(length: usize) -> Order {
        Order { order: (0..length).collect(), state: 1 }
    }

    pub fn draw(&mut self) -> &[usize] {
        for place in (1..self.order.len()).rev() {
            // Knuth's linear congruential generator; its high bits are the good ones.
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.order.swap(place, (self.state >> 33) as usize % (place + 1));
        }
        &self.order
    }
}
