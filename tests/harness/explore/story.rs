//! The printed table of one order, for a person to follow.

use super::{
    book::View,
    rules::checked_step,
    run::{Line, Run},
    scenario::Scenario,
};
use crate::harness::trace::Forker;
use std::fmt::Write as _;

/// What is wrong, then the schedule that leads there: a line per step, a column per process. Runs the schedule once
/// more, to see what each call returned.
pub fn tell(scenario: &Scenario, forker: &mut Forker, schedule: &[usize], wrong: &str) -> String {
    let mut run = Run::new(scenario, forker, true);
    let again = schedule.iter().try_for_each(|place| checked_step(&mut run, *place).map(drop));
    let mut text = format!("{}\n\n", again.err().unwrap_or_else(|| wrong.into()));
    for (number, Line { place, what, result }) in run.log.iter().flatten().enumerate() {
        let (indent, name) = (" ".repeat(place * 24), &run.book().noted[*place].name);
        let _ = writeln!(text, "{:>4}  {indent}{name}: {what} {}", number + 1, result.map_or(String::new(), returned));
    }
    text
}

fn returned(result: i64) -> String {
    match i32::try_from(-result) {
        Ok(errno @ 1..=4095) => format!("-> {}", std::io::Error::from_raw_os_error(errno)),
        _ => format!("-> {result}"),
    }
}
