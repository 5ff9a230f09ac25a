//! How the cost of a cycle grows with the number of names, beside the safe floor, whose cost grows with the kernel's.

use crate::{
    Effort,
    process::pinned,
    report::Report,
    runner::{Variant, interleave},
    works::{PIDFLOCK, SAFE, Subject},
};

/// Measures all sizes of both in one run.
pub fn measure(report: &mut Report, effort: &Effort, place: &str, directory: &str, what: &str, sizes: &[u32]) {
    let subjects = sizes.iter().map(|size| Subject::new(what, directory, *size));
    let samples = pinned(|| {
        let mut variants: Vec<Variant> = subjects.flat_map(|subject| pair(&subject)).collect();
        interleave(&mut variants, effort.seconds(8.0))
    });
    for (size, samples) in sizes.iter().zip(samples.chunks(2)) {
        let label = format!("{what} {size}");
        report.time(&label, place, SAFE, &samples[0], None);
        report.time(&label, place, PIDFLOCK, &samples[1], Some(&samples[0]));
        report.promise_ratio(format!("cycle, {label}, {place}, over the safe floor"), &samples[1], &samples[0], 1.03);
    }
}

/// The safe floor and pidflock, each in a separate process if the state belongs to the process.
fn pair(subject: &Subject) -> Vec<Variant> {
    if subject.what == "held" {
        return [SAFE, PIDFLOCK].map(|name| Variant::apart(name, subject.serving(name))).into();
    }
    subject.variants()
}
