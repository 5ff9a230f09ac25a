//! Prints the size of each handle and the deepest stack of each public operation, and fails above 8 KiB. `ci/stack/run`
//! runs it.
//!
//! Each operation runs on a thread whose stack was filled with a pattern. Bytes that no longer have the pattern were touched.
//! The bytes that an idle thread touches are subtracted; those of the C library's calls are not.

use pidflock::{Error, Holder, Options, OwnedFd, Pid, PidLock, Signal, State, Wait};
use std::{ffi::c_void, fs, io, path::Path, process::ExitCode, sync::Mutex, time::Duration};

const MOST: usize = 8192;
const STACK: usize = 256 * 1024;
const PATTERN: u8 = 0xA5;

/// A stack, aligned as mmap(2) would.
#[repr(align(4096))]
struct Stack([u8; STACK]);

type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// The work of the thread. Set before it starts, and taken by it.
static WORK: Mutex<Option<Work<'static>>> = Mutex::new(None);

extern "C" fn start(_: *mut c_void) -> *mut c_void {
    let work = WORK.lock().ok().and_then(|mut work| work.take());
    if let Some(work) = work {
        work();
    }
    std::ptr::null_mut()
}

/// How many bytes of a new stack this touches.
fn touched(work: Work<'static>) -> io::Result<usize> {
    if let Ok(mut slot) = WORK.lock() {
        *slot = Some(work);
    }
    let mut stack = Box::new(Stack([PATTERN; STACK]));
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = std::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: it initialises what it is given.
    done(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) })?;
    // SAFETY: the stack lives until the thread was joined.
    done(unsafe { libc::pthread_attr_setstack(attributes.as_mut_ptr(), (&raw mut *stack).cast(), STACK) })?;
    // SAFETY: the attributes are initialised, and `start` takes nothing.
    done(unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), start, std::ptr::null_mut()) })?;
    // SAFETY: `pthread_create` has succeeded.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: it is joined once, here.
    done(unsafe { libc::pthread_join(thread, std::ptr::null_mut()) })?;
    let bytes = std::hint::black_box(&*stack);
    Ok(bytes.0.iter().skip_while(|byte| **byte == PATTERN).count())
}

fn done(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Prints a row, and whether it is within the bound.
fn row<T>(name: &str, idle: usize, work: impl FnOnce() -> T + Send + 'static) -> io::Result<bool> {
    let result = move || {
        std::hint::black_box(work());
    };
    let bytes = touched(Box::new(result))?.saturating_sub(idle);
    let (call, how) = name.split_once(',').map_or((name, String::new()), |(call, how)| (call, format!(",{how}")));
    println!("| `{call}`{how} | {bytes} |");
    Ok(bytes <= MOST)
}

/// Ends the program if an operation failed, because then it measures the wrong path.
fn must<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("stack: {error}");
        std::process::exit(1)
    })
}

fn main() -> io::Result<ExitCode> {
    let home = format!("{}/pidflock-stack-{}", std::env::temp_dir().display(), std::process::id());
    fs::create_dir(&home)?;
    let path: &'static str = format!("{home}/a/b/name.pid").leak();
    let result = measure(path);
    fs::remove_dir_all(Path::new(&home))?;
    let good = result?;
    if !good {
        eprintln!("stack: an operation needs more than {MOST} bytes");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(path: &'static str) -> io::Result<bool> {
    println!("| size of | bytes |\n|---|--:|");
    println!("| `PidLock` | {} |", size_of::<PidLock>());
    println!("| `Holder` | {} |", size_of::<Holder>());
    println!("| `Options` | {} |", size_of::<Options>());
    println!("| `Result<PidLock, Error>` | {} |", size_of::<Result<PidLock, Error>>());

    println!("\n| deepest stack of | bytes |\n|---|--:|");
    // The first thread pays for what the C library initializes once.
    touched(Box::new(move || drop(must(PidLock::acquire(path)))))?;
    let idle = touched(Box::new(|| ()))?;
    let options = PidLock::options();
    let short = Wait::For(Duration::from_millis(5));
    let mut good = true;

    // Includes dropping the result and, if the operation consumes its lock, the lock.
    fs::remove_dir_all(Path::new(path).parent().and_then(Path::parent).unwrap_or(Path::new(path)))?;
    good &= row("PidLock::acquire, with parents", idle, move || must(PidLock::acquire(path)))?;
    good &= row("PidLock::acquire", idle, move || must(PidLock::acquire(path)))?;
    fs::write(path, "999999999 and much more than anybody would stamp\n")?;
    good &= row("PidLock::acquire, on a stale file", idle, move || must(PidLock::acquire(path)))?;

    let lock = must(PidLock::acquire(path));
    good &= row("PidLock::acquire, refused", idle, move || PidLock::acquire(path).is_err())?;
    good &= row("Options::acquire, refused late", idle, move || options.wait(short).acquire(path).is_err())?;
    good &= row("pidflock::probe", idle, move || match must(pidflock::probe(path)) {
        State::Held { .. } => {}
        _ => must(Err(Error::NotLocked)),
    })?;
    good &= row("pidflock::read_pid_from", idle, move || must(pidflock::read_pid_from(path)))?;
    good &= row("pidflock::signal", idle, move || must(pidflock::signal(path, Signal::CHECK)))?;
    good &= row("pidflock::wait_released, in vain", idle, move || pidflock::wait_released(path, short).is_err())?;
    good &= row("Holder::find", idle, move || must(Holder::find(path)))?;
    let holder = Box::new(must(Holder::find(path)));
    good &= row("Holder::signal", idle, move || must(holder.signal(Signal::CHECK)))?;
    let holder = Box::new(must(Holder::find(path)));
    good &= row("Holder::wait, in vain", idle, move || holder.wait(short).is_err())?;
    let lock: &'static PidLock = Box::leak(Box::new(lock));
    good &= row("PidLock::restamp", idle, move || must(lock.restamp()))?;
    good &= row("PidLock::is_current", idle, move || must(lock.is_current()))?;
    good &= row("pidflock::read_pid", idle, move || must(pidflock::read_pid(lock)))?;
    good &= row("PidLock::pid", idle, move || lock.pid())?;

    let other: &'static str = format!("{path}.2").leak();
    let lock = Box::new(must(PidLock::acquire(other)));
    good &= row("PidLock::release", idle, move || must(lock.release()))?;
    let lock = Box::new(must(PidLock::acquire(other)));
    good &= row("PidLock::release_if_last", idle, move || must(lock.release_if_last(Wait::Never)))?;
    let lock = Box::new(must(PidLock::acquire(other)));
    good &= row("PidLock::disown", idle, move || lock.disown())?;
    let lock = Box::new(must(PidLock::acquire(other)));
    let fd: &'static Mutex<Option<OwnedFd>> = Box::leak(Box::new(Mutex::new(None)));
    good &= row("PidLock::hand_over", idle, move || {
        if let Ok(mut slot) = fd.lock() {
            *slot = Some(must(lock.hand_over()));
        }
    })?;
    let fd = fd.lock().ok().and_then(|mut fd| fd.take());
    good &= row("PidLock::adopt", idle, move || {
        if let Some(fd) = fd {
            drop(must(PidLock::adopt(fd, other)));
        }
    })?;
    good &= row("pidflock::wait_released", idle, move || must(pidflock::wait_released(other, Wait::Forever)))?;
    good &= row("Pid::parse", idle, || Pid::parse(b"4242\n"))?;
    good &= row("Signal::from_name", idle, || Signal::from_name("SIGHUP"))?;
    Ok(good)
}
