//! The cost of pidflock, beside the floor and other programs. `ci/bench/run` prepares the working directory and runs this.
//!
//! The working directory must contain the mounted file systems `tmpfs` and `ext4`, and the command as `pidflock-static` and
//! `pidflock-dynamic`. If everything in the plot was measured, this writes it there as `speed.svg`. Exits with 1 if a promise
//! was missed.

mod bsd;
mod calls;
mod command;
mod contenders;
mod floor;
mod growth;
mod handover;
mod plot;
mod process;
mod report;
mod rivals;
mod runner;
mod stats;
mod works;

use process::pinned;
use report::Report;
use runner::interleave;
use std::{env, fs, process::ExitCode, time::Duration};
use works::{BSD, PIDFILE_RS, PIDFLOCK, SAFE, Subject};

/// How much to measure: 1 for real numbers, less to try that everything works.
pub struct Effort(f64);

impl Effort {
    pub fn seconds(&self, full: f64) -> Duration {
        Duration::from_secs_f64(full * self.0)
    }

    pub fn times(&self, full: usize) -> usize {
        ((full as f64 * self.0) as usize).max(1)
    }
}

const PLACES: [&str; 2] = ["tmpfs", "ext4"];

const SUBJECTS: [&str; 7] = ["cycle", "refusal", "probe", "growth", "contenders", "handover", "command"];

fn main() -> ExitCode {
    process::raise_descriptor_limit();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", what, directory, size, name] => {
            let works = Subject::new(what, directory, size.parse().expect("a number")).works();
            runner::serve(works.into_iter().find(|work| work.0 == name).expect("such a work").1);
            ExitCode::SUCCESS
        }
        ["now"] => {
            handover::say_now();
            ExitCode::SUCCESS
        }
        ["measure", effort, ref subjects @ ..] => measure(&Effort(effort.parse().expect("a number")), subjects),
        _ => ExitCode::from(64),
    }
}

fn measure(effort: &Effort, subjects: &[&str]) -> ExitCode {
    let mut report = Report::default();
    println!("{}\n", machine());
    let here = env::current_dir().expect("a directory");
    for subject in if subjects.is_empty() { &SUBJECTS } else { subjects } {
        for place in PLACES {
            let directory = here.join(place).into_os_string().into_string().expect("UTF-8");
            one(&mut report, effort, subject, place, &directory);
        }
    }
    if let Some(plot) = plot::draw(&report.rows) {
        fs::write("speed.svg", plot).expect("a file");
    }
    ExitCode::from(u8::from(!report.print()))
}

/// Kernel, processors, and their load at the start.
fn machine() -> String {
    let [kernel, processors, load] = ["/proc/sys/kernel/osrelease", "/proc/cpuinfo", "/proc/loadavg"]
        .map(|file| fs::read_to_string(file).expect("a file of /proc"));
    let models: Vec<&str> = processors.lines().filter_map(|line| line.strip_prefix("model name\t: ")).collect();
    let model = models.first().unwrap_or(&"processors");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "Linux {}, {} × {model}, load {load} at the start; ext4 is an image in memory.",
        kernel.trim(),
        models.len()
    )
}

fn one(report: &mut Report, effort: &Effort, subject: &str, place: &str, directory: &str) {
    let tmpfs = place == PLACES[0];
    let mut work = |what, seconds| race(report, effort.seconds(seconds), place, Subject::new(what, directory, 0));
    match subject {
        "cycle" => {
            work("cycle", 20.0);
            work("cycle-fsync", 20.0);
        }
        "refusal" => work("refusal", 10.0),
        "probe" => ["probe-held", "probe-free", "probe-absent"].into_iter().for_each(|what| work(what, 3.0)),
        "growth" => {
            growth::measure(report, effort, place, directory, "names", &[1, 10, 100, 1_000, 10_000]);
            growth::measure(report, effort, place, directory, "depth", &[1, 4, 16, 64]);
            growth::measure(report, effort, place, directory, "held", &[1, 10, 100, 1_000]);
        }
        // They wait for the kernel's lock, which does not depend on the file system.
        "contenders" | "handover" if !tmpfs => {}
        "contenders" => contenders::measure(report, effort, place, directory),
        "handover" => handover::measure(report, effort, place, directory),
        "command" => {
            command::measure(report, effort, place, directory);
            if tmpfs {
                command::measure_memory(report, place, directory);
            }
        }
        _ => panic!("no such subject: {subject}; there are {SUBJECTS:?}"),
    }
}

/// All variants of a work beside the safe floor, and the promises about it.
fn race(report: &mut Report, duration: Duration, place: &str, subject: Subject) {
    let what = subject.what.as_str();
    let (names, samples): (Vec<String>, Vec<Vec<f64>>) = pinned(|| {
        let mut variants = subject.variants();
        let samples = interleave(&mut variants, duration);
        (variants.into_iter().map(|variant| variant.name).collect(), samples)
    });
    let find = |name| names.iter().position(|other| other == name).map(|number| &samples[number]);
    let (safe, ours) = (find(SAFE).expect("a floor"), find(PIDFLOCK).expect("pidflock"));
    for (name, samples) in names.iter().zip(&samples) {
        report.time(what, place, name, samples, Some(safe));
    }
    let most = [("cycle", 1.03), ("cycle-fsync", 1.03), ("refusal", 1.1)].into_iter().find(|promise| promise.0 == what);
    if let Some((_, most)) = most {
        report.promise_ratio(format!("{what}, {place}, over the safe floor"), ours, safe, most);
    }
    for rival in [BSD, PIDFILE_RS].into_iter().filter(|_| what.starts_with("cycle")) {
        if let Some(samples) = find(rival) {
            report.promise_ratio(format!("{what}, {place}, over {rival}"), ours, samples, 1.0);
        }
    }
    if place == PLACES[0] {
        count(report, &subject, place);
    }
}

/// The system calls and instructions of every variant, which do not depend on the file system, and whether the safe floor
/// still makes pidflock's calls. (Instructions only of cycles: Debian's valgrind does not support pidfd_open.)
fn count(report: &mut Report, subject: &Subject, place: &str) {
    let commands = subject.commands();
    let calls: Vec<Vec<String>> = commands.iter().map(|(_, command)| calls::system_calls(command)).collect();
    for ((name, command), calls) in commands.iter().zip(&calls) {
        if let Some(row) = report.find(&subject.what, place, name) {
            row.calls = Some(calls.len());
            row.instructions = subject.what.starts_with("cycle").then(|| calls::instructions(command));
        }
    }
    let find = |name| commands.iter().position(|command| command.0 == name).map(|number| &calls[number]);
    let (safe, ours) = (find(SAFE), find(PIDFLOCK));
    if subject.what == "probe-held" {
        return; // the floor believes the claim, but a probe reads a file of /proc for each descriptor of the holder
    }
    if safe != ours {
        eprintln!("{}: floor {safe:?}\npidflock {ours:?}", subject.what);
    }
    let differ = f64::from(u8::from(safe != ours));
    report.promise(format!("{}, {place}: the safe floor makes other calls than pidflock", subject.what), differ, 0.0);
}
