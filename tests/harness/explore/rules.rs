//! The properties, one function each, with the numbers and names of the list in the design.
//!
//! | | property | checked when |
//! |---|---|---|
//! | 1 | never two holders | a process believes that it holds the name, and says what `is_current` returned |
//! | 2 | a loser changes nothing | before each change of a file |
//! | 3 | after any death the next acquire succeeds | a process was refused; all have ended |
//! | 4 | no one deletes, empties or unlocks what is not theirs | before each unlink, after each unlock |
//! | 5 | the file reads as one whole PID or nothing | after each change of a file; all have ended |
//! | 6 | every failure is clear and leaves nothing | a process has ended; all have ended |
//! | 7 | nothing is written through a link, nothing hangs | not here: `tests/hostile_paths.rs` |
//! | 8 | a signal reaches the holder or nobody | before each signal |
//!
//! At most one call of one process is made to fail (`Scenario::fault`). For the rest of property 6, see
//! `tests/injected.rs`.
//!
//! A *window* is a change between a process's last look and its act. No system call combines the two, so the rules
//! allow exactly two windows, and count them.

use super::{
    book::View,
    history::Answer,
    run::Run,
    scenario::{CURRENT, DONE, ENTER, FAILED, NOT_CURRENT, REFUSED},
    steps::{Kind, Step, Thing},
};
use crate::support::End;

/// A property holds, or this is what breaks it.
pub type Verdict = Result<(), String>;

