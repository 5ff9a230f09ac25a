//! Every step of the guide that is a shell command works, in the order of the page. What is Rust there, runs as a doctest.
#![cfg(target_os = "linux")]

mod support;

use std::{path::Path, process::Command};
use support::*;

const PAGE: &str = include_str!("../doc/guide.md");

#[test]
fn every_shell_step_of_the_guide_works() {
    let scratch = Scratch::new();
    let steps: Vec<&str> =
        PAGE.split("```sh\n").skip(1).map(|block| block.split_once("```").expect("a block that ends").0).collect();
    assert!(steps.len() >= 5, "only {} steps", steps.len());
    // The first one is in the background, and the next asks for it.
    let script = steps.join("\nuntil_held\n");
    let script = script.replace("/run/demo", scratch.path("demo"));
    let prelude = "until_held() { n=0; until test -s \"$PIDFILE\" || test \"$STEP\" != 0 || test $n = 100; do sleep 0.05; \
                   n=$((n + 1)); done; STEP=$((STEP + 1)); }\nSTEP=0\nset -e\n";
    let directory = Path::new(env!("CARGO_BIN_EXE_pidflock")).parent().expect("a directory");
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("sh")
        .args(["-c", &(prelude.to_owned() + &script)])
        .env("PATH", path)
        .env("PIDFILE", scratch.path("demo/demo.pid"))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.trim().parse::<u32>().is_ok(), "the PID of the holder, and not {printed:?}");
    assert!(said.contains("already locked by process"), "{said}");
}
