//! The pieces of work that are measured, by subject and variant.

use crate::{
    bsd,
    floor::{self, Path},
    rivals,
    runner::{Variant, Work},
};
use pidflock::{Error, PidLock, State};
use std::{env, fs, hint::black_box, mem, process::Command};

pub const FLOOR: &str = "floor";
pub const SAFE: &str = "safe floor";
pub const PIDFLOCK: &str = "pidflock";
pub const BSD: &str = "libbsd pidfile(3)";
pub const PIDFILE_RS: &str = "pidfile-rs";
pub const RUBY: &str = "Ruby File#flock";

/// Fails to acquire a name, and returns the holder.
type Refusal = fn(&Path) -> i32;

/// The work, its directory, and its size: how deep, how often or among how many.
#[derive(Clone)]
pub struct Subject {
    pub what: String,
    pub directory: String,
    pub size: u32,
}

impl Subject {
    pub fn new(what: &str, directory: &str, size: u32) -> Subject {
        Subject { what: what.into(), directory: directory.into(), size }
    }

    /// This process's own file, because serving processes run at the same time.
    fn path(&self, name: &str) -> Path {
        Path::new(&format!("{}/{}-{name}-{}.pid", self.directory, self.what, own_pid()))
    }

    pub fn variants(&self) -> Vec<Variant> {
        let ruby = self.ruby().map(|command| Variant::apart(RUBY, command));
        self.works().into_iter().map(|(name, work)| Variant::here(name, work)).chain(ruby).collect()
    }

    /// Every variant by its name, and the program that serves it alone.
    pub fn commands(&self) -> Vec<(&'static str, Command)> {
        let names = self.works().into_iter().map(|(name, _)| (name, self.serving(name)));
        names.chain(self.ruby().map(|command| (RUBY, command))).collect()
    }

    fn ruby(&self) -> Option<Command> {
        if !matches!(self.what.as_str(), "cycle" | "cycle-fsync" | "refusal") {
            return None;
        }
        let mut command = Command::new("ruby");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cycle.rb");
        command.args(["--disable=gems", script, &self.what, self.path("Ruby").text()]);
        Some(command)
    }

    /// This program, as a process that does only this work.
    pub fn serving(&self, name: &str) -> Command {
        let mut command = Command::new(env::current_exe().expect("a program"));
        command.args(["serve", &self.what, &self.directory, &self.size.to_string(), name]);
        command
    }

    pub fn works(&self) -> Vec<(&'static str, Work)> {
        match self.what.as_str() {
            "cycle" => self.cycles(false),
            "cycle-fsync" => self.cycles(true),
            "refusal" => self.refusals(),
            "probe-held" => self.probes(Some(true)),
            "probe-free" => self.probes(Some(false)),
            "probe-absent" => self.probes(None),
            "names" => self.among_names(),
            "depth" => self.deep(),
            "held" => self.holding(),
            what => panic!("no such work: {what}"),
        }
    }

    fn cycles(&self, sync: bool) -> Vec<(&'static str, Work)> {
        let mut works = vec![
            (FLOOR, work(self.path("floor"), move |path| floor::cycle(path, sync))),
            (SAFE, work(self.path("safe"), move |path| floor::safe_cycle(path, sync))),
            (PIDFLOCK, work(self.path("pidflock"), move |path| cycle(path, sync))),
            (BSD, work(self.path("bsd"), move |path| bsd::cycle(&path.whole, sync))),
            ("fd-lock", work(self.path("fd-lock"), move |path| rivals::fd_lock(path, sync))),
            ("File::try_lock", work(self.path("std"), move |path| rivals::std_file(path, sync))),
        ];
        if sync {
            works.push((PIDFILE_RS, work(self.path("pidfile-rs"), rivals::pidfile_rs)));
        } else {
            works.push(("fslock (file stays)", work(self.path("fslock"), rivals::fslock)));
            works.push(("pidlock (no lock)", work(self.path("pidlock"), rivals::pidlock)));
        }
        works
    }

