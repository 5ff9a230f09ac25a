//! Medians and quartiles.

/// First quartile, median, third quartile.
pub type Quartiles = [f64; 3];

pub fn quartiles(samples: &[f64]) -> Quartiles {
    [25, 50, 75].map(|percent| quantile(samples, percent))
}

/// The smallest sample that this percentage does not exceed.
pub fn quantile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// Round by round, because other work on the machine slows both of a round.
pub fn ratios(samples: &[f64], base: &[f64]) -> Vec<f64> {
    samples.iter().zip(base).map(|(sample, base)| sample / base).collect()
}
