//! What is measured in turns, on a machine that other things slow down for a while: medians, what it is at full speed, and ratios of what
//! was measured in the same round.

use serde::Serialize;

/// Nanoseconds a packet of time or of processor time, a figure for each round.
#[derive(Default)]
pub(super) struct Turns(Vec<f64>);

/// One part of two, by time: 0.9 is that it takes the other one 0.9 of the time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ratio {
    /// Of both at full speed.
    pub(super) fast: f64,
    /// Of the rounds' ratios, the median and the quarters below and above.
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Turns {
    pub(super) fn push(&mut self, ns: f64) {
        self.0.push(ns);
    }

    pub(super) fn median(&self) -> f64 {
        quantile(&sorted(self.0.clone()), 0.5)
    }

    /// At full speed: the mean of the fastest quarter of all turns.
    pub(super) fn fast(&self) -> f64 {
        let mut fastest = sorted(self.0.clone());
        fastest.truncate(fastest.len().div_ceil(4));
        fastest.iter().sum::<f64>() / fastest.len() as f64
    }

    /// How much of the time the other one takes, which had its turns in the same rounds.
    pub(super) fn ratio(&self, other: &Self) -> Ratio {
        let rounds = other.0.iter().zip(&self.0);
        let ratios = sorted(rounds.map(|(other, own)| other / own).collect());
        Ratio {
            fast: other.fast() / self.fast(),
            median: quantile(&ratios, 0.5),
            low: quantile(&ratios, 0.25),
            high: quantile(&ratios, 0.75),
        }
    }
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((last * part).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::Turns;

    /// A machine that is half as fast in every other round changes neither what a program takes at full speed nor its part of another one.
    #[test]
    fn what_slows_down_a_round_is_seen_through() {
        let rounds = |ns: f64| {
            let slow = (0..20).map(|round| if round % 2 == 0 { ns } else { 2.0 * ns });
            Turns(slow.collect())
        };
        let (limit, own) = (rounds(90.0), rounds(100.0));
        let ratio = own.ratio(&limit);
        let parts = [ratio.fast, ratio.low, ratio.median, ratio.high];
        assert!(
            parts.iter().all(|part| (part - 0.9).abs() < 1e-9),
            "{parts:?}"
        );
        assert!((own.fast() - 100.0).abs() < 1e-9);
    }
}
