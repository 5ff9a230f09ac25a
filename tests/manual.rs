//! The command, its `--help`, its manual page and the README name the same subcommands, options and exit codes.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::pidflock;

const MANUAL: &str = include_str!("../doc/pidflock.1");
const README: &str = include_str!("../README.md");
const MESSAGES: &str = include_str!("../doc/messages.md");

const SUBCOMMANDS: [&str; 5] = ["run", "status", "signal", "stop", "wait"];

fn help() -> String {
    String::from_utf8(pidflock().arg("--help").output().unwrap().stdout).unwrap()
}

/// The text after one line and before another.
fn between<'a>(text: &'a str, after: &str, before: &str) -> &'a str {
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("{after:?} is missing"));
    rest.split_once(before).map_or(rest, |(part, _)| part)
}

/// A section of the manual page.
fn section(name: &str) -> &'static str {
    between(MANUAL, &format!(".Sh {name}\n"), ".Sh ")
}

/// One line of the manual page as it is shown: `.Op Fl t Ar seconds` is `[-t seconds]`.
fn shown(line: &str) -> String {
    let mut words = vec![];
    let (mut option, mut dashes) = (false, String::new());
    for word in line.trim_start_matches('.').split(' ') {
        match word {
            "Op" => option = true,
            "Fl" => dashes.push('-'),
            "It" | "Nm" | "Cm" | "Ar" => {}
            word => words.push(std::mem::take(&mut dashes) + word),
        }
    }
    let text = words.join(" ");
    if option { format!("[{text}]") } else { text }
}

/// Every synopsis of a text, `pidflock SUBCOMMAND ...`, in lower case and without blanks. A line with the indentation of the
/// options continues the one before.
fn synopses(text: &str) -> BTreeSet<String> {
    let text = text.replace("\n             ", " ");
    let lines = text.lines().filter_map(|line| line.trim_start_matches("usage:").trim().strip_prefix("pidflock "));
    let known = lines.filter(|line| line.contains("PIDFILE") && SUBCOMMANDS.iter().any(|name| line.starts_with(name)));
    known.map(|line| line.to_lowercase().replace(' ', "")).collect()
}

/// An option's letter, and the name of its value.
type Options = BTreeMap<char, Option<String>>;

/// The options of a list, one an item: `-t SECONDS`.
fn options<'a>(items: impl Iterator<Item = &'a str>) -> Options {
    let option = |item: &'a str| {
        let mut words = item.split([' ', ',']);
        let mut letters = words.next()?.strip_prefix('-')?.chars();
        let letter = letters.next().filter(|_| letters.next().is_none())?;
        Some((letter, words.next().filter(|word| word.starts_with(char::is_alphabetic)).map(str::to_lowercase)))
    };
    items.filter_map(option).collect()
}

/// The behaviour of the command: the subcommands that accept an option, and the options that need a value.
fn behaviour() -> (BTreeMap<char, BTreeSet<&'static str>>, BTreeSet<char>) {
    let (mut known, mut valued) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for name in SUBCOMMANDS {
        for letter in ('a'..='z').chain('A'..='Z').chain('0'..='9') {
            let output = pidflock().args([name, &format!("-{letter}")]).output().unwrap();
            let answer = String::from_utf8(output.stderr).unwrap();
            if output.status.success() || !answer.contains("unknown option") {
                known.entry(letter).or_default().insert(name);
            }
            if answer.contains("requires a value") {
                valued.insert(letter);
            }
        }
    }
    (known, valued)
}

