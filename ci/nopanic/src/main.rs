//! Calls every public function of the library, with values that the optimiser cannot know. The panic handler calls a
//! function which does not exist: if any panic can be reached, this does not link. It is never run.
//!
//! `ci/nopanic/run` builds it and compares: every `pub fn` in src, and every method of a `pub trait`, must be here as
//! `Type::name` or `pidflock::name`. So write each call in that form.
//!
//! `Display` and `Debug` are called, too, except `Debug` of `Wait`, and so of `Options`. It is the one of
//! `core::time::Duration`, which contains a panic in the precompiled core.
#![no_std]
#![no_main]

use core::{
    error,
    ffi::{CStr, c_char, c_int},
    fmt,
    hint::black_box,
    time::Duration,
};
use pidflock::{
    AsFd, AsPath, AsRawFd, BorrowedFd, Call, Errno, Error, FromRawFd, Holder, IntoRawFd, InvalidPid, InvalidSignal,
    Options, OwnedFd, Pid, PidLock, Signal, State, Wait,
};

#[link(name = "c")]
unsafe extern "C" {}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: the C library calls this with the arguments of the program; the first is its name.
    let argument = unsafe { *arguments };
    // SAFETY: an argument is a string that lives as long as the program.
    let path = unsafe { CStr::from_ptr(argument) };
    with(path, path, count);
    with(path.to_bytes(), path, count);
    with(core::str::from_utf8(path.to_bytes()).unwrap_or_default(), path, count);
    if let Some(bytes) = path.to_bytes().first_chunk::<8>() {
        with(bytes, path, count);
    }
    black_box(Errno::last_os_error());
    0
}

/// Calls everything with a path of one type, some bytes and a number.
fn with(path: impl AsPath + Copy, text: &CStr, number: c_int) {
    lock(path, number);
    outside(path, text, number);
    numbers(text.to_bytes(), number);
}

fn lock(path: impl AsPath + Copy, number: c_int) {
    kept(PidLock::acquire(path).and_then(PidLock::release));
    let mut options = Options::mode(PidLock::options(), number.unsigned_abs());
    options = Options::create_parents(options, black_box(true));
    options = Options::sync(options, black_box(true));
    options = Options::remove_on_release(options, black_box(true));
    options = Options::wait(options, wait(number));
    match Options::acquire(options, path) {
        Err(error) => words(error),
        Ok(lock) => {
            kept(PidLock::restamp(&lock));
            kept(PidLock::is_current(&lock));
            kept(pidflock::read_pid(&lock));
            kept(pidflock::read_pid(AsFd::as_fd(&lock)));
            black_box((PidLock::pid(&lock), AsRawFd::as_raw_fd(&lock)));
            print(format_args!("{lock:?}"));
            if let Some(fd) = kept(PidLock::hand_over(lock)) {
                descriptors(&fd);
                kept(PidLock::adopt(fd, path).map(PidLock::disown));
            }
        }
    }
    if let Some(fd) = kept(Options::acquire(options, path).and_then(PidLock::hand_over)) {
        kept(Options::adopt(options, fd, path).and_then(|lock| PidLock::release_if_last(lock, wait(number))));
    }
    // Dropped whole, not after fields were moved out.
    kept(Options::acquire(options, path).map(drop));
}

fn descriptors(fd: &OwnedFd) {
    kept(pidflock::read_pid(AsFd::as_fd(fd)));
    let number = AsRawFd::as_raw_fd(&AsFd::as_fd(fd));
    // SAFETY: it is open for as long as `fd` is.
    let same = unsafe { BorrowedFd::borrow_raw(AsRawFd::as_raw_fd(fd)) };
    kept(pidflock::read_pid(same));
    // SAFETY: this program is not run.
    let copy: OwnedFd = unsafe { FromRawFd::from_raw_fd(number) };
    black_box(IntoRawFd::into_raw_fd(copy));
}

