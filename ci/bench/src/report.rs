//! The output: one table, and a line for every promise that says whether it was met.

use crate::stats::{Quartiles, quantile, quartiles, ratios};
use std::fmt::Write;

pub struct Row {
    pub what: String,
    /// The file system.
    pub place: String,
    pub who: String,
    pub measured: Quartiles,
    pub unit: &'static str,
    /// Over the base of the comparison.
    pub ratio: Option<Quartiles>,
    pub calls: Option<usize>,
    pub instructions: Option<u64>,
    pub remark: String,
}

#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
    verdicts: Vec<Verdict>,
}

struct Verdict {
    what: String,
    measured: f64,
    most: f64,
}

impl Report {
    /// A row of nanoseconds, shown as microseconds.
    pub fn time(&mut self, what: &str, place: &str, who: &str, samples: &[f64], base: Option<&[f64]>) -> &mut Row {
        let microseconds: Vec<f64> = samples.iter().map(|nanoseconds| nanoseconds / 1e3).collect();
        self.row(what, place, who, &microseconds, "µs", base.map(|base| ratios(samples, base)))
    }

    pub fn row(
        &mut self,
        what: &str,
        place: &str,
        who: &str,
        samples: &[f64],
        unit: &'static str,
        ratios: Option<Vec<f64>>,
    ) -> &mut Row {
        let row = Row {
            what: what.into(),
            place: place.into(),
            who: who.into(),
            measured: quartiles(samples),
            unit,
            ratio: ratios.map(|ratios| quartiles(&ratios)),
            calls: None,
            instructions: None,
            remark: String::new(),
        };
        eprintln!("{}", line(&row));
        self.rows.push(row);
        self.rows.last_mut().expect("just pushed")
    }

    pub fn find(&mut self, what: &str, place: &str, who: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| (row.what.as_str(), row.place.as_str(), row.who.as_str()) == (what, place, who))
    }

    /// A promise that a number is at most `most`.
    pub fn promise(&mut self, what: impl Into<String>, measured: f64, most: f64) {
        self.verdicts.push(Verdict { what: what.into(), measured, most });
    }

    /// A promise that the median of these ratios is at most `most`.
    pub fn promise_ratio(&mut self, what: impl Into<String>, samples: &[f64], base: &[f64], most: f64) {
        self.promise(what, quantile(&ratios(samples, base), 50), most);
    }

    /// Prints everything, and returns whether all promises were met.
    pub fn print(&self) -> bool {
        println!("| what | where | who | median | quartiles | ratio | quartiles | calls | instructions | |");
        println!("|---|---|---|--:|--:|--:|--:|--:|--:|---|");
        self.rows.iter().for_each(|row| println!("{}", line(row)));
        println!();
        for Verdict { what, measured, most } in &self.verdicts {
            if measured <= most {
                println!("met: {what}: {measured:.3}, at most {most}");
            } else {
                println!("missed: {what}: {measured:.3}, at most {most}");
            }
        }
        self.verdicts.iter().all(|verdict| verdict.measured <= verdict.most)
    }
}

fn line(row: &Row) -> String {
    let [low, median, high] = row.measured.map(number);
    let mut line = format!("| {} | {} | {} | {median} {} | {low}–{high} |", row.what, row.place, row.who, row.unit);
    let written = match row.ratio {
        Some([low, median, high]) => write!(line, " {median:.3} | {low:.3}–{high:.3} |"),
        None => write!(line, " | |"),
    };
    written.expect("a string");
    let calls = row.calls.map(|calls| calls.to_string()).unwrap_or_default();
    let instructions = row.instructions.map(|instructions| instructions.to_string()).unwrap_or_default();
    line + &format!(" {calls} | {instructions} | {} |", row.remark)
}

/// With three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