/// The separate numbers in a text.
fn numbers(text: &str) -> BTreeSet<i32> {
    text.split(|character: char| !character.is_alphanumeric()).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_synopsis_is_the_same_everywhere() {
    let manual: String = section("SYNOPSIS").lines().fold(String::new(), |text, line| {
        text + if line == ".Nm" { "\npidflock" } else { " " } + &shown(line).replace("pidfile", "PIDFILE")
    });
    let expected = synopses(&help());
    assert_eq!(expected.len(), SUBCOMMANDS.len());
    assert_eq!(synopses(&manual), expected, "the manual page");
    assert_eq!(synopses(README), expected, "the README");
}

#[test]
fn every_option_is_explained_with_its_value_and_its_subcommands() {
    let help = help();
    let (known, valued) = behaviour();
    let list = between(section("OPTIONS"), ".Bl", ".El");
    let shown: Vec<String> = list.lines().filter(|line| line.starts_with(".It")).map(shown).collect();
    let manual = options(shown.iter().map(String::as_str));
    assert_eq!(options(help.lines().flat_map(|line| line.split("; "))), manual, "--help, and the manual page");

    // -h is an option of every subcommand, and -V of none.
    let letters: BTreeSet<char> = manual.keys().copied().filter(|letter| *letter != 'V').collect();
    assert_eq!(letters, known.keys().copied().collect(), "the manual page, and the command");
    let with_value: BTreeSet<char> = manual.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| *key).collect();
    assert_eq!(with_value, valued, "the manual page, and the command");

    for item in list.split(".It Fl ").skip(1) {
        let letter = item.chars().next().unwrap();
        let Some(names) = item.lines().find_map(|line| line.strip_prefix(".Pq Cm ")) else {
            assert!(matches!(letter, 'h' | 'V'), "-{letter}: of which subcommands?");
            continue;
        };
        assert_eq!(names.split(" , ").collect::<BTreeSet<_>>(), known[&letter], "-{letter}");
    }
}

#[test]
fn the_readme_uses_only_options_that_exist() {
    let (known, _) = behaviour();
    let calls = README.lines().filter_map(|line| line.split_once("pidflock "));
    for (_, call) in calls {
        let mut words = call.split_whitespace();
        let Some(name) = words.next().filter(|word| SUBCOMMANDS.contains(word)) else { continue };
        for word in words.take_while(|word| word.starts_with('-') || !word.contains('/')) {
            if let Some(letters) = word.strip_prefix('-') {
                let letter = letters.chars().next().unwrap();
                assert!(known.get(&letter).is_some_and(|names| names.contains(name)), "{call}");
            }
        }
    }
}

#[test]
fn the_exit_codes_are_the_same_everywhere() {
    let help = help();
    let all = [0, 64, 71, 75, 126, 127];
    let of_status = [0, 1, 3, 4];

    let (text, status) = between(&help, "\nexit:", "\0").split_once("status:").unwrap();
    assert_eq!(numbers(text), all.into(), "--help");
    assert_eq!(numbers(status), of_status.into(), "--help");

    let items = |text: &str| -> BTreeSet<i32> {
        text.lines().filter_map(|line| line.strip_prefix(".It ")?.parse().ok()).collect()
    };
    let (text, status) = section("EXIT \\&STATUS").split_once(".Ss ").unwrap();
    assert_eq!(items(text), BTreeSet::from(all), "the manual page");
    assert_eq!(items(status), BTreeSet::from(of_status), "the manual page");

    let table = between(README, "\n| exit code |", "\n\n");
    let (status, rows): (Vec<_>, Vec<_>) =
        table.lines().filter_map(|row| row.split('|').nth(1)).partition(|cell| cell.contains("`status`"));
    assert_eq!(numbers(&rows.join(" ")), all.into(), "the README");
    assert_eq!(numbers(&status.join(" ")), of_status.into(), "the README");

    // tests/messages.rs makes every code of this table happen.
    let seen =
        between(MESSAGES, "| exit code |", "\n## System calls").lines().filter_map(|row| row.split(" | ").nth(1));
    let seen: BTreeSet<i32> = seen.flat_map(numbers).collect();
    assert_eq!(seen, all.into_iter().chain(of_status).collect(), "doc/messages.md");
}
