//! For any content of a file, the claim is what a second parser finds, and only the first 64 bytes count.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pidflock::Pid;

/// A regular expression by hand, one state after the other: `[ \t]*[0-9]+[ \t\r]*(\n|\0|end)`. If the first 64
/// bytes contain no newline or NUL, the line may go on, and there is no claim. The number is in 1..=2147483647.
fn reference(text: &[u8]) -> Option<i32> {
    #[derive(PartialEq)]
    enum State {
        Before,
        Digits,
        After,
        Newline,
    }
    let mut state = State::Before;
    let mut number: u128 = 0;
    for (index, byte) in text.iter().enumerate() {
        if index == 64 {
            break;
        }
        state = match (state, byte) {
            (State::Newline, _) => State::Newline,
            (State::Before, b' ' | b'\t') => State::Before,
            (State::Before | State::Digits, b'0'..=b'9') => {
                number = number.saturating_mul(10).saturating_add(u128::from(byte - b'0'));
                State::Digits
            }
            (State::Digits | State::After, b' ' | b'\t' | b'\r') => State::After,
            (State::Digits | State::After, b'\n' | b'\0') => State::Newline,
            _ => return None,
        };
    }
    let complete = state == State::Newline || (matches!(state, State::Digits | State::After) && text.len() < 64);
    if complete && (1..=2_147_483_647).contains(&number) { i32::try_from(number).ok() } else { None }
}

fuzz_target!(|text: &[u8]| {
    let claim = Pid::parse(text);
    assert_eq!(claim.map(Pid::get), reference(text));
    if let Some(pid) = claim {
        assert!(pid.get() >= 1);
        assert_eq!(pid.as_u32(), pid.get().unsigned_abs());
        // The crate reads what it writes.
        assert_eq!(Pid::parse(format!("{pid}\n").as_bytes()), claim);
    }
    // Only the first 64 bytes count: anything or nothing may follow.
    if let Some(head) = text.get(..64) {
        assert_eq!(Pid::parse(head), claim);
        assert_eq!(Pid::parse(&[head, b"\n77\n"].concat()), claim);
    }
});
