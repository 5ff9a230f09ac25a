//! The command: how long it takes to start and end /bin/true under a name, beside other programs that lock and exec.

use crate::{
    Effort, calls,
    process::pinned,
    report::Report,
    runner::{Variant, Work, interleave},
};
use std::process::Command;

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

fn starting(mut command: Command) -> Work {
    Box::new(move || {
        let status = command.status().expect("a program that runs");
        assert!(status.success(), "{command:?} {status}");
    })
}