/// When a property is checked. The number is the place of a process.
#[derive(Clone, Copy)]
pub enum Moment<'a> {
    /// The process is about to make this step.
    Before(usize, &'a Step),
    /// The process has made this step, and has not run on.
    After(usize, &'a Step),
    /// The process has ended.
    Ended(usize, End),
    AllEnded,
}
use Moment::*;

/// 1. Never two holders of one name.
///
/// A process that removes the file without the lock can cause two. `is_current` must then tell each of them what is so.
fn property_1_never_two_holders(run: &mut dyn View, moment: Moment) -> Verdict {
    match moment {
        After(_, Step { kind: Kind::Mark(ENTER), .. }) => {
            let holders = run.book().noted.iter().filter(|process| process.in_section);
            let holders: Vec<&str> = holders.map(|process| &*process.name).collect();
            if holders.len() > 1 && !run.book().noted.iter().any(|process| process.rude) {
                return Err(format!("two holders: {}", holders.join(" and ")));
            }
            Ok(())
        }
        Before(place, Step { kind: Kind::Mark(code @ (CURRENT | NOT_CURRENT)), .. }) => {
            let process = &run.book().noted[place];
            if process.looked == Some(*code == CURRENT) {
                return Ok(());
            }
            Err(format!("{} is told the contrary of what is so by is_current", process.name))
        }
        _ => Ok(()),
    }
}

/// 2. A loser changes nothing: not a byte of the holder's file.
///
/// Stricter: a process writes to a file, or cuts it, only while it has the exclusive lock. An open with O_TRUNC comes
/// before any lock, so it must meet no content. An observer that has looked into /proc changes nothing that others see.
fn property_2_a_loser_changes_nothing(run: &mut dyn View, moment: Moment) -> Verdict {
    let Before(place, step) = moment else { return Ok(()) };
    let process = &run.book().noted[place];
    if process.only_reads
        && step.touched.iter().any(|(thing, changed)| *changed && is_shared(*thing))
        && step.kind != Kind::End
    {
        return Err(format!("{} has looked into /proc, and does more than read", process.name));
    }
    match step.kind {
        Kind::Change { inode } if process.locked != Some(inode) => {
            Err(format!("{} changes a file that it has not locked", process.name))
        }
        Kind::Truncate if run.named_content().is_some_and(|content| !content.is_empty()) => {
            Err(format!("{} truncates a file that it has not locked", process.name))
        }
        _ => Ok(()),
    }
}

fn is_shared(thing: Thing) -> bool {
    !matches!(thing, Thing::Descriptors(_) | Thing::Alive(_))
}

/// 3. After any death, the next acquire succeeds at once.
///
/// A process is refused only if another held the file when it last asked for a lock, exclusive or shared. Once all have
/// ended, the name is free.
fn property_3_after_any_death_the_next_acquire_succeeds(run: &mut dyn View, moment: Moment) -> Verdict {
    match moment {
        Ended(place, End::Exit(REFUSED))
            if !run.book().noted[place].refused_rightly && !run.book().noted[place].struck =>
        {
            Err(format!("{} was refused, and nobody held the name", run.book().noted[place].name))
        }
        AllEnded => {
            run.one_more().map_err(|met| format!("all have ended, and one more start and release end with {met}"))
        }
        _ => Ok(()),
    }
}

/// 4. No one deletes, empties or unlocks what is not theirs.
///
/// A process unlinks the name only while the file there is the one that it has locked, or if there is none. The window:
/// it looked and found its file, and then a rude process removed that file. Emptying is a change: see property 2.
fn property_4_no_one_deletes_or_unlocks_what_is_not_theirs(run: &mut dyn View, moment: Moment) -> Verdict {
    match moment {
        Before(place, Step { kind: Kind::Unlink, .. }) => {
            let (process, named) = (&run.book().noted[place], run.named());
            if process.rude || named.is_none() || named == process.locked || named == process.shared {
                return Ok(());
            }
            if process.looked == Some(true) && run.book().noted.iter().any(|process| process.rude) {
                run.book_mut().windows += 1;
                return Ok(());
            }
            Err(format!("{} removes a file that it has not locked", process.name))
        }
        After(place, Step { kind: Kind::Lock { inode, operation: libc::LOCK_UN }, call, .. }) => {
            let holds = |other: &usize| {
                let other_process = &run.book().noted[*other];
                *other != place && other_process.in_section && other_process.locked == Some(*inode)
            };
            let held = (0..run.book().noted.len()).any(|other| holds(&other));
            // The unlock freed the lock although another process, which shares the open file, needs it.
            if held && run.could_share(place, call.int(0)) {
                return Err(format!("{} unlocks what another holds", run.book().noted[place].name));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// 5. The file reads as one whole PID or nothing, at every instant.
///
/// The PID must be one of this scenario, or the number that the file had at the beginning.
fn property_5_the_file_reads_as_one_whole_pid_or_nothing(run: &mut dyn View, moment: Moment) -> Verdict {
    let content = match moment {
        After(place, Step { kind: Kind::Change { .. }, call, .. }) => run.content(place, call.int(0)),
        AllEnded => run.named_content().unwrap_or_default(),
        _ => return Ok(()),
    };
    let content = String::from_utf8_lossy(&content);
    let number = content.trim_end_matches('\n');
    let known = |number| run.stale() == Some(number) || run.book().noted.iter().any(|other| other.pid == number);
    if number.is_empty() || (content.len() > number.len() && number.parse().is_ok_and(known)) {
        return Ok(());
    }
    Err(format!("the file reads as {content:?}"))
}

/// 6. Every failure of every call gives one clear error, and leaves no lock and no half-made file.
///
/// No call fails unless another process causes it, or it is made to fail. So each process must succeed, be refused, or
/// be killed; one with such a fault may fail, and leave a file behind.
fn property_6_every_failure_is_clear_and_leaves_nothing(run: &mut dyn View, moment: Moment) -> Verdict {
    let any_struck = run.book().noted.iter().any(|process| process.struck);
    match moment {
        Ended(_, End::Exit(DONE | REFUSED) | End::Signal(_)) => Ok(()),
        Ended(place, End::Exit(FAILED)) if run.book().noted[place].struck => Ok(()),
        Ended(place, end) => Err(format!("{} ended with {end:?}", run.book().noted[place].name)),
        AllEnded if run.scenario().leaves_nothing && !any_struck && run.named().is_some() => {
            Err("all have ended, and the file is still there".into())
        }
        _ => Ok(()),
    }
}

/// 8. A signal reaches the holder or nobody.
///
/// The target is dead or holds the file that has the name. The window: the target held the file when the sender last
/// asked for the lock, and has released since.
fn property_8_a_signal_reaches_the_holder_or_nobody(run: &mut dyn View, moment: Moment) -> Verdict {
    let Before(place, Step { kind: Kind::Signal { target }, .. }) = moment else { return Ok(()) };
    let Some(hit) = run.book().noted.iter().find(|other| other.pid == *target && other.lives()) else {
        return Ok(());
    };
    if hit.locked.is_some() && hit.locked == run.named() {
        return Ok(());
    }
    if run.book().noted[place].refused_by.contains(target) {
        run.book_mut().windows += 1;
        return Ok(());
    }
    Err(format!("{} signals a process that does not hold the name", run.book().noted[place].name))
}

pub fn check(run: &mut dyn View, moment: Moment) -> Verdict {
    property_1_never_two_holders(run, moment)?;
    property_2_a_loser_changes_nothing(run, moment)?;
    property_4_no_one_deletes_or_unlocks_what_is_not_theirs(run, moment)?;
    property_5_the_file_reads_as_one_whole_pid_or_nothing(run, moment)?;
    property_6_every_failure_is_clear_and_leaves_nothing(run, moment)?;
    property_8_a_signal_reaches_the_holder_or_nobody(run, moment)?;
    // Last, because it takes the name itself, and removes the file, once all have ended.
    property_3_after_any_death_the_next_acquire_succeeds(run, moment)
}

/// Lets a process make its next step, and checks the properties before and after it. Returns what the call has told it,
/// if that is known, and the descriptor that it returned.
pub fn checked_step(run: &mut Run, place: usize) -> Result<Option<(Answer, Option<i32>)>, String> {
    let step = run.take_step(place);
    let before = check(run, Before(place, &step));
    let mut made = run.make(place, &step);
    before?; // only now, so that the story includes the step
    run.note(place, &step, made.result);
    check(run, After(place, &step))?;
    let fd = match step.kind {
        Kind::Open | Kind::Truncate => Some(made.result),
        Kind::AskLife { .. } if step.call.number == libc::SYS_pidfd_open => Some(made.result),
        _ => None,
    };
    let fd = fd.filter(|fd| *fd >= 0).map(|fd| fd as i32);
    let told = made.answer.take().map(|answer| (answer, fd));
    run.go_on(place, &step, made);
    if let Some(end) = run.book().noted[place].end {
        check(run, Ended(place, end))?;
    }
    Ok(told)
}

/// Checks the properties once no process can make a step. Processes that have not ended then wait for each other.
pub fn check_end(run: &mut dyn View) -> Verdict {
    if run.book().noted.iter().any(|process| process.lives() && !process.only_reads) {
        return Err("wedged: nobody can go on".into());
    }
    check(run, AllEnded)
}