fn outside(path: impl AsPath + Copy, name: &CStr, number: c_int) {
    if let Some(state) = kept(pidflock::probe(path)) {
        print(format_args!("{state} {state:?}"));
        print(format_args!("{}", State::message(state)));
    }
    kept(pidflock::read_pid_from(path));
    kept(pidflock::sharers(path, &mut [None; 2]));
    kept(pidflock::survivor(path));
    kept(pidflock::wait_released(path, wait(number)));
    let by_name = name.to_str().ok().and_then(Signal::from_name).or_else(|| Signal::parse(name.to_bytes()));
    for signal in by_name.into_iter().chain(Signal::from_raw(number)) {
        kept(pidflock::signal(path, signal));
        black_box(Signal::as_raw(signal));
        print(format_args!("{signal} {signal:?}"));
        if let Some(holder) = kept(Holder::find(path)) {
            kept(Holder::signal(&holder, signal));
            kept(Holder::wait(&holder, wait(number)));
            black_box(Holder::pid(&holder));
            print(format_args!("{holder:?}"));
        }
    }
}

fn numbers(text: &[u8], number: c_int) {
    for pid in Pid::parse(text).into_iter().chain(Pid::new(number)) {
        black_box((Pid::get(pid), Pid::as_u32(pid), pid.cmp(&Pid::INIT), pid == Pid::INIT));
        black_box((i32::from(pid), u32::from(pid), Pid::as_raw(pid), Pid::from_raw(number)));
        print(format_args!("{pid} {pid:?}"));
    }
    let _ = black_box((Pid::try_from(number), Pid::try_from(number.unsigned_abs())));
    print(format_args!("{InvalidPid} {InvalidPid:?} {InvalidSignal} {InvalidSignal:?}"));
    if let Ok(text) = core::str::from_utf8(text) {
        let _ = black_box((text.parse::<Pid>(), text.parse::<Signal>()));
    }
    let errno = Errno::from_raw(number);
    print(format_args!("{}", Errno::message(errno)));
    black_box((Errno::as_raw(errno), i32::from(errno)));
    for constant in [Signal::CHECK, Signal::HUP, Signal::INT, Signal::KILL, Signal::QUIT, Signal::TERM, Signal::USR1] {
        black_box((constant, constant.cmp(&Signal::USR2), Pid::INIT, Pid::MAX));
    }
}

fn wait(number: c_int) -> Wait {
    let time = Duration::from_secs(black_box(1)).saturating_add(Duration::from_nanos(black_box(1)));
    match number {
        1 => Wait::Never,
        2 => Wait::Forever,
        _ => Wait::For(time),
    }
}

/// The value, if there is one. Calls everything that an error has.
fn kept<T>(result: Result<T, Error>) -> Option<T> {
    black_box(result).map_err(words).ok()
}

fn words(error: Error) {
    let error = black_box(error);
    print(format_args!("{error} {error:?}"));
    let object: &dyn error::Error = black_box(&error);
    print(format_args!("{object}"));
    print(format_args!("{}", Error::message(error)));
    black_box(Error::raw_os_error(error));
    if let Error::Sys { call, .. } = error {
        black_box(Call::name(call));
        print(format_args!("{call} {call:?}"));
    }
    if let Some(errno) = Error::errno(error) {
        black_box(Errno::as_raw(errno));
        print(format_args!("{errno} {errno:?}"));
    }
}

struct Sink;

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        black_box(text);
        Ok(())
    }
}

fn print(text: fmt::Arguments<'_>) {
    let _a_sink_takes_all = fmt::write(&mut Sink, text);
}

/// Never linked in a release build. In a development build, which checks arithmetic, it loops.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(not(debug_assertions))]
    {
        unsafe extern "C" {
            safe fn a_panic_can_be_reached() -> !;
        }
        a_panic_can_be_reached()
    }
    #[cfg(debug_assertions)]
    loop {}
}
