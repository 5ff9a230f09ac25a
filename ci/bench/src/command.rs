//! The command: how long it takes to start and end /bin/true under a name, beside other programs that lock and exec.

use crate::{
    Effort, calls,
    process::pinned,
    report::Report,
    runner::{Variant, Work, interleave},
};
use std::{fs, process::Command};

const TRUE: &str = "/bin/true";
const STATIC: &str = "pidflock run, static";
const WITHOUT_GUARD: &str = "pidflock run -x, static";

fn commands(directory: &str) -> Vec<(&'static str, Command)> {
    let file = |name: &str| format!("{directory}/command-{name}.pid");
    let command = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        command
    };
    let own = |kind: &str, options: &[&str]| {
        let program = std::env::current_dir().expect("a directory").join(format!("pidflock-{kind}"));
        let file = file(&format!("{kind}{}", options.concat()));
        command(program.to_str().expect("UTF-8"), &[&["run"], options, &[&file, TRUE]].concat())
    };
    let pid_file = file("start-stop-daemon");
    vec![
        ("exec alone", command(TRUE, &[])),
        (STATIC, own("static", &[])),
        (WITHOUT_GUARD, own("static", &["-x"])),
        ("pidflock run, dynamic", own("dynamic", &[])),
        ("pidflock run -x, dynamic", own("dynamic", &["-x"])),
        ("flock -n", command("/usr/bin/flock", &["-n", &file("flock"), TRUE])),
        ("setlock -n", command("/usr/bin/setlock", &["-n", &file("setlock"), TRUE])),
        ("s6-setlock -n", command("/usr/bin/s6-setlock", &["-n", &file("s6-setlock"), TRUE])),
        ("chpst -L", command("/usr/bin/chpst", &["-L", &file("chpst"), TRUE])),
        (
            "start-stop-daemon -m",
            command("/sbin/start-stop-daemon", &["--start", "--make-pidfile", "--pidfile", &pid_file, "--exec", TRUE]),
        ),
    ]
}

pub fn measure(report: &mut Report, effort: &Effort, place: &str, directory: &str) {
    let all = commands(directory);
    let calls: Vec<usize> = all.iter().map(|(_, command)| calls::system_calls_of_program(command)).collect();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let mut variants: Vec<Variant> =
        all.into_iter().map(|(name, command)| Variant::here(name, starting(command))).collect();
    let samples = pinned(|| interleave(&mut variants, effort.seconds(20.0)));
    for (number, name) in names.iter().enumerate() {
        let row = report.time("command", place, name, &samples[number], Some(&samples[0]));
        row.calls = Some(calls[number].saturating_sub(calls[0]));
        match *name {
            "exec alone" | STATIC => {}
            WITHOUT_GUARD => {
                report.promise_ratio(format!("{STATIC}, over {name}, {place}"), &samples[1], &samples[2], 1.25);
            }
            _ if number > 4 => {
                report.promise_ratio(format!("{STATIC}, over {name}, {place}"), &samples[1], &samples[number], 1.0);
            }
            _ => {}
        }
    }
}

/// The memory of a process that waits for COMMAND: the guard, and flock(1), which stays as the parent.
pub fn measure_memory(report: &mut Report, place: &str, directory: &str) {
    let directory = std::env::current_dir().expect("a directory").join(directory).display().to_string();
    for (who, name, most) in
        [("guard of pidflock run, static", "pidflock-guard", Some(100.0)), ("flock", "flock", None)]
    {
        let file = format!("{directory}/memory-{name}");
        let program = if name == "flock" { "/usr/bin/flock" } else { "./pidflock-static" };
        let mut command = Command::new(program);
        command.args((name != "flock").then_some("run")).args([&file, "sleep", "1"]);
        let mut running = command.spawn().expect("a program that runs");
        let waiting = waiting(name, &file);
        let rollup = fs::read_to_string(format!("/proc/{waiting}/smaps_rollup")).expect("memory");
        let sum = |field: &str| -> f64 {
            let lines = rollup.lines().filter(|line| line.starts_with(field));
            lines.map(|line| line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("KB")).sum()
        };
        report.row("memory, resident", place, who, &[sum("Rss:")], "KB", None);
        report.row("memory, private", place, who, &[sum("Private_")], "KB", None);
        if let Some(most) = most {
            report.promise(format!("{who}: private KB"), sum("Private_"), most);
        }
        running.wait().expect("an end");
    }
}

/// The process of this name that has the file open, once it sleeps.
fn waiting(name: &str, file: &str) -> u32 {
    let has = |pid: u32| {
        let text = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        text("comm").trim_end() == name
            && text("stat").contains(") S ")
            && open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|open| open.as_os_str() == file)
    };
    loop {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        if let Some(pid) = numbers.find(|pid| has(*pid)) {
            return pid;
        }
    }
}

fn starting(mut command: Command) -> Work {
    Box::new(move || {
        let status = command.status().expect("a program that runs");
        assert!(status.success(), "{command:?} {status}");
    })
}