    fn refusals(&self) -> Vec<(&'static str, Work)> {
        let refusals: [(_, Refusal); 9] = [
            (FLOOR, floor::refusal),
            (SAFE, floor::safe_refusal),
            (PIDFLOCK, refusal),
            (BSD, |path| bsd::refusal(&path.whole)),
            (PIDFILE_RS, rivals::pidfile_rs_refusal),
            ("fslock", rivals::fslock_refusal),
            ("pidlock", rivals::pidlock_refusal),
            ("fd-lock", rivals::fd_lock_refusal),
            ("File::try_lock", rivals::std_file_refusal),
        ];
        hold(&self.path("Ruby"), "\n");
        let all = refusals.into_iter().enumerate().map(|(number, (name, refusal))| {
            let path = self.path(&number.to_string());
            // Two of them read no claim that ends in a newline.
            hold(&path, if matches!(name, BSD | PIDFILE_RS) { "" } else { "\n" });
            let holder = own_pid();
            (name, work(path, move |path| assert_eq!(refusal(path), holder)))
        });
        all.collect()
    }

    /// A probe of a name that is held, or free, or absent.
    fn probes(&self, held: Option<bool>) -> Vec<(&'static str, Work)> {
        let path = self.path("x");
        match held {
            Some(true) => hold(&path, "\n"),
            Some(false) => fs::write(path.text(), format!("{}\n", own_pid())).expect("a file"),
            None => {}
        }
        let expected = held.map(|held| (held, own_pid()));
        let mut works = vec![
            (SAFE, work(path.clone(), move |path| assert_eq!(floor::safe_probe(path), expected))),
            (PIDFLOCK, work(path.clone(), move |path| assert_eq!(probe(path), expected))),
        ];
        if held != Some(false) {
            // It takes a free name for held if the claim is alive, and deletes the file if the claim is not.
            let expected = expected.map(|(_, pid)| pid);
            works.push(("pidlock", work(path, move |path| assert_eq!(rivals::pidlock_probe(path), expected))));
        }
        works
    }

    /// In a directory with this many files.
    fn among_names(&self) -> Vec<(&'static str, Work)> {
        let directory = format!("{}/names-{}", self.directory, self.size);
        fs::create_dir_all(&directory).expect("a directory");
        for number in 0..self.size {
            fs::write(format!("{directory}/{number}.pid"), "4242\n").expect("a file");
        }
        ours_and_floor(&directory)
    }

    /// This many directories deep.
    fn deep(&self) -> Vec<(&'static str, Work)> {
        let directory = format!("{}/depth{}", self.directory, "/d".repeat(self.size as usize));
        fs::create_dir_all(&directory).expect("a directory");
        ours_and_floor(&directory)
    }

    /// In a process that already holds this many names.
    fn holding(&self) -> Vec<(&'static str, Work)> {
        let directory = format!("{}/held-{}", self.directory, self.size);
        for number in 0..self.size {
            let lock = PidLock::options().sync(false).acquire(format!("{directory}/{}-{number}.pid", own_pid()));
            mem::forget(lock.expect("a free name"));
        }
        ours_and_floor(&directory)
    }
}

/// All with the same name, one after the other: a large directory on disk does not find every name equally fast.
fn ours_and_floor(directory: &str) -> Vec<(&'static str, Work)> {
    let path = Path::new(&format!("{directory}/x.pid"));
    vec![
        (SAFE, work(path.clone(), |path| floor::safe_cycle(path, false))),
        (PIDFLOCK, work(path, |path| cycle(path, false))),
    ]
}

fn work<T>(path: Path, work: impl Fn(&Path) -> T + 'static) -> Work {
    Box::new(move || {
        black_box(work(&path));
    })
}

fn own_pid() -> i32 {
    unsafe { libc::getpid() }
}

/// Holds a name, with this claim, until this process ends.
fn hold(path: &Path, end: &str) {
    let _ = fs::remove_file(path.text()); // this process held it before
    let mut file = fs::File::create(path.text()).expect("a file");
    file.try_lock().expect("a free name");
    std::io::Write::write_all(&mut file, format!("{}{end}", own_pid()).as_bytes()).expect("a claim");
    mem::forget(file);
}

fn cycle(path: &Path, sync: bool) {
    let lock = PidLock::options().sync(sync).acquire(path.whole.as_c_str()).expect("a free name");
    lock.release().expect("released");
}

fn refusal(path: &Path) -> i32 {
    match PidLock::acquire(path.whole.as_c_str()) {
        Err(Error::AlreadyLocked { holder: Some(pid) }) => pid.get(),
        result => panic!("{result:?}"),
    }
}

fn probe(path: &Path) -> Option<(bool, i32)> {
    match pidflock::probe(path.whole.as_c_str()).expect("a probe") {
        State::Absent => None,
        State::Free { stale } => Some((false, stale?.get())),
        State::Held { holder } => Some((true, holder?.get())),
    }
}
