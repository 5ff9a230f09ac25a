//! Many processes contend for one name: how often all together get it, how long one waits, and how much each one gets.

use crate::{
    Effort, bsd,
    floor::{self, Path},
    process::{fork, now, pipe, reap, shared},
    report::Report,
    runner::Order,
    stats::{quantile, ratios},
    works::{FLOOR, PIDFLOCK, SAFE},
};
use pidflock::{Options, PidLock, Wait};
use std::{
    io::Read,
    os::fd::AsRawFd,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

const NUMBERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Waits for the name, calls the function while it has the name, and releases it.
type Once = fn(&Path, &dyn Fn());

const OPTIONS: Options = PidLock::options().sync(false);

const WAYS: [(&str, Once); 7] = [
    (FLOOR, |path, during| floor::wait(path, during)),
    (SAFE, |path, during| floor::safe_wait(path, during)),
    (PIDFLOCK, |path, during| hold(OPTIONS.wait(Wait::Forever), path, during)),
    ("pidflock, Wait::For", |path, during| hold(OPTIONS.wait(Wait::For(Duration::from_secs(600))), path, during)),
    ("libbsd flopen(3)", libbsd),
    ("floor, file stays", |path, during| floor::wait_kept(path, during)),
    ("pidflock, file stays", |path, during| {
        hold(OPTIONS.wait(Wait::Forever).remove_on_release(false), path, during);
    }),
];

fn hold(options: Options, path: &Path, during: &dyn Fn()) {
    let lock = options.acquire(path.whole.as_c_str()).expect("the name");
    during();
    lock.release().expect("released");
}

fn libbsd(path: &Path, during: &dyn Fn()) {
    let fd = bsd::wait(&path.whole);
    floor::stamp(fd);
    during();
    std::fs::remove_file(path.text()).expect("removed");
    floor::close(fd);
}

/// The result of one run.
struct Outcome {
    /// Acquisitions per second that found no other holder.
    rate: f64,
    /// Acquisitions per second that found another holder.
    double: f64,
    /// The share of the process with the least, in percent of an even share.
    least: f64,
    /// The longest wait, in milliseconds.
    longest: f64,
}

pub fn measure(report: &mut Report, effort: &Effort, place: &str, directory: &str) {
    for number in NUMBERS {
        let mut outcomes: [Vec<Outcome>; WAYS.len()] = Default::default();
        let mut order = Order::new(WAYS.len());
        // Long enough for everybody to be scheduled a few times.
        let duration = effort.seconds(0.05 + 0.015 * number as f64).max(Duration::from_millis(20));
        for _ in 0..effort.times(7) {
            for &way in order.draw() {
                let path = Path::new(&format!("{directory}/contended-{way}.pid"));
                outcomes[way].push(run(number, &path, WAYS[way].1, duration));
            }
        }
        report_all(report, place, number, &outcomes);
    }
}

fn report_all(report: &mut Report, place: &str, number: usize, outcomes: &[Vec<Outcome>]) {
    let rates: Vec<Vec<f64>> = outcomes.iter().map(|way| way.iter().map(|outcome| outcome.rate).collect()).collect();
    let what = format!("contenders {number}");
    for (way, (name, _)) in WAYS.iter().enumerate() {
        let base = if name.ends_with("file stays") { 5 } else { 1 };
        let column = |field: fn(&Outcome) -> f64| outcomes[way].iter().map(field).collect::<Vec<f64>>();
        let least = quantile(&column(|outcome| outcome.least), 50) * 100.0;
        let longest = quantile(&column(|outcome| outcome.longest), 100);
        let double = quantile(&column(|outcome| outcome.double), 50);
        let row = report.row(&what, place, name, &rates[way], "/s", Some(ratios(&rates[way], &rates[base])));
        row.remark = format!("least share {least:.0} %, longest wait {longest:.1} ms");
        if double > 0.0 {
            row.remark += &format!(", and {double:.0} double holds/s");
        }
        if number == 64 && name.starts_with(PIDFLOCK) && base == 1 {
            for (floor, floors) in [(FLOOR, &rates[0]), (SAFE, &rates[1])] {
                let what = format!("throughput of the {floor} over that of {name}, 64 contenders, {place}");
                report.promise_ratio(what, floors, &rates[way], 1.25);
            }
            let what = format!("even share over the least share of {name}, 64 contenders, {place}");
            report.promise(what, 100.0 / least, 10.0);
        }
    }
}

/// Runs this many processes in a loop for this time.
fn run(number: usize, path: &Path, once: Once, duration: Duration) -> Outcome {
    let _ = std::fs::remove_file(path.text());
    let (counts, waits, holders, double) = (shared(number), shared(number), &shared(1)[0], &shared(1)[0]);
    let (start, go) = pipe();
    let contender = |own: usize| {
        let mut start = &start;
        let _the_end_is_the_sign = start.read(&mut [0]);
        let end = now() + duration.as_nanos() as u64;
        let mut begin = now();
        while begin < end {
            once(path, &|| {
                let alone = holders.fetch_add(1, SeqCst) == 0;
                let time = now();
                if time < end {
                    if alone { &counts[own] } else { double }.fetch_add(1, SeqCst);
                }
                waits[own].fetch_max((time - begin) as usize, SeqCst);
                holders.fetch_sub(1, SeqCst);
            });
            begin = now();
        }
        0
    };
    let raw = go.as_raw_fd(); // every child has a copy, and the last close starts them all
    let children: Vec<i32> = (0..number)
        .map(|own| {
            fork(|| {
                floor::close(raw);
                contender(own)
            })
        })
        .collect();
    drop(go);
    children.into_iter().for_each(reap);
    let sum = |numbers: &[AtomicUsize]| numbers.iter().map(|number| number.load(SeqCst)).sum::<usize>() as f64;
    let least = counts.iter().map(|count| count.load(SeqCst)).min().expect("a contender") as f64;
    let longest = waits.iter().map(|wait| wait.load(SeqCst)).max().expect("a contender") as f64;
    Outcome {
        rate: sum(counts) / duration.as_secs_f64(),
        double: double.load(SeqCst) as f64 / duration.as_secs_f64(),
        least: least * number as f64 / sum(counts).max(1.0),
        longest: longest / 1e6,
    }
}
