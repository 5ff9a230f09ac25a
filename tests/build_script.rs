//! What build.rs prints for a target. `ci/targets` builds for real targets.

mod support;

use std::{path::Path, process::Command};
use support::Scratch;

/// Its output for a target, or its error.
fn said(program: &str, [os, environment, architecture, width]: [&str; 4]) -> String {
    let output = Command::new(program)
        .env("CARGO_CFG_TARGET_OS", os)
        .env("CARGO_CFG_TARGET_ENV", environment)
        .env("CARGO_CFG_TARGET_ARCH", architecture)
        .env("CARGO_CFG_TARGET_POINTER_WIDTH", width)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn large_file_calls_are_used_where_the_plain_ones_are_small_and_nowhere_else() {
    let scratch = Scratch::new();
    let program = scratch.path("build-script");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    assert!(Command::new(rustc).args(["--edition=2024", "-o", program]).arg(source).status().unwrap().success());

    let large = |target| said(program, target).contains("rustc-cfg=large_file_calls");
    for target in [
        ["linux", "gnu", "arm", "32"],
        ["linux", "gnu", "x86", "32"],
        ["linux", "uclibc", "arm", "32"],
        ["linux", "uclibc", "mips", "32"],
    ] {
        assert!(large(target), "{target:?}");
    }
    for target in [
        ["linux", "gnu", "x86_64", "64"],
        ["linux", "uclibc", "mips64", "64"],
        ["linux", "musl", "arm", "32"],
        ["android", "", "arm", "32"],
        ["freebsd", "", "x86", "32"],
    ] {
        assert!(!large(target), "{target:?}");
    }
    assert!(said(program, ["linux", "musl", "mips", "32"]).contains("PIDFLOCK_LAST_SIGNAL=127"));
    assert!(said(program, ["linux", "musl", "arm", "32"]).contains("PIDFLOCK_LAST_SIGNAL=64"));
    assert!(said(program, ["solaris", "", "sparc64", "64"]).contains("cargo::error=pidflock has nothing to build on"));
}
