//! The one table of supported targets: what each kernel and its C library have, handed to the source as cfgs.
//! It reads Cargo's environment and prints; it opens no file and starts no process.

use std::env;

/// What `src` needs to know about an operating system.
struct Target {
    /// Cargo's `target_os`.
    os: &'static str,
    /// The function that returns the address of `errno`.
    errno: &'static str,
    /// `pidfd_open(2)` and `pidfd_send_signal(2)`: Linux 5.3. Older kernels return `ENOSYS`, and work too.
    pidfd: bool,
    /// `clone(2)`: a child can share the memory of its parent.
    clone: bool,
    /// `O_PATH`: opening a directory needs search permission only, not read.
    o_path: bool,
    /// `/proc/PID/fd` and `fdinfo`, which show which process has a lock. If /proc is not mounted, we do without.
    proc: bool,
    /// The highest signal number that the kernel knows.
    last_signal: u8,
}

#[rustfmt::skip]
const TARGETS: &[Target] = &[
    Target { os: "linux",     errno: "__errno_location", pidfd: true,  clone: true,  o_path: true,  proc: true,  last_signal: 64 },
    Target { os: "android",   errno: "__errno",          pidfd: true,  clone: true,  o_path: true,  proc: true,  last_signal: 64 },
    Target { os: "freebsd",   errno: "__error",          pidfd: false, clone: false, o_path: false, proc: false, last_signal: 128 },
    Target { os: "netbsd",    errno: "__errno",          pidfd: false, clone: false, o_path: false, proc: false, last_signal: 63 },
    Target { os: "openbsd",   errno: "__errno",          pidfd: false, clone: false, o_path: false, proc: false, last_signal: 32 },
    Target { os: "dragonfly", errno: "__errno_location", pidfd: false, clone: false, o_path: false, proc: false, last_signal: 63 },
    Target { os: "macos",     errno: "__error",          pidfd: false, clone: false, o_path: false, proc: false, last_signal: 31 },
    Target { os: "ios",       errno: "__error",          pidfd: false, clone: false, o_path: false, proc: false, last_signal: 31 },
    Target { os: "illumos",   errno: "___errno",         pidfd: false, clone: false, o_path: false, proc: false, last_signal: 73 },
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(pidfd, statx, clone, o_path, proc, large_file_calls, wide_stat)");
    // The builder sets this in RUSTFLAGS. No call is newer than Linux 4.10, because a filter may kill for one.
    println!("cargo::rustc-check-cfg=cfg(pidflock_no_pidfd)");
    for target in TARGETS {
        println!("cargo::rustc-check-cfg=cfg(errno, values(\"{}\"))", target.errno);
    }

    let os = cargo("CARGO_CFG_TARGET_OS");
    let Some(target) = TARGETS.iter().find(|target| target.os == os) else {
        println!(
            "cargo::error=pidflock has nothing to build on: \"{os}\" has no flock(2) that it knows of; build.rs lists the systems that have"
        );
        return;
    };
    println!("cargo::rustc-cfg=errno=\"{}\"", target.errno);
    let newer_calls = env::var_os("CARGO_CFG_PIDFLOCK_NO_PIDFD").is_none();
    if target.pidfd && newer_calls {
        println!("cargo::rustc-cfg=pidfd");
    }
    if target.proc && newer_calls {
        println!("cargo::rustc-cfg=statx");
    }
    if target.clone {
        println!("cargo::rustc-cfg=clone");
    }
    if target.o_path {
        println!("cargo::rustc-cfg=o_path");
    }
    if target.proc {
        println!("cargo::rustc-cfg=proc");
    }
    // In 32-bit glibc and uClibc the plain names are the small-file calls, which refuse large files and inode numbers
    // (EOVERFLOW). Both have the other calls, even with 64-bit time_t. In musl the plain names are the large-file calls.
    let small_files = matches!(cargo("CARGO_CFG_TARGET_ENV").as_str(), "gnu" | "uclibc");
    if os == "linux" && small_files && cargo("CARGO_CFG_TARGET_POINTER_WIDTH") == "32" {
        println!("cargo::rustc-cfg=large_file_calls");
        // And its times end in 2038: a newer file gives an error.
        if newer_calls {
            println!("cargo::rustc-cfg=wide_stat");
        }
    }
    // MIPS kept the numbering of IRIX.
    let mips = cargo("CARGO_CFG_TARGET_ARCH").starts_with("mips");
    let last_signal = if os == "linux" && mips { 127 } else { target.last_signal };
    println!("cargo::rustc-env=PIDFLOCK_LAST_SIGNAL={last_signal}");
}

/// What Cargo says about the target; empty if it says nothing.
fn cargo(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
