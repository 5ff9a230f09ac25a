//! The exact figures: system calls (strace) and instructions (callgrind) of one piece of work.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

/// The system calls of one run of the work, by name, in order.
pub fn system_calls(command: &Command) -> Vec<String> {
    let log = "trace";
    run(under(&["strace", "-qq", "-o", log], command), "1\n1\n");
    let text = fs::read_to_string(log).expect("a trace");
    let names: Vec<String> = text.lines().filter_map(|line| Some(line.split_once('(')?.0.into())).collect();
    // The second of the two batches; the first one may have set things up.
    let marks: Vec<usize> = (0..names.len()).filter(|place| names[*place] == "getppid").collect();
    names[marks[2] + 1..marks[3]].to_vec()
}

/// The instructions of one run outside the kernel: those of a hundred more runs, divided by a hundred.
pub fn instructions(command: &Command) -> u64 {
    let collected = |input| {
        let valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let text = run(under(&valgrind, command), input);
        let line = text.lines().find_map(|line| line.split_once("Collected : ")).expect("a number of instructions");
        line.1.trim().parse::<u64>().expect("a number")
    };
    (collected("1\n101\n") - collected("1\n1\n")) / 100
}

/// The system calls of a whole program and its children.
pub fn system_calls_of_program(command: &Command) -> usize {
    let log = "trace";
    run(under(&["strace", "-f", "-qq", "-o", log], command), "");
    fs::read_to_string(log).expect("a trace").lines().filter(|line| line.contains('(')).count()
}

fn under(tool: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(tool[0]);
    whole.args(&tool[1..]).arg(command.get_program()).args(command.get_args());
    whole
}

/// Runs it with this input, and returns its standard error.
fn run(mut command: Command, input: &str) -> String {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("a program that runs");
    process.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("a process that reads");
    let output = process.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
